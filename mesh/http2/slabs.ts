// SPDX-License-Identifier: Apache-2.0
// Memory for bytes that wait a moment for room, used again and again: a fresh buffer for each would be the collector's work, which
// took a third of a relay's CPU with many busy streams. Hot: bench/hbone-relays.ts watches it.

/** What is read of a socket at once. */
const SLAB_BYTES = 64 * 1024
/** Below this a buffer of its own is cheaper than the rest of a slab. */
const LEAST_BYTES = SLAB_BYTES / 2
/** Free ones that a thread keeps, 4 MiB: more streams seldom wait at once. */
const MOST_FREE = 64

const free: ArrayBuffer[] = []
const lent = new WeakSet<ArrayBufferLike>()

/** A copy of the chunk from `start` on, to be given back once. */
export function borrowedCopy(chunk: Buffer, start: number): Buffer {
  const length = chunk.length - start
  const copy =
    length < LEAST_BYTES || length > SLAB_BYTES ? Buffer.allocUnsafeSlow(length) : borrow(length)
  chunk.copy(copy, 0, start)
  return copy
}

/** Nobody uses the chunk any more. Any other buffer than one of borrowedCopy() is left alone. */
export function giveBack(chunk: Buffer): void {
  const memory = chunk.buffer
  if (!(memory instanceof ArrayBuffer) || !lent.delete(memory)) return
  if (free.length < MOST_FREE) free.push(memory)
}

/** What it costs in memory that the chunk is kept. */
export function memoryOf(chunk: Buffer): number {
  return lent.has(chunk.buffer) ? SLAB_BYTES : chunk.length
}

function borrow(length: number): Buffer {
  const memory = free.pop() ?? Buffer.allocUnsafeSlow(SLAB_BYTES).buffer
  lent.add(memory)
  return Buffer.from(memory, 0, length)
}
