// SPDX-License-Identifier: Apache-2.0
// A collection that follows from another, input by input, and from whatever its transformation fetches besides.

import { Node } from './node.ts'
import type { Graph } from './graph.ts'
import { Input } from './input.ts'
import { type Read, type SameKeyReader, trackReads } from './readers.ts'
import type { Derived, Fetch, Transformation } from './types.ts'

const NONE: readonly never[] = []

/** Runs the transformation for the inputs that changed, or read something that did, at most once each a commit. */
export class DerivedNode<
    InK extends string,
    In extends NonNullable<unknown>,
    K extends string,
    V extends NonNullable<unknown>,
  >
  extends Node<K, V>
  implements Derived<K, V>, SameKeyReader
{
  readonly errors = new Map<string, unknown>()
  readonly #input: Node<InK, In>
  readonly #transform: Transformation<InK, In, K, V>
  readonly #inputs = new Map<InK, Input<InK, K, V>>()
  /**
   * Whose output lies under a key, unless it is the input of this same key. The values themselves are kept by the inputs.
   */
  readonly #owners = new Map<K, Input<InK, K, V>>()
  /** All inputs that give one key, where they are several: the one that comes first by its own key has it. */
  readonly #rivals = new Map<K, Set<Input<InK, K, V>>>()
  #stale = new Set<Input<InK, K, V>>()
  /** What lay under each touched key before this commit. */
  #touched = new Map<K, V | undefined>()
  #isStarted = false
  /** What the running transformation has fetched. */
  readonly #reads: Read[] = []
  /** The key of the input whose transformation runs; undefined while none does. */
  #asking: InK | undefined

  constructor(
    graph: Graph,
    name: string,
    order: number,
    input: Node<InK, In>,
    transform: Transformation<InK, In, K, V>,
  ) {
    super(graph, name, order)
    this.#input = input
    this.#transform = transform
    input.addFollower(this)
  }

  get isSynced(): boolean {
    return this.#isStarted
  }

  get size(): number {
    let size = 0
    for (const _ of this.keys()) size += 1
    return size
  }

  get(key: K): V | undefined {
    return this.#ownerOf(key)?.output(key)
  }

  *keys(): Iterable<K> {
    yield* this.#owners.keys()
    for (const input of this.#inputs.values()) {
      const key = input.outputUnderOwnKey()
      if (key !== undefined && !this.#owners.has(key)) yield key
    }
  }

  inputChanged(key: InK): void {
    // Before the start nothing is computed: the start takes all inputs there are.
    if (this.#isStarted) this.#stale.add(this.#inputOf(key))
  }

  invalidateInput(key: string): void {
    // An input's key, or there is no input of it.
    const input = this.#inputs.get(key as InK)
    if (input !== undefined) this.#stale.add(input)
  }

  override commit(): void {
    if (!this.#isStarted) {
      if (!this.graph.isSyncedBefore(this.readers.order)) return
      this.#isStarted = true
      for (const key of this.#input.keys()) this.#stale.add(this.#inputOf(key))
    }
    if (this.#stale.size === 0) return
    const stale = this.#stale
    this.#stale = new Set()
    for (const input of stale) this.#recompute(input)
    const touched = this.#touched
    this.#touched = new Map()
    this.settle(touched)
  }

  protected override restore(key: K, value: V): void {
    this.#ownerOf(key)?.replace(key, value)
  }

  #inputOf(key: InK): Input<InK, K, V> {
    const known = this.#inputs.get(key)
    if (known !== undefined) return known
    const input = new Input<InK, K, V>(key, this.#invalidate)
    this.#inputs.set(key, input)
    return input
  }

  readonly #invalidate = (input: Input<InK, K, V>): void => void this.#stale.add(input)

  #recompute(input: Input<InK, K, V>): void {
    const value = this.#input.get(input.key)
    const given = value === undefined ? NONE : this.#run(input, value)
    if (value === undefined) {
      trackReads(input, NONE)
      this.errors.delete(input.key)
    }
    const [sole] = given
    // Hot, watched by bench/discovery.ts: nearly always one output under the key it had before.
    if (given.length === 1 && sole !== undefined && input.hasOnly(sole[0])) {
      this.#touch(sole[0])
      input.replace(sole[0], sole[1])
    } else this.#replaceOutputs(input, new Map(given))
    // Not before: what it has owned until now is found through it.
    if (value === undefined) this.#inputs.delete(input.key)
  }

  #replaceOutputs(input: Input<InK, K, V>, outputs: Map<K, V>): void {
    for (const key of input.outputKeys()) {
      this.#touch(key)
      if (!outputs.has(key)) this.#withdraw(key, input)
    }
    for (const key of outputs.keys()) this.#touch(key)
    input.setOutputs(outputs)
    for (const key of outputs.keys()) this.#claim(key, input)
  }

  #run(input: Input<InK, K, V>, value: In): readonly (readonly [K, V])[] {
    this.#reads.length = 0
    this.#asking = input.key
    this.graph.beginTransformation()
    try {
      const outputs = this.#transform(this.#fetch, value, input.key)
      this.errors.delete(input.key)
      return outputs
    } catch (thrown) {
      // One input's fault is its own: it has no outputs until it, or what it has read, changes.
      this.errors.set(input.key, thrown)
      this.graph.report({ collection: this.name, key: input.key, error: thrown })
      return NONE
    } finally {
      this.graph.endTransformation()
      this.#asking = undefined
      trackReads(input, this.#reads)
    }
  }

  readonly #fetch: Fetch = (from, key) => {
    if (this.#asking === undefined) throw new Error(`${this.name} fetches while it is not asked`)
    // Collections are computed in the order they were made in: a later one is not up to date yet.
    if (from.readers.order >= this.readers.order)
      throw new Error(`${this.name} fetches from a collection that was made after it`)
    if (isSameText(key, this.#asking)) from.readers.readUnderSameKey(this)
    else this.#reads.push(from.readers.read(key))
    return from.get(key)
  }

  #ownerOf(key: K): Input<InK, K, V> | undefined {
    const owner = this.#owners.get(key)
    if (owner !== undefined) return owner
    // An input's key, or there is no input of it.
    const input = this.#inputs.get(key as string as InK)
    return input?.outputUnderOwnKey() === undefined ? undefined : input
  }

  #claim(key: K, input: Input<InK, K, V>): void {
    const owner = this.#ownerOf(key)
    const rivals = this.#rivals.get(key)
    if (rivals !== undefined) {
      rivals.add(input)
      const first = this.#owners.get(key)
      // Not looked for among all: as many may have it as there are objects of a kind.
      if (first === undefined || input.key < first.key) this.#owners.set(key, input)
      return
    }
    if (owner === undefined || owner === input) {
      if (!isSameText(key, input.key)) this.#owners.set(key, input)
      return
    } else this.#rivals.set(key, new Set([owner, input]))
    this.#giveToFirst(key)
  }

  #withdraw(key: K, input: Input<InK, K, V>): void {
    const rivals = this.#rivals.get(key)
    if (rivals?.delete(input) !== true) this.#owners.delete(key)
    else if (rivals.size === 1 || this.#owners.get(key) === input) this.#giveToFirst(key)
  }

  #giveToFirst(key: K): void {
    const rivals = this.#rivals.get(key)
    if (rivals === undefined) return
    let first: Input<InK, K, V> | undefined
    for (const input of rivals) if (first === undefined || input.key < first.key) first = input
    if (first !== undefined) this.#owners.set(key, first)
    if (rivals.size > 1) return
    this.#rivals.delete(key)
    if (first !== undefined && isSameText(key, first.key)) this.#owners.delete(key)
  }

  #touch(key: K): void {
    if (!this.#touched.has(key)) this.#touched.set(key, this.get(key))
  }
}

/** Two kinds of keys, compared as what they are. */
function isSameText(left: string, right: string): boolean {
  return left === right
}
