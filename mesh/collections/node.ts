// SPDX-License-Identifier: Apache-2.0
// What sources and derived collections have in common: values, indexes over them, readers, and telling subscribers.

import { isEqual } from './equal.ts'
import type { Graph } from './graph.ts'
import { KeyIndex } from './key-index.ts'
import { Readers } from './readers.ts'
import type { Change, Collection, Index, Listener } from './types.ts'

const NOTHING: readonly never[] = []

interface Subscriber<K extends string, V> {
  readonly listener: Listener<K, V>
  /** It has been called with everything there was. */
  isInformed: boolean
}

/** A collection in its graph. */
export abstract class Node<K extends string, V extends NonNullable<unknown>>
  implements Collection<K, V>
{
  readonly name: string
  readonly readers: Readers
  protected readonly graph: Graph
  readonly #indexes: KeyIndex<string, K, V>[] = []
  readonly #followers: { inputChanged(key: K): void }[] = []
  readonly #subscribers = new Set<Subscriber<K, V>>()
  #changes: readonly Change<K, V>[] = NOTHING
  #hasUninformed = false

  constructor(graph: Graph, name: string, order: number) {
    this.graph = graph
    this.name = name
    this.readers = new Readers(order)
  }

  abstract readonly isSynced: boolean
  /** Takes what is pending into the values; everything this follows from has been committed before. */
  abstract commit(): void

  abstract readonly size: number
  abstract get(key: K): V | undefined
  abstract keys(): Iterable<K>

  *values(): Iterable<V> {
    for (const { current } of this.#everything()) if (current !== undefined) yield current
  }

  index<I extends string>(keysOf: (value: V) => Iterable<I>): Index<I, V> {
    const index = new KeyIndex<I, K, V>(this, keysOf, (key, error) =>
      this.graph.report({ collection: this.name, key, error }),
    )
    for (const change of this.#everything()) index.update(change)
    this.#indexes.push(index)
    return index
  }

  subscribe(listener: Listener<K, V>): () => void {
    const subscriber = { listener, isInformed: false }
    this.#subscribers.add(subscriber)
    this.#hasUninformed = true
    this.graph.touch()
    return () => this.#subscribers.delete(subscriber)
  }

  /** Lets a collection whose inputs these values are know of each that changes. */
  addFollower(follower: { inputChanged(key: K): void }): void {
    this.#followers.push(follower)
  }

  /** Tells the subscribers what the commit has changed. */
  publish(): void {
    const changes = this.#changes
    this.#changes = NOTHING
    if (!this.isSynced || (changes.length === 0 && !this.#hasUninformed)) return
    this.#hasUninformed = false
    for (const subscriber of this.#subscribers) {
      const news = subscriber.isInformed ? changes : this.#everything()
      if (subscriber.isInformed && news.length === 0) continue
      subscriber.isInformed = true
      this.graph.guard(this.name, () => subscriber.listener(news))
    }
  }

  /** Puts back the value that was there before an equal one: what did not change stays the same object. */
  protected abstract restore(key: K, value: V): void

  /**
   * The one place where values are compared: of the keys that were touched in this commit, with what lay under each
   * before, those that differ are passed on to indexes, readers and subscribers.
   */
  protected settle(touched: ReadonlyMap<K, V | undefined>): void {
    const changes: Change<K, V>[] = []
    for (const [key, previous] of touched) {
      const current = this.get(key)
      if (previous === current) continue
      if (previous !== undefined && isEqual(previous, current)) this.restore(key, previous)
      else changes.push({ key, previous, current })
    }
    for (const change of changes) {
      for (const index of this.#indexes) index.update(change)
      this.readers.invalidate(change.key)
      for (const follower of this.#followers) follower.inputChanged(change.key)
    }
    this.#changes = changes
  }

  #everything(): readonly Change<K, V>[] {
    return Array.from(this.keys(), (key) => ({ key, previous: undefined, current: this.get(key) }))
  }
}
