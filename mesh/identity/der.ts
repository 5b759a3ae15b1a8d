// SPDX-License-Identifier: Apache-2.0
// Just enough DER to find a certificate's URI SANs, strictly: definite lengths in their shortest form, no bytes left
// over. Hot: runs in each handshake, where a general ASN.1 parser costs as much as the handshake itself.

import { type Result, err, ok } from '../result.ts'

interface Element {
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
/** 2.5.29.17 */
const SUBJECT_ALTERNATIVE_NAME = Uint8Array.of(0x55, 0x1d, 0x11)

/** The URI SANs of a certificate in DER, in order; the error says what is malformed. */
export function uriSansOfCertificate(der: Uint8Array): Result<readonly string[], string> {
  const [certificate, ...trailing] = children(der) ?? []
  if (certificate?.tag !== SEQUENCE || trailing.length > 0) return err('it is not one DER sequence')
  const tbs = children(certificate.content)?.[0]
  const fields = tbs?.tag === SEQUENCE ? children(tbs.content) : undefined
  if (fields === undefined) return err('its body is not a DER sequence')
  const wrapped = fields.filter((field) => field.tag === EXTENSIONS)
  if (wrapped.length > 1) return err('it has several lists of extensions')
  if (wrapped[0] === undefined) return ok([])
  const extensions = onlySequence(wrapped[0].content)
  if (extensions === undefined) return err('its extensions are not a DER sequence')
  return urisIn(extensions)
}

function urisIn(extensions: readonly Element[]): Result<readonly string[], string> {
  let uris: readonly string[] | undefined
  for (const extension of extensions) {
    const parts = extension.tag === SEQUENCE ? children(extension.content) : undefined
    const oid = parts?.[0]
    const value = parts?.at(-1)
    if (oid?.tag !== OBJECT_IDENTIFIER || value?.tag !== OCTET_STRING)
      return err('one of its extensions is malformed')
    if (Buffer.compare(oid.content, SUBJECT_ALTERNATIVE_NAME) !== 0) continue
    // RFC 5280 4.2: an extension appears at most once; two would let readers disagree on the name.
    if (uris !== undefined) return err('it has several SAN extensions')
    const names = onlySequence(value.content)
    if (names === undefined) return err('its SAN extension is not a DER sequence')
    uris = names.filter((name) => name.tag === URI_NAME).map((name) => latin1(name.content))
  }
  return ok(uris ?? [])
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
function children(bytes: Uint8Array): readonly Element[] | undefined {
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
