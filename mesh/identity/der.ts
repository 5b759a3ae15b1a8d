// SPDX-License-Identifier: Apache-2.0
// Just enough DER to find what a peer's certificate is and names (URI SANs, basic constraints, key usage), strictly: definite lengths in their shortest form, no bytes left
// over. Hot: runs in each handshake, where a general ASN.1 parser costs as much as the handshake itself.

import { type Result, err, ok } from '../result.ts'

export interface Element {
  readonly tag: number
  readonly content: Uint8Array
}

const SEQUENCE = 0x30
const OBJECT_IDENTIFIER = 0x06
const OCTET_STRING = 0x04
/** TBSCertificate.extensions: [3] EXPLICIT. RFC 5280 4.1. */
const EXTENSIONS = 0xa3
/** GeneralName.uniformResourceIdentifier: [6] IMPLICIT IA5String. RFC 5280 4.2.1.6. */
const URI_NAME = 0x86
const BOOLEAN = 0x01
const BIT_STRING = 0x03
/** 2.5.29: the arc of RFC 5280's extensions, and the last number of those that are read. */
const EXTENSION_ARC = [0x55, 0x1d] as const
const SUBJECT_ALTERNATIVE_NAME = 17
const BASIC_CONSTRAINTS = 19
const KEY_USAGE = 15
/** RFC 5280 4.2.1.3: bits 5 and 6 of the key usage, keyCertSign and cRLSign. */
const SIGNING_USAGES = 0x04 | 0x02

/** What is read of a certificate. */
export interface CertificateFacts {
  /** In order. */
  readonly uris: readonly string[]
  /** Basic constraints say CA:true. OpenSSL's own answer is no where the key usage does not fit it, so it is not asked. */
  readonly isAuthority: boolean
  /** The key usage allows signing certificates or revocation lists. */
  readonly maySign: boolean
}

/** Reads a certificate in DER; the error says what is malformed. */
export function readCertificate(der: Uint8Array): Result<CertificateFacts, string> {
  const [certificate, ...trailing] = children(der) ?? []
  if (certificate?.tag !== SEQUENCE || trailing.length > 0) return err('it is not one DER sequence')
  const tbs = children(certificate.content)?.[0]
  const fields = tbs?.tag === SEQUENCE ? children(tbs.content) : undefined
  if (fields === undefined) return err('its body is not a DER sequence')
  const wrapped = fields.filter((field) => field.tag === EXTENSIONS)
  if (wrapped.length > 1) return err('it has several lists of extensions')
  if (wrapped[0] === undefined) return ok({ uris: [], isAuthority: false, maySign: false })
  const extensions = onlySequence(wrapped[0].content)
  if (extensions === undefined) return err('its extensions are not a DER sequence')
  return readExtensions(extensions)
}

function readExtensions(extensions: readonly Element[]): Result<CertificateFacts, string> {
  let uris: readonly string[] | undefined
  let isAuthority: boolean | undefined
  let maySign: boolean | undefined
  for (const extension of extensions) {
    const parts = extension.tag === SEQUENCE ? children(extension.content) : undefined
    const oid = parts?.[0]
    const value = parts?.at(-1)
    if (oid?.tag !== OBJECT_IDENTIFIER || value?.tag !== OCTET_STRING)
      return err('one of its extensions is malformed')
    // RFC 5280 4.2: an extension appears at most once; two would let readers disagree on what it says.
    switch (numberOf(oid.content)) {
      case SUBJECT_ALTERNATIVE_NAME: {
        if (uris !== undefined) return err('it has several SAN extensions')
        const names = onlySequence(value.content)
        if (names === undefined) return err('its SAN extension is not a DER sequence')
        uris = names.filter((name) => name.tag === URI_NAME).map((name) => latin1(name.content))
        break
      }
      case BASIC_CONSTRAINTS: {
        if (isAuthority !== undefined) return err('it has several basic constraints')
        const constraints = onlySequence(value.content)
        if (constraints === undefined) return err('its basic constraints are not a DER sequence')
        const [first] = constraints
        isAuthority = first?.tag === BOOLEAN && first.content.some((byte) => byte !== 0)
        break
      }
      case KEY_USAGE: {
        if (maySign !== undefined) return err('it has several key usages')
        const [bits, ...more] = children(value.content) ?? []
        if (bits?.tag !== BIT_STRING || bits.content.length < 2 || more.length > 0)
          return err('its key usage is not a bit string')
        maySign = ((bits.content[1] ?? 0) & SIGNING_USAGES) !== 0
        break
      }
      default:
    }
  }
  return ok({ uris: uris ?? [], isAuthority: isAuthority ?? false, maySign: maySign ?? false })
}

/** The last number of an extension of RFC 5280; undefined for others. */
function numberOf(oid: Uint8Array): number | undefined {
  return oid.length === 3 && oid[0] === EXTENSION_ARC[0] && oid[1] === EXTENSION_ARC[1]
    ? oid[2]
    : undefined
}

/** One character a byte, so that bytes outside IA5 stay visible to whoever judges the name. */
function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
}

/** The elements of the one sequence that the bytes are; undefined when they are anything else. */
function onlySequence(bytes: Uint8Array): readonly Element[] | undefined {
  const elements = children(bytes)
  const [sequence] = elements ?? []
  return elements?.length === 1 && sequence?.tag === SEQUENCE
    ? children(sequence.content)
    : undefined
}

/** The elements that the bytes consist of; undefined when they are not exactly a row of elements. */
export function children(bytes: Uint8Array): readonly Element[] | undefined {
  const elements: Element[] = []
  let offset = 0
  while (offset < bytes.length) {
    const tag = bytes[offset]
    const length = lengthAt(bytes, offset + 1)
    // Tags of several bytes occur nowhere in a certificate.
    if (tag === undefined || length === undefined || (tag & 0x1f) === 0x1f) return undefined
    const end = length.start + length.value
    if (end > bytes.length) return undefined
    elements.push({ tag, content: bytes.subarray(length.start, end) })
    offset = end
  }
  return elements
}

function lengthAt(
  bytes: Uint8Array,
  offset: number,
): { readonly value: number; readonly start: number } | undefined {
  const first = bytes[offset]
  if (first === undefined) return undefined
  if (first < 0x80) return { value: first, start: offset + 1 }
  // Certificates are far below 16 MiB: three bytes of length. 0x80 would be BER's indefinite form.
  const count = first & 0x7f
  if (count === 0 || count > 3) return undefined
  let value = 0
  for (let at = offset + 1; at <= offset + count; at += 1) {
    const byte = bytes[at]
    if (byte === undefined) return undefined
    value = value * 256 + byte
  }
  const isShortest = value >= 0x80 && value >= 256 ** (count - 1)
  return isShortest ? { value, start: offset + 1 + count } : undefined
}
