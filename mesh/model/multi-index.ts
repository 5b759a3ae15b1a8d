// SPDX-License-Identifier: Apache-2.0
// An index under whose keys several values may lie, kept in the order in which they first claimed the key.

const NONE: readonly never[] = []

/** Values by a key that need not be unique. Values are compared by identity. */
export class MultiIndex<K, V> {
  readonly #entries = new Map<K, V[]>()

  /** The values under this key, oldest claim first; valid until the next change. */
  get(key: K): readonly V[] {
    return this.#entries.get(key) ?? NONE
  }

  get size(): number {
    return this.#entries.size
  }

  keys(): Iterable<K> {
    return this.#entries.keys()
  }

  add(key: K, value: V): void {
    const values = this.#entries.get(key)
    if (values === undefined) this.#entries.set(key, [value])
    else values.push(value)
  }

  remove(key: K, value: V): void {
    const values = this.#entries.get(key)
    const position = values?.indexOf(value) ?? -1
    if (values === undefined || position < 0) return
    if (values.length === 1) this.#entries.delete(key)
    else values.splice(position, 1)
  }

  /** Puts a newer value in the older one's place; a key that the older did not have is claimed anew. */
  replace(key: K, previous: V, next: V): void {
    const values = this.#entries.get(key)
    const position = values?.indexOf(previous) ?? -1
    if (values === undefined || position < 0) this.add(key, next)
    else values[position] = next
  }
}

/** Moves a value (or its first version, or its removal) from its old keys to its new ones. */
export function reindex<K, V>(
  index: MultiIndex<K, V>,
  previous: { readonly value: V; readonly keys: readonly K[] } | undefined,
  next: { readonly value: V; readonly keys: readonly K[] } | undefined,
): void {
  for (const key of previous?.keys ?? NONE)
    if (previous !== undefined && next?.keys.includes(key) !== true)
      index.remove(key, previous.value)
  for (const key of next?.keys ?? NONE) {
    if (next === undefined) continue
    if (previous === undefined) index.add(key, next.value)
    else index.replace(key, previous.value, next.value)
  }
}
