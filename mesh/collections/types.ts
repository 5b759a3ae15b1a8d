// SPDX-License-Identifier: Apache-2.0
// What users of collections see: values by key that change in commits, read with tracking by those who derive from them.

import type { Readers } from './readers.ts'

/** Something a transformation can fetch from: a collection, or an index of one. */
export interface Readable<K extends string, R> {
  /** What lies under the key after the last commit. Untracked: inside a transformation use its `fetch`. */
  get(key: K): R
  /** Who has fetched what; the graph's own bookkeeping. */
  readonly readers: Readers
}

/**
 * Reads a collection (the value, or undefined) or an index (the values in the order of their keys). The transformation
 * that asked runs again whenever the answer to exactly this question may have changed.
 */
export type Fetch = <K extends string, R>(from: Readable<K, R>, key: K) => R

/** One key whose value differs after a commit from what it was before; undefined where there is or was none. */
export interface Change<K extends string, V> {
  readonly key: K
  readonly previous: V | undefined
  readonly current: V | undefined
}

export type Listener<K extends string, V> = (changes: readonly Change<K, V>[]) => void

/** Values by key. They are compared by content and must not be changed once they are in. */
export interface Collection<K extends string, V extends NonNullable<unknown>>
  extends Readable<K, V | undefined> {
  readonly name: string
  readonly size: number
  /** Whether it has everything that its sources had when they were said to be complete; it stays so. */
  readonly isSynced: boolean
  keys(): Iterable<K>
  values(): Iterable<V>
  /** The values under any keys computed from them (pure, from the value alone), kept up to date. */
  index<I extends string>(keysOf: (value: V) => Iterable<I>): Index<I, V>
  /**
   * Calls back once with everything when the collection is synced, even if that is nothing, and then after each commit
   * with the net difference, if there is one. Returns the unsubscriber.
   */
  subscribe(listener: Listener<K, V>): () => void
}

/** The values of a collection by other keys than their own. */
export type Index<I extends string, V> = Readable<I, readonly V[]>

/** A collection that is told what it holds. Changes outside of a batch are a batch of their own. */
export interface Source<K extends string, V extends NonNullable<unknown>> extends Collection<K, V> {
  set(key: K, value: V): void
  delete(key: K): void
  /** Everything that existed has been set once. */
  complete(): void
}

/** What a transformation makes of one input: any number of values by their keys. */
export type Outputs<K extends string, V> = readonly (readonly [K, V])[]

/** Pure: what it gives depends on nothing but the input and what it fetches. */
export type Transformation<K extends string, V, OutK extends string, OutV> = (
  fetch: Fetch,
  input: V,
  key: K,
) => Outputs<OutK, OutV>

/** A collection that follows from others. */
export interface Derived<K extends string, V extends NonNullable<unknown>>
  extends Collection<K, V> {
  /** What the transformation threw, by the key of the input it threw for; such an input has no outputs. */
  readonly errors: ReadonlyMap<string, unknown>
}

/** Something that was thrown by a function which a user of the graph gave it. */
export interface GraphFault {
  /** The collection it belongs to. */
  readonly collection: string
  /** The key of the input or value; empty when a listener threw. */
  readonly key: string
  readonly error: unknown
}
