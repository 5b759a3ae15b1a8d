// SPDX-License-Identifier: Apache-2.0
// A collection that is told what it holds: where the outside world enters a graph.

import { Node } from './node.ts'
import type { Source } from './types.ts'

/** Keeps what it is told until the batch ends. */
export class SourceNode<K extends string, V extends NonNullable<unknown>>
  extends Node<K, V>
  implements Source<K, V>
{
  readonly #entries = new Map<K, V>()
  #pending = new Map<K, V | undefined>()
  #isComplete = false

  get isSynced(): boolean {
    return this.#isComplete
  }

  get size(): number {
    return this.#entries.size
  }

  get(key: K): V | undefined {
    return this.#entries.get(key)
  }

  keys(): Iterable<K> {
    return this.#entries.keys()
  }

  set(key: K, value: V): void {
    this.#note(key, value)
  }

  delete(key: K): void {
    this.#note(key, undefined)
  }

  complete(): void {
    if (this.#isComplete) return
    this.graph.forbidInTransformation(this.name)
    this.#isComplete = true
    this.graph.touch()
  }

  override commit(): void {
    if (this.#pending.size === 0) return
    const pending = this.#pending
    this.#pending = new Map()
    for (const [key, value] of pending) {
      // What was there takes the place of what is there now, for settle().
      pending.set(key, this.#entries.get(key))
      if (value === undefined) this.#entries.delete(key)
      else this.#entries.set(key, value)
    }
    this.settle(pending)
  }

  protected override restore(key: K, value: V): void {
    this.#entries.set(key, value)
  }

  #note(key: K, value: V | undefined): void {
    this.graph.forbidInTransformation(this.name)
    this.#pending.set(key, value)
    this.graph.touch()
  }
}
