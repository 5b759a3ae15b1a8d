// SPDX-License-Identifier: Apache-2.0
// Who has read which key: the memory that makes fetches tracked.

/** Whoever reads: one input of a derived collection. */
export interface Reader {
  /** What its transformation read last. */
  reads: readonly Read[]
  /** Asks for the transformation to be run again in this commit. */
  invalidate(): void
}

/** A key that somebody has read, whether or not there is a value under it. There are very many of these. */
export interface Read {
  readonly of: Readers
  readonly key: string
  /** Most keys have one reader or a few, for which a set would be a waste. */
  by: Reader | readonly Reader[] | Set<Reader> | undefined
}

/** Up to so many readers of a key lie in a list: it takes a quarter of what a set does, and is looked through as fast. */
const LONGEST_LIST = 16

/** A derived collection, as far as it reads under the keys of its own inputs. */
export interface SameKeyReader {
  /** Computes the input of this key again in this commit, if there is one. */
  invalidateInput(key: string): void
}

/** The readers of one collection or index, by key. */
export class Readers {
  /** The place of what is read in the order of its graph. */
  readonly order: number
  readonly #reads = new Map<string, Read>()
  /** Nearly always one: a list is enough. */
  readonly #sameKeyReaders: SameKeyReader[] = []

  constructor(order: number) {
    this.order = order
  }

  /** How many keys are read by anybody. */
  get size(): number {
    return this.#reads.size
  }

  /** The note of reads of this key; who asks for one has it tracked by trackReads(). */
  read(key: string): Read {
    const known = this.#reads.get(key)
    if (known !== undefined) return known
    const read = { of: this, key, by: undefined }
    this.#reads.set(key, read)
    return read
  }

  /**
   * Notes that a collection reads for an input what lies under that input's own key. One note stands for all of its
   * inputs, whether or not each of them reads: there may be one for each pod, and the key says whose it is.
   */
  readUnderSameKey(reader: SameKeyReader): void {
    if (!this.#sameKeyReaders.includes(reader)) this.#sameKeyReaders.push(reader)
  }

  /** Has all who read the key computed again. */
  invalidate(key: string): void {
    for (const reader of this.#sameKeyReaders) reader.invalidateInput(key)
    const by = this.#reads.get(key)?.by
    if (by === undefined) return
    if (isOne(by)) by.invalidate()
    else for (const reader of by) reader.invalidate()
  }

  /** Drops a note that nobody needs any more. */
  forget(read: Read): void {
    this.#reads.delete(read.key)
  }
}

/** Replaces what a reader has read. */
export function trackReads(reader: Reader, next: readonly Read[]): void {
  const previous = reader.reads
  // Nearly always the same questions in the same order: then nothing is to be done.
  if (isSame(previous, next)) return
  reader.reads = next.slice()
  // First the new ones, so that a note which stays is not dropped between.
  for (const read of next) add(read, reader)
  if (previous.length === 0) return
  const kept = new Set(next)
  for (const read of previous) if (!kept.has(read)) remove(read, reader)
}

function add(read: Read, reader: Reader): void {
  const { by } = read
  if (by === undefined) read.by = reader
  else if (by instanceof Set) by.add(reader)
  else if (isOne(by)) read.by = by === reader ? by : [by, reader]
  else if (!by.includes(reader))
    read.by = by.length < LONGEST_LIST ? [...by, reader] : new Set([...by, reader])
}

function remove(read: Read, reader: Reader): void {
  const { by } = read
  if (by === undefined) return
  if (by instanceof Set) {
    by.delete(reader)
    if (by.size === 1) read.by = [...by]
  } else if (!isOne(by)) read.by = by.filter((each) => each !== reader)
  else if (by === reader) {
    read.by = undefined
    read.of.forget(read)
    return
  }
  // So a list or set has two members or more.
  if (Array.isArray(read.by) && read.by.length === 1) read.by = read.by[0]
}

function isOne(by: NonNullable<Read['by']>): by is Reader {
  return !(by instanceof Set) && !Array.isArray(by)
}

function isSame(left: readonly Read[], right: readonly Read[]): boolean {
  if (left.length !== right.length) return false
  for (let index = 0; index < left.length; index += 1)
    if (left[index] !== right[index]) return false
  return true
}
