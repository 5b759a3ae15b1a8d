// SPDX-License-Identifier: Apache-2.0
// A graph of collections: batches changes of the sources, commits each batch through everything that follows from it.

import { DerivedNode } from './derived-node.ts'
import { Node } from './node.ts'
import { SourceNode } from './source-node.ts'
import type { Collection, Derived, GraphFault, Source, Transformation } from './types.ts'

export interface GraphOptions {
  /** Told of everything that a transformation, an index or a listener throws. Nothing of it stops the others. */
  readonly onFault: (fault: GraphFault) => void
}

/**
 * Where collections live. A transformation may fetch from collections that were made before its own, and from no
 * others: the order in which they were made is the order in which a commit goes through them, so that each is computed
 * once and sees nothing half-changed.
 */
export class Graph {
  readonly #options: GraphOptions
  readonly #nodes: Pick<Node<string, NonNullable<unknown>>, 'commit' | 'publish' | 'isSynced'>[] =
    []
  readonly #afterCommit = new Set<() => void>()
  #openBatches = 0
  #isTouched = false
  #isCommitting = false
  #isTransforming = false

  constructor(options: GraphOptions) {
    this.#options = options
  }

  /** Makes a collection that will be told what it holds. `name` is for faults and logs. */
  source<K extends string, V extends NonNullable<unknown>>(name: string): Source<K, V> {
    const node = new SourceNode<K, V>(this, name, this.#nodes.length)
    this.#nodes.push(node)
    return node
  }

  /**
   * Makes a collection of what the transformation gives for each input. It is computed for the first time when all
   * sources made before it are complete. When several inputs give the same key, the input with the first key has it.
   */
  derive<
    InK extends string,
    In extends NonNullable<unknown>,
    K extends string,
    V extends NonNullable<unknown>,
  >(
    name: string,
    input: Collection<InK, In>,
    transform: Transformation<InK, In, K, V>,
  ): Derived<K, V> {
    if (!isNode(input)) throw new Error(`the input of ${name} is not of a graph`)
    const node = new DerivedNode(this, name, this.#nodes.length, input, transform)
    this.#nodes.push(node)
    this.touch()
    return node
  }

  /** Runs `change`, and commits all it did to the sources as one change. */
  batch(change: () => void): void {
    this.#openBatches += 1
    try {
      change()
    } finally {
      this.#openBatches -= 1
      this.touch(this.#isTouched)
    }
  }

  /** Calls back after each commit, when all subscribers have been told; returns the unsubscriber. */
  afterCommit(listener: () => void): () => void {
    this.#afterCommit.add(listener)
    return () => this.#afterCommit.delete(listener)
  }

  /** For collections: whether all sources made before this place are complete. */
  isSyncedBefore(order: number): boolean {
    for (let index = 0; index < order; index += 1)
      if (this.#nodes[index]?.isSynced === false) return false
    return true
  }

  /** For collections: commits what is pending, now or at the end of the batch or commit that is under way. */
  touch(isTouched = true): void {
    this.#isTouched = isTouched
    if (this.#openBatches > 0 || this.#isCommitting) return
    this.#isCommitting = true
    try {
      // Once more when a listener has changed a source.
      while (this.#isTouched) {
        this.#isTouched = false
        for (const node of this.#nodes) node.commit()
        for (const node of this.#nodes) node.publish()
        for (const listener of this.#afterCommit) this.guard('', listener)
      }
    } finally {
      this.#isCommitting = false
    }
  }

  /** For collections: until endTransformation() nothing may be written. */
  beginTransformation(): void {
    this.#isTransforming = true
  }

  /** For collections. */
  endTransformation(): void {
    this.#isTransforming = false
  }

  /** For collections: a transformation that wrote to a source would make the outcome depend on when it runs. */
  forbidInTransformation(source: string): void {
    if (this.#isTransforming) throw new Error(`a transformation changes the source ${source}`)
  }

  /** For collections: runs somebody's listener. */
  guard(collection: string, run: () => void): void {
    try {
      run()
    } catch (thrown) {
      this.report({ collection, key: '', error: thrown })
    }
  }

  /** For collections. */
  report(fault: GraphFault): void {
    this.#options.onFault(fault)
  }
}

function isNode<K extends string, V extends NonNullable<unknown>>(
  collection: Collection<K, V>,
): collection is Node<K, V> {
  return collection instanceof Node
}
