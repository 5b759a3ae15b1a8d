// SPDX-License-Identifier: Apache-2.0
// Reads DeltaDiscoveryRequests (mesh/proto/discovery.proto). What a client that comes again says it holds, a name and a version of each
// resource, is left as it came until it is compared with what there is: of a large mesh that is megabytes, of which nothing is kept.

import { fromBinary } from '@bufbuild/protobuf'
import { BYTES } from '../model/codec/wire-reader.ts'
import {
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
} from '../proto/gen/discovery_pb.js'

/** initial_resource_versions of DeltaDiscoveryRequest, and its entries' fields. */
const VERSIONS_TAG = (5 << 3) | BYTES
const NAME_TAG = (1 << 3) | BYTES
const VERSION_TAG = (2 << 3) | BYTES
/** Of a 32-bit length; a longer one is no length of ours. */
const LONGEST_LENGTH = 5

/** Versions by name, as far as a server needs them. A Map is one. */
export interface HeldVersions extends Iterable<readonly [string, string]> {
  readonly size: number
}

/** A request, with what the client holds apart. */
export interface DeltaRequest {
  /** Without initial_resource_versions. */
  readonly message: DeltaDiscoveryRequest
  readonly held: HeldVersions
  /** How long it was. */
  readonly bytes: number
}

/** Reads a request; throws when the bytes are none. */
export function readRequest(bytes: Buffer): DeltaRequest {
  const entries: number[] = []
  const others: Buffer[] = []
  let at = 0
  let otherFrom = 0
  while (at < bytes.length) {
    const start = at
    const end = endOfField(bytes, start)
    // Whatever is no plain field with a length is for the one who reads the others to refuse.
    if (end === undefined) break
    if (bytes[start] === VERSIONS_TAG) {
      if (otherFrom < start) others.push(bytes.subarray(otherFrom, start))
      otherFrom = end
      entries.push(start, end)
    }
    at = end
  }
  if (otherFrom < bytes.length) others.push(bytes.subarray(otherFrom))
  const rest = entries.length === 0 ? bytes : Buffer.concat(others)
  return {
    message: fromBinary(DeltaDiscoveryRequestSchema, rest),
    held: new EncodedVersions(bytes, entries),
    bytes: bytes.length,
  }
}

/** Entries of a map<string, string>, read when they are gone through. */
class EncodedVersions implements HeldVersions {
  readonly #bytes: Buffer
  /** Beginning and end of each. */
  readonly #entries: readonly number[]

  constructor(bytes: Buffer, entries: readonly number[]) {
    this.#bytes = entries.length === 0 ? EMPTY : bytes
    this.#entries = entries
  }

  get size(): number {
    return this.#entries.length / 2
  }

  *[Symbol.iterator](): Generator<readonly [string, string]> {
    for (let entry = 0; entry < this.#entries.length; entry += 2)
      yield this.#read(this.#entries[entry] ?? 0, this.#entries[entry + 1] ?? 0)
  }

  #read(start: number, end: number): readonly [string, string] {
    const bytes = this.#bytes
    let name = ''
    let version = ''
    let at = contentOf(bytes, start)
    while (at < end) {
      const next = endOfField(bytes, at)
      if (next === undefined || next > end) break
      if (bytes[at] === NAME_TAG) name = bytes.toString('utf8', contentOf(bytes, at), next)
      else if (bytes[at] === VERSION_TAG)
        version = bytes.toString('latin1', contentOf(bytes, at), next)
      at = next
    }
    return [name, version]
  }
}

const EMPTY = Buffer.alloc(0)

/** Where the field that begins here ends; undefined when it has no length, or one that is more than there is. */
function endOfField(bytes: Buffer, start: number): number | undefined {
  if (((bytes[start] ?? 0) & 7) !== BYTES || (bytes[start] ?? 0) > 0x7f) return undefined
  let length = 0
  for (let count = 0; count < LONGEST_LENGTH; count += 1) {
    const at = start + 1 + count
    if (at >= bytes.length) return undefined
    const byte = bytes[at] ?? 0
    length += (byte & 0x7f) * 2 ** (7 * count)
    if (byte > 0x7f) continue
    const end = at + 1 + length
    return end > bytes.length ? undefined : end
  }
  return undefined
}

/** Where the content of the field that begins here begins. */
function contentOf(bytes: Buffer, start: number): number {
  let at = start + 1
  while ((bytes[at] ?? 0) > 0x7f) at += 1
  return at + 1
}
