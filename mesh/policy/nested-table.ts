// SPDX-License-Identifier: Apache-2.0
// A table of keys that lie inside one another (prefixes of texts, ranges of addresses): finds all keys around something in the time
// of one binary search, however many different lengths there are.

import { type Sliced, sortSliced } from '../async/sliced.ts'

/** How keys are ordered: whatever lies between a key and something inside it lies inside that key, too. */
export interface Nesting<Key, Probe> {
  /** Negative when the left one comes first; a key comes before those inside it. */
  readonly compare: (left: Key, right: Key) => number
  /** The same of a key and what is looked up; not positive when the probe is inside the key. */
  readonly compareProbe: (key: Key, probe: Probe) => number
  readonly isInside: (inner: Key, outer: Key) => boolean
  readonly isAround: (key: Key, probe: Probe) => boolean
}

/** Between two breaks. */
const KEYS_A_STEP = 1_024

/** Work makes it (NestedTable.make): of 100,000 keys it takes longer than others should wait. */
export class NestedTable<Key, Probe, Value> {
  readonly #nesting: Nesting<Key, Probe>
  readonly #keys: readonly Key[]
  readonly #values: readonly Value[]
  /** Of each key the place of the next larger one around it; -1 for none. */
  readonly #parents: Int32Array

  private constructor(
    nesting: Nesting<Key, Probe>,
    keys: readonly Key[],
    values: readonly Value[],
    parents: Int32Array,
  ) {
    this.#nesting = nesting
    this.#keys = keys
    this.#values = values
    this.#parents = parents
  }

  static empty<Key, Probe, Value>(nesting: Nesting<Key, Probe>): NestedTable<Key, Probe, Value> {
    return new NestedTable<Key, Probe, Value>(nesting, [], [], new Int32Array())
  }

  /** @param entries No key twice. They are put in order. */
  static *make<Key, Probe, Value>(
    nesting: Nesting<Key, Probe>,
    entries: (readonly [Key, Value])[],
  ): Sliced<NestedTable<Key, Probe, Value>> {
    yield* sortSliced(entries, ([left], [right]) => nesting.compare(left, right))
    const keys: Key[] = []
    const values: Value[] = []
    for (const [key, value] of entries) {
      keys.push(key)
      values.push(value)
    }
    yield
    return new NestedTable(nesting, keys, values, yield* parentsOf(keys, nesting))
  }

  get size(): number {
    return this.#keys.length
  }

  /** Whether any key is around the probe. Hot. */
  has(probe: Probe): boolean {
    return this.#innermost(probe) >= 0
  }

  /** Adds the values of all keys around the probe, from the innermost. Hot: a few times per call. */
  collect(probe: Probe, into: Value[]): void {
    for (let at = this.#innermost(probe); at >= 0; at = this.#parents[at] ?? -1) {
      const value = this.#values[at]
      if (value !== undefined) into.push(value)
    }
  }

  /**
   * The place of the smallest key around the probe; -1 for none. If there is one, it is the last key before the probe or around
   * that: by the order of keys, the last one before the probe is inside every key that is around the probe.
   */
  #innermost(probe: Probe): number {
    const { compareProbe, isAround } = this.#nesting
    const keys = this.#keys
    let low = 0
    let high = keys.length
    while (low < high) {
      const middle = (low + high) >>> 1
      // In bounds: middle < high <= length.
      if (compareProbe(keys[middle] as Key, probe) <= 0) low = middle + 1
      else high = middle
    }
    let at = low - 1
    while (at >= 0 && !isAround(keys[at] as Key, probe)) at = this.#parents[at] ?? -1
    return at
  }
}

function* parentsOf<Key, Probe>(
  keys: readonly Key[],
  nesting: Nesting<Key, Probe>,
): Sliced<Int32Array> {
  const parents = new Int32Array(keys.length)
  for (let at = 0; at < keys.length; at += 1) {
    if (at % KEYS_A_STEP === 0) yield
    let around = at - 1
    // In bounds: around < at.
    while (around >= 0 && !nesting.isInside(keys[at] as Key, keys[around] as Key))
      around = parents[around] ?? -1
    parents[at] = around
  }
  return parents
}
