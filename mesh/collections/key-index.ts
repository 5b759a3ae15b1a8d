// SPDX-License-Identifier: Apache-2.0
// An index: the values of a collection under other keys, any number each.

import { Readers } from './readers.ts'
import type { Change, Index, Readable } from './types.ts'

const NONE: readonly never[] = []

/** Keeps keys only, in order, so that what a transformation is given does not depend on the order of events. */
export class KeyIndex<I extends string, K extends string, V> implements Index<I, V> {
  readonly readers: Readers
  readonly #values: Readable<K, V | undefined>
  readonly #keysOf: (value: V) => Iterable<I>
  readonly #onError: (key: K, error: unknown) => void
  /** Nearly always one: then it takes no list. */
  readonly #keys = new Map<I, K | K[]>()

  constructor(
    values: Readable<K, V | undefined>,
    keysOf: (value: V) => Iterable<I>,
    onError: (key: K, error: unknown) => void,
  ) {
    this.readers = new Readers(values.readers.order)
    this.#values = values
    this.#keysOf = keysOf
    this.#onError = onError
  }

  get(key: I): readonly V[] {
    const keys = this.#keys.get(key)
    if (keys === undefined) return NONE
    const values: V[] = []
    for (const each of Array.isArray(keys) ? keys : [keys]) {
      const value = this.#values.get(each)
      if (value !== undefined) values.push(value)
    }
    return values
  }

  /** Takes a change of the collection, which the collection has taken already. */
  update({ key, previous, current }: Change<K, V>): void {
    const old = this.#indexKeys(key, previous)
    const next = this.#indexKeys(key, current)
    for (const each of old) {
      if (!next.has(each)) this.#remove(each, key)
      this.readers.invalidate(each)
    }
    for (const each of next) {
      if (old.has(each)) continue
      this.#add(each, key)
      this.readers.invalidate(each)
    }
  }

  #indexKeys(key: K, value: V | undefined): ReadonlySet<I> {
    if (value === undefined) return new Set()
    try {
      return new Set(this.#keysOf(value))
    } catch (thrown) {
      // Pure, so it throws for this value again when the value goes: it is not in the index, then and now.
      this.#onError(key, thrown)
      return new Set()
    }
  }

  #add(indexKey: I, key: K): void {
    const keys = this.#keys.get(indexKey)
    if (keys === undefined) this.#keys.set(indexKey, key)
    else if (Array.isArray(keys)) keys.splice(positionOf(keys, key), 0, key)
    else this.#keys.set(indexKey, keys < key ? [keys, key] : [key, keys])
  }

  #remove(indexKey: I, key: K): void {
    const keys = this.#keys.get(indexKey)
    if (Array.isArray(keys)) {
      keys.splice(positionOf(keys, key), 1)
      const [last] = keys
      // So a list has two keys or more.
      if (keys.length === 1 && last !== undefined) this.#keys.set(indexKey, last)
    } else this.#keys.delete(indexKey)
  }
}

/** Where the key is, or would be, in the ordered list. */
function positionOf(keys: readonly string[], key: string): number {
  let [low, high] = [0, keys.length]
  while (low < high) {
    const middle = (low + high) >> 1
    const each = keys[middle]
    if (each !== undefined && each < key) low = middle + 1
    else high = middle
  }
  return low
}
