// SPDX-License-Identifier: Apache-2.0
// One input of a derived collection, with what came of it. There is one for every pod of a cluster, so it counts what it
// takes: a single output, the usual case, takes no map.

import type { Read, Reader } from './readers.ts'

const NONE: readonly never[] = []

/** What the transformation read for this input, and what it gave. */
export class Input<InK extends string, K extends string, V extends NonNullable<unknown>>
  implements Reader
{
  readonly key: InK
  reads: readonly Read[] = NONE
  readonly #invalidate: (input: Input<InK, K, V>) => void
  #soleKey: K | undefined
  #soleOutput: V | undefined
  #outputs: Map<K, V> | undefined

  constructor(key: InK, invalidate: (input: Input<InK, K, V>) => void) {
    this.key = key
    this.#invalidate = invalidate
  }

  invalidate(): void {
    this.#invalidate(this)
  }

  output(key: K): V | undefined {
    return this.#soleKey === key ? this.#soleOutput : this.#outputs?.get(key)
  }

  /** Whether its one output lies under this key. */
  hasOnly(key: K): boolean {
    return this.#soleKey === key
  }

  /** This input's key, if it has an output under it. */
  outputUnderOwnKey(): K | undefined {
    const key = this.key as string as K
    return this.#soleKey === key || this.#outputs?.has(key) === true ? key : undefined
  }

  outputKeys(): readonly K[] {
    if (this.#soleKey !== undefined) return [this.#soleKey]
    return this.#outputs === undefined ? NONE : [...this.#outputs.keys()]
  }

  setOutputs(outputs: Map<K, V>): void {
    this.#soleKey = undefined
    this.#soleOutput = undefined
    this.#outputs = undefined
    if (outputs.size > 1) this.#outputs = outputs
    else for (const [key, value] of outputs) [this.#soleKey, this.#soleOutput] = [key, value]
  }

  /** Puts an equal value in the place of an output. */
  replace(key: K, value: V): void {
    if (this.#soleKey === key) this.#soleOutput = value
    else this.#outputs?.set(key, value)
  }
}
