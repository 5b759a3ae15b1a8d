// SPDX-License-Identifier: Apache-2.0
// Reads DeltaDiscoveryResponses out of a gRPC stream as its bytes come, without holding what is large in them: a thousand agents in one
// process cannot each keep a mesh.

/** What an agent that keeps nothing needs of a response. */
export interface ScannedResponse {
  readonly typeUrl: string
  readonly nonce: string
  readonly bytes: number
  readonly resources: number
  /** Names of the resources and of what is removed; empty for a response that is larger than NAMED_BYTES. */
  readonly names: readonly string[]
}

/** Responses up to here are read name by name: those of changes. */
const NAMED_BYTES = 256 * 1024
const FRAME_HEADER = 5

/** Fields of DeltaDiscoveryResponse (mesh/proto/discovery.proto), and the name's of Resource. */
const RESOURCES = 2
const TYPE_URL = 4
const NONCE = 5
const REMOVED = 6
const RESOURCE_NAME = 3

const EMPTY = Buffer.alloc(0)

/** Takes chunks in; gives the responses that end in each. */
export class ResponseScanner {
  /** Bytes that are not enough for a decision yet. */
  #rest = EMPTY
  #size = 0
  #left = 0
  #skip = 0
  #isInMessage = false
  #typeUrl = ''
  #nonce = ''
  #resources = 0
  #names: string[] = []

  take(chunk: Buffer): ScannedResponse[] {
    const done: ScannedResponse[] = []
    let bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    this.#rest = EMPTY
    for (;;) {
      if (this.#skip > 0) {
        const skipped = Math.min(this.#skip, bytes.length)
        this.#skip -= skipped
        this.#left -= skipped
        bytes = bytes.subarray(skipped)
        if (this.#skip > 0) return done
      }
      if (!this.#isInMessage) {
        if (bytes.length < FRAME_HEADER) break
        this.#begin(bytes.readUInt32BE(1))
        bytes = bytes.subarray(FRAME_HEADER)
      }
      if (this.#left === 0) {
        done.push(this.#end())
        continue
      }
      const used = this.#field(bytes)
      if (used === 0) break
      this.#left -= used
      bytes = bytes.subarray(used)
    }
    this.#rest = Buffer.from(bytes)
    return done
  }

  #begin(size: number): void {
    this.#isInMessage = true
    this.#size = size
    this.#left = size
    this.#resources = 0
    this.#names = []
  }

  #end(): ScannedResponse {
    this.#isInMessage = false
    return {
      typeUrl: this.#typeUrl,
      nonce: this.#nonce,
      bytes: this.#size,
      resources: this.#resources,
      names: this.#names,
    }
  }

  /** Reads a field whose bytes are there, or begins to skip one; gives what it used, 0 when more must come first. All have a length. */
  #field(bytes: Buffer): number {
    const length = readVarint(bytes, 1)
    if (length === undefined) return 0
    const number = (bytes[0] ?? 0) >> 3
    const end = length.end + length.value
    const isRead = number !== RESOURCES || this.#size <= NAMED_BYTES
    if (isRead && bytes.length < end) return 0
    if (number === RESOURCES) this.#resources += 1
    if (!isRead) {
      this.#skip = length.value
      return length.end
    }
    const value = bytes.subarray(length.end, end)
    if (number === TYPE_URL) this.#typeUrl = value.toString()
    else if (number === NONCE) this.#nonce = value.toString()
    else if (number === REMOVED) this.#names.push(value.toString())
    else if (number === RESOURCES) this.#names.push(resourceName(value))
    return end
  }
}

function resourceName(resource: Buffer): string {
  let at = 0
  while (at < resource.length) {
    const number = (resource[at] ?? 0) >> 3
    const length = readVarint(resource, at + 1)
    if (length === undefined) break
    if (number === RESOURCE_NAME)
      return resource.toString('utf8', length.end, length.end + length.value)
    at = length.end + length.value
  }
  throw new Error('a resource without a name')
}

function readVarint(
  bytes: Buffer,
  from: number,
): { readonly value: number; readonly end: number } | undefined {
  let value = 0
  for (let at = from, shift = 0; at < bytes.length; at += 1, shift += 7) {
    const byte = bytes[at] ?? 0
    value += (byte & 0x7f) * 2 ** shift
    if (byte < 0x80) return { value, end: at + 1 }
  }
  return undefined
}
