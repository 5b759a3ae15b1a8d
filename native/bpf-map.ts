// SPDX-License-Identifier: Apache-2.0
// A BPF map by its fd: single elements, batches, iteration. Does not own the fd.

import { constants } from 'node:os'
import { check, loadLibbpf } from './libbpf.ts'

/** Elements read by one batch call. */
const BATCH = 256

/** What the kernel lets nobody change of a map. */
export interface MapShape {
  readonly type: number
  readonly keySize: number
  readonly valueSize: number
  readonly maxEntries: number
  readonly flags: number
}

/** struct bpf_map_info, as far as its flags. */
const INFO_SIZE = 24

/** Asks the kernel what a map is. Throws NativeError. */
export function shapeOfMap(fd: number): MapShape {
  const info = Buffer.alloc(INFO_SIZE)
  const size = new Uint32Array([INFO_SIZE])
  check(loadLibbpf().bpf_obj_get_info_by_fd(fd, info, size), 'bpf_obj_get_info_by_fd', 'map')
  return {
    type: info.readUInt32LE(0),
    keySize: info.readUInt32LE(8),
    valueSize: info.readUInt32LE(12),
    maxEntries: info.readUInt32LE(16),
    flags: info.readUInt32LE(20),
  }
}

/** A map's fd and the sizes of its elements. All methods throw NativeError on failures other than absence. */
export class BpfMap {
  readonly fd: number
  readonly keySize: number
  readonly valueSize: number
  readonly #name: string

  constructor(name: string, fd: number, keySize: number, valueSize: number) {
    this.#name = name
    this.fd = fd
    this.keySize = keySize
    this.valueSize = valueSize
  }

  /** The value, or undefined when the key is not there. */
  lookup(key: Uint8Array): Buffer | undefined {
    const value = Buffer.alloc(this.valueSize)
    return this.#find(key, value) ? value : undefined
  }

  /** The values of all CPUs, of a per-CPU map with 64-bit values. */
  lookupPerCpu64(key: Uint8Array): readonly bigint[] | undefined {
    const values = new BigUint64Array(loadLibbpf().libbpf_num_possible_cpus())
    return this.#find(key, new Uint8Array(values.buffer)) ? [...values] : undefined
  }

  /** Creates or replaces. */
  update(key: Uint8Array, value: Uint8Array): void {
    check(
      loadLibbpf().bpf_map_update_elem(this.fd, key, value, 0),
      'bpf_map_update_elem',
      this.#name,
    )
  }

  /** Whether the key was there. */
  delete(key: Uint8Array): boolean {
    const result = loadLibbpf().bpf_map_delete_elem(this.fd, key)
    if (result === -constants.errno.ENOENT) return false
    check(result, 'bpf_map_delete_elem', this.#name)
    return true
  }

  /** All keys at this moment; keys that come or go meanwhile may be missed or repeated. */
  keys(): Buffer[] {
    const found: Buffer[] = []
    for (let previous: Buffer | null = null; ; ) {
      const next = Buffer.alloc(this.keySize)
      const result = loadLibbpf().bpf_map_get_next_key(this.fd, previous, next)
      if (result === -constants.errno.ENOENT) return found
      check(result, 'bpf_map_get_next_key', this.#name)
      found.push(next)
      previous = next
    }
  }

  /** Creates or replaces many elements with one call. Not for socket maps. */
  updateBatch(elements: readonly (readonly [key: Uint8Array, value: Uint8Array])[]): void {
    if (elements.length === 0) return
    const count = new Uint32Array([elements.length])
    const keys = Buffer.concat(elements.map(([key]) => key))
    const values = Buffer.concat(elements.map(([, value]) => value))
    check(
      loadLibbpf().bpf_map_update_batch(this.fd, keys, values, count, null),
      'bpf_map_update_batch',
      this.#name,
    )
  }

  /** Deletes many keys with one call; stops at the first that is not there. Gives how many were deleted. */
  deleteBatch(keys: readonly Uint8Array[]): number {
    if (keys.length === 0) return 0
    const count = new Uint32Array([keys.length])
    const result = loadLibbpf().bpf_map_delete_batch(this.fd, Buffer.concat(keys), count, null)
    if (result !== -constants.errno.ENOENT) check(result, 'bpf_map_delete_batch', this.#name)
    return count[0] ?? 0
  }

  /** All elements, by batches. */
  entries(): [key: Buffer, value: Buffer][] {
    const found: [Buffer, Buffer][] = []
    const cursor = Buffer.alloc(Math.max(this.keySize, 8))
    for (let isFirst = true; ; isFirst = false) {
      const keys = Buffer.alloc(BATCH * this.keySize)
      const values = Buffer.alloc(BATCH * this.valueSize)
      const count = new Uint32Array([BATCH])
      const result = loadLibbpf().bpf_map_lookup_batch(
        this.fd,
        isFirst ? null : cursor,
        cursor,
        keys,
        values,
        count,
        null,
      )
      const isLast = result === -constants.errno.ENOENT
      if (!isLast) check(result, 'bpf_map_lookup_batch', this.#name)
      for (let index = 0; index < (count[0] ?? 0); index += 1)
        found.push([
          keys.subarray(index * this.keySize, (index + 1) * this.keySize),
          values.subarray(index * this.valueSize, (index + 1) * this.valueSize),
        ])
      if (isLast) return found
    }
  }

  #find(key: Uint8Array, value: Uint8Array): boolean {
    const result = loadLibbpf().bpf_map_lookup_elem(this.fd, key, value)
    if (result === -constants.errno.ENOENT) return false
    check(result, 'bpf_map_lookup_elem', this.#name)
    return true
  }
}
