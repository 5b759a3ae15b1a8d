// SPDX-License-Identifier: Apache-2.0
// Lists of revoked certificates (RFC 5280 5), read from a file. The file is believed as it stands, as the file of roots is: who could
// put a list there could put a root there. A list that says more than "these are revoked" is refused rather than half understood.

import { type Result, err, ok } from '../result.ts'
import { children, type Element } from './der.ts'

/** What one authority has revoked. */
export interface RevocationList {
  /** The issuer's name as DER, in hexadecimal. */
  readonly issuer: string
  /** Serial numbers in hexadecimal, without leading zeros. */
  readonly serials: readonly string[]
  /** When the issuer means to have told a newer one, in milliseconds since the epoch; undefined when it does not say. */
  readonly nextUpdateMs: number | undefined
}

const SEQUENCE = 0x30
const INTEGER = 0x02
const OBJECT_IDENTIFIER = 0x06
const BOOLEAN = 0x01
const UTC_TIME = 0x17
const GENERALIZED_TIME = 0x18
/** TBSCertificate.version and TBSCertList.crlExtensions: [0] EXPLICIT. */
const CONTEXT_0 = 0xa0
const PEM_BLOCK = /-----BEGIN X509 CRL-----([A-Za-z0-9+/=\s]*)-----END X509 CRL-----/g
const PEM_BEGIN = /-----BEGIN [A-Z0-9 ]+-----/g

/** Reads PEM, or DER of one list or several in a row; the error says what is wrong with which. */
export function readRevocationLists(bytes: Uint8Array): Result<readonly RevocationList[], string> {
  const found = listsOf(bytes)
  if (!found.ok) return found
  const lists: RevocationList[] = []
  for (const [index, content] of found.value.entries()) {
    const list = readList(content)
    if (!list.ok) return err(`list ${index + 1} of ${found.value.length}: ${list.error}`)
    lists.push(list.value)
  }
  return ok(lists)
}

/** Issuer and serial number of a certificate in DER, as lists have them; undefined when it cannot be read. */
export function issuerAndSerial(
  der: Uint8Array,
): { readonly issuer: string; readonly serial: string } | undefined {
  const [certificate] = children(der) ?? []
  const [tbs] = certificate?.tag === SEQUENCE ? (children(certificate.content) ?? []) : []
  const fields = tbs?.tag === SEQUENCE ? children(tbs.content) : undefined
  const [serial, , issuer] = (fields ?? []).filter(({ tag }, at) => at > 0 || tag !== CONTEXT_0)
  if (serial?.tag !== INTEGER || issuer?.tag !== SEQUENCE) return undefined
  return { issuer: hex(issuer.content), serial: serialText(serial.content) }
}

/** The contents of the outermost sequences. */
function listsOf(bytes: Uint8Array): Result<readonly Uint8Array[], string> {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
  const begun = text.match(PEM_BEGIN)?.length ?? 0
  if (begun === 0) {
    const elements = children(bytes)
    if (elements === undefined || elements.length === 0)
      return err('it is neither PEM of X509 CRL nor DER')
    return ok(elements.map(({ content }) => content))
  }
  const blocks = [...text.matchAll(PEM_BLOCK)].map(([, base64 = '']) => base64)
  // A block that is cut off, or something else among them, is not passed over: it may be the list that matters.
  if (blocks.length !== begun) return err('not all of it is PEM of X509 CRL')
  const contents: Uint8Array[] = []
  for (const block of blocks) {
    const elements = children(Buffer.from(block, 'base64'))
    const [only] = elements ?? []
    if (elements?.length !== 1 || only === undefined) return err('a block is not one DER sequence')
    contents.push(only.content)
  }
  return ok(contents)
}

function readList(content: Uint8Array): Result<RevocationList, string> {
  const [tbs, ...signature] = children(content) ?? []
  const fields = tbs?.tag === SEQUENCE ? children(tbs.content) : undefined
  if (fields === undefined || signature.length !== 2) return err('is not a certificate list')
  // version OPTIONAL, signature, issuer, thisUpdate, nextUpdate OPTIONAL, revokedCertificates OPTIONAL, [0] crlExtensions OPTIONAL.
  const rest = fields[0]?.tag === INTEGER ? fields.slice(1) : fields
  const [algorithm, issuer, thisUpdate, ...after] = rest
  if (algorithm?.tag !== SEQUENCE || issuer?.tag !== SEQUENCE || !isTime(thisUpdate))
    return err('is not a certificate list')
  const nextUpdate = isTime(after[0]) ? after.shift() : undefined
  const revoked = after[0]?.tag === SEQUENCE ? after.shift() : undefined
  const extensions = after[0]?.tag === CONTEXT_0 ? after.shift() : undefined
  if (after.length > 0) return err('has a field that is not known')
  if (extensions !== undefined && hasCritical(children(extensions.content)?.[0]))
    return err('is a delta, indirect or partial list (critical extension), which is not supported')
  const entries = revoked === undefined ? [] : children(revoked.content)
  if (entries === undefined) return err('its entries are malformed')
  const serials: string[] = []
  for (const entry of entries) {
    const [serial, date, entryExtensions] =
      entry.tag === SEQUENCE ? (children(entry.content) ?? []) : []
    if (serial?.tag !== INTEGER || !isTime(date)) return err('an entry is malformed')
    // RFC 5280 5.3.3: a certificate issuer in an entry makes the list an indirect one.
    if (entryExtensions !== undefined && hasCritical(entryExtensions))
      return err('an entry has a critical extension, which is not supported')
    serials.push(serialText(serial.content))
  }
  return ok({
    issuer: hex(issuer.content),
    serials,
    nextUpdateMs: nextUpdate && timeOf(nextUpdate),
  })
}

/** Whether a sequence of extensions has one that must be understood; what cannot be read counts as such. */
function hasCritical(extensions: Element | undefined): boolean {
  const list = extensions?.tag === SEQUENCE ? children(extensions.content) : undefined
  if (list === undefined) return true
  return list.some((extension) => {
    const [oid, critical] = extension.tag === SEQUENCE ? (children(extension.content) ?? []) : []
    if (oid?.tag !== OBJECT_IDENTIFIER) return true
    return critical?.tag === BOOLEAN && critical.content.some((byte) => byte !== 0)
  })
}

function isTime(element: Element | undefined): element is Element {
  return element?.tag === UTC_TIME || element?.tag === GENERALIZED_TIME
}

/** RFC 5280 4.1.2.5: always in seconds and Z; of two digits, years from 50 are of the last century. */
function timeOf({ tag, content }: Element): number | undefined {
  const text = Buffer.from(content).toString('latin1')
  const whole =
    tag === GENERALIZED_TIME ? text : `${Number(text.slice(0, 2)) < 50 ? '20' : '19'}${text}`
  const iso = whole.replace(/^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z')
  const time = Date.parse(iso)
  return Number.isNaN(time) ? undefined : time
}

function serialText(content: Uint8Array): string {
  return hex(content).replace(/^0+(?=.)/, '')
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')
}
