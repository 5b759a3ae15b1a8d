// SPDX-License-Identifier: Apache-2.0
// Writes DeltaDiscoveryResponses (envoy.service.discovery.v3, mesh/proto/discovery.proto) of one type out of payloads that are already
// encoded. What many clients are to be sent is written once, nonce and all: it is the same bytes for each who gets the same resources. A copy for each would
// be most of what a crowd costs: a whole mesh is tens of megabytes, and V8 marks its heap anew for every two that are allocated.

import { BYTES } from '../model/codec/wire-reader.ts'
import type { PendingBatch } from './client-view.ts'
import { aliasesOf, type StoredResource } from './resource-store.ts'

/** Tags of the fields of DeltaDiscoveryResponse. */
const RESPONSE = {
  systemVersion: tag(1),
  resources: tag(2),
  typeUrl: tag(4),
  nonce: tag(5),
  removed: tag(6),
} as const
/** Of Resource. */
const RESOURCE = { version: tag(1), resource: tag(2), name: tag(3), aliases: tag(4) } as const
/** Of google.protobuf.Any. */
const ANY = { typeUrl: tag(1), value: tag(2) } as const

/** A response as it goes to each client who is sent this batch. */
export interface EncodedResponse {
  readonly nonce: string
  readonly bytes: Uint8Array
}

interface Written extends EncodedResponse {
  readonly batch: PendingBatch
}

/** Encodes the responses of one type. */
export class ResponseEncoder {
  readonly #typeUrl: string
  /** What was written last. It is used for whoever is to be sent the very same resources, whatever made them that: nobody's view is asked. */
  #last: Written | undefined
  /** Responses that were written: their nonces. */
  #count = 0

  constructor(typeUrl: string) {
    this.#typeUrl = typeUrl
  }

  /** The response that carries this batch. `former`: the nonce of the client's last one, from which this one's has to differ. */
  encode(batch: PendingBatch, former?: string): EncodedResponse {
    const last = this.#last
    if (last !== undefined && last.nonce !== former && isSame(last.batch, batch)) return last
    this.#count += 1
    const nonce = String(this.#count)
    this.#last = { batch, nonce, bytes: encodeResponse(this.#typeUrl, nonce, batch) }
    return this.#last
  }

  /** Forgets what it wrote: a whole mesh is large, and it may be long until somebody asks for it again. */
  forget(): void {
    this.#last = undefined
  }
}

/** Whether two batches are of the very same resources in the very same states, in one order. */
function isSame(one: PendingBatch, other: PendingBatch): boolean {
  return isSameList(one.resources, other.resources) && isSameList(one.removed, other.removed)
}

function isSameList<T>(one: readonly T[], other: readonly T[]): boolean {
  if (one === other) return true
  if (one.length !== other.length) return false
  for (let at = 0; at < one.length; at += 1) if (one[at] !== other[at]) return false
  return true
}

function encodeResponse(
  typeUrl: string,
  nonce: string,
  { resources, removed }: PendingBatch,
): Uint8Array {
  let length = fieldLength(typeUrl.length) + 2 * fieldLength(nonce.length)
  for (const each of resources) length += fieldLength(resourceLength(typeUrl, each))
  for (const name of removed) length += fieldLength(Buffer.byteLength(name))
  const response = new Cursor(length)
  response.text(RESPONSE.systemVersion, nonce)
  response.text(RESPONSE.nonce, nonce)
  for (const each of resources) {
    response.open(RESPONSE.resources, resourceLength(typeUrl, each))
    response.text(RESOURCE.version, each.version)
    response.open(RESOURCE.resource, anyLength(typeUrl, each))
    response.text(ANY.typeUrl, typeUrl)
    response.latin1(ANY.value, each.payload)
    response.text(RESOURCE.name, each.name)
    for (const alias of aliasesOf(each)) response.text(RESOURCE.aliases, alias)
  }
  response.text(RESPONSE.typeUrl, typeUrl)
  for (const name of removed) response.text(RESPONSE.removed, name)
  return response.bytes
}

function resourceLength(typeUrl: string, stored: StoredResource): number {
  let length =
    fieldLength(stored.version.length) +
    fieldLength(anyLength(typeUrl, stored)) +
    fieldLength(Buffer.byteLength(stored.name))
  for (const alias of aliasesOf(stored)) length += fieldLength(Buffer.byteLength(alias))
  return length
}

/** A type URL is ASCII, and a payload has a byte a character. */
function anyLength(typeUrl: string, { payload }: StoredResource): number {
  return fieldLength(typeUrl.length) + fieldLength(payload.length)
}

/** Of a field with so many bytes of content: tag, length, content. */
function fieldLength(content: number): number {
  let varint = 1
  for (let rest = content; rest > 0x7f; rest >>>= 7) varint += 1
  return 1 + varint + content
}

function tag(field: number): number {
  return (field << 3) | BYTES
}

/** Writes fields into bytes of which it is known how many there will be. Hot: bench/discovery.ts. */
class Cursor {
  readonly bytes: Buffer
  #at = 0

  constructor(length: number) {
    this.bytes = Buffer.allocUnsafeSlow(length)
  }

  /** The head of a field with so many bytes of content. */
  open(fieldTag: number, length: number): void {
    this.bytes[this.#at] = fieldTag
    this.#at += 1
    let rest = length
    while (rest > 0x7f) {
      this.bytes[this.#at] = (rest & 0x7f) | 0x80
      this.#at += 1
      rest >>>= 7
    }
    this.bytes[this.#at] = rest
    this.#at += 1
  }

  text(fieldTag: number, value: string): void {
    const length = Buffer.byteLength(value)
    this.open(fieldTag, length)
    // What is ASCII is the same in both, and quicker to write in this one.
    this.#at += this.bytes.write(value, this.#at, length === value.length ? 'latin1' : 'utf8')
  }

  /** A text whose characters are bytes. */
  latin1(fieldTag: number, value: string): void {
    this.open(fieldTag, value.length)
    this.#at += this.bytes.write(value, this.#at, 'latin1')
  }
}
