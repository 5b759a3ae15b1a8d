// SPDX-License-Identifier: Apache-2.0
// Makes equal parts of many objects share memory. Every decoded or cloned resource brings its own copy of the same
// namespace, node, service account and port list; a process that holds the whole mesh pays for that most of all.

import type { Kind } from './kind.ts'

/** Past this many entries a pool starts afresh: sharing is only an economy, and names come and go for ever. */
const POOL_LIMIT = 50_000

/** Values by what they hold, a pool for each kind. One per mesh state. */
export class Pools {
  readonly #texts = new Map<string, string>()
  readonly #byKind = new Map<Kind<unknown>, Map<string, unknown>>()

  /** The value, or an equal one that was here before. */
  share<T>(kind: Kind<T>, value: T): T {
    // A text is its own key, and texts of all fields are alike.
    if (typeof value === 'string') return sharedIn(this.#texts, value, value) as T & string
    // Kinds are compared by identity only.
    const byKind = kind as unknown as Kind<unknown>
    let pool = this.#byKind.get(byKind)
    if (pool === undefined) {
      pool = new Map<string, unknown>()
      this.#byKind.set(byKind, pool)
    }
    return sharedIn(pool, kind.key(value), value) as T
  }
}

function sharedIn<T>(pool: Map<string, T>, key: string, value: T): T {
  const known = pool.get(key)
  if (known !== undefined) return known
  if (pool.size >= POOL_LIMIT) pool.clear()
  pool.set(key, value)
  return value
}
