// SPDX-License-Identifier: Apache-2.0
// Who has read which key: the memory that makes fetches tracked.

/** Which key of which collection or index was read; two entries of a flat list, because there are very many. */
export type Reads = readonly (Readers | string)[]

/** One input of a derived collection: what its transformation read last, and the keys of what it gave. */
export interface Reader {
  readonly key: string
  reads: Reads
  outputs: readonly string[]
  /** Asks for the transformation to be run again in this commit. */
  invalidate(): void
}

/** The readers of one collection or index, by key. */
export class Readers {
  /** The place of what is read in the order of its graph. */
  readonly order: number
  /** Most keys have one reader, for which a set would be a waste. */
  readonly #byKey = new Map<string, Reader | Set<Reader>>()

  constructor(order: number) {
    this.order = order
  }

  /** How many keys are read by anybody. */
  get size(): number {
    return this.#byKey.size
  }

  add(key: string, reader: Reader): void {
    const known = this.#byKey.get(key)
    if (known === undefined) this.#byKey.set(key, reader)
    else if (known instanceof Set) known.add(reader)
    else if (known !== reader) this.#byKey.set(key, new Set([known, reader]))
  }

  remove(key: string, reader: Reader): void {
    const known = this.#byKey.get(key)
    if (known instanceof Set) {
      known.delete(reader)
      const [last] = known
      if (last === undefined) this.#byKey.delete(key)
      else if (known.size === 1) this.#byKey.set(key, last)
    } else if (known === reader) this.#byKey.delete(key)
  }

  invalidate(key: string): void {
    const known = this.#byKey.get(key)
    if (known instanceof Set) for (const reader of known) reader.invalidate()
    else known?.invalidate()
  }
}

/** Replaces what a reader has read. */
export function trackReads(reader: Reader, next: (Readers | string)[]): void {
  const previous = reader.reads
  // Nearly always the same questions in the same order: then nothing is to be done.
  if (isSame(previous, next)) return
  reader.reads = next.slice()
  for (const { readers, key } of pairs(previous)) readers.remove(key, reader)
  for (const { readers, key } of pairs(next)) readers.add(key, reader)
}

function* pairs(reads: Reads): Iterable<{ readonly readers: Readers; readonly key: string }> {
  for (let index = 0; index < reads.length; index += 2) {
    const [readers, key] = [reads[index], reads[index + 1]]
    if (readers instanceof Readers && typeof key === 'string') yield { readers, key }
  }
}

function isSame(left: Reads, right: Reads): boolean {
  if (left.length !== right.length) return false
  for (let index = 0; index < left.length; index += 1)
    if (left[index] !== right[index]) return false
  return true
}
