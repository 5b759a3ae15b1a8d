// SPDX-License-Identifier: Apache-2.0
// Compiles the policies of one place, over and over as they change, and never keeps the thread: a few at once, many by and by, and of
// many that are compiled already only what has changed.

import { inSlices, type Sliced } from '../../../mesh/async/sliced.ts'
import type { Policy } from '../../../mesh/model/policy.ts'
import { PolicySet } from '../../../mesh/policy/evaluate.ts'

export interface CompileLimits {
  /** So many rules are compiled at once: some 4 us each. */
  readonly atOnce: number
  /** From so many changed rules on, what is in force is compiled whole, in the background. */
  readonly manyChanged: number
  /** More are not laid over what is compiled: their pods wait for the whole. */
  readonly mostChanged: number
}

const COMPILE_LIMITS: CompileLimits = {
  atOnce: 1_000,
  manyChanged: 500,
  mostChanged: 2_000,
}

/** For who asks once, and waits for the answer. */
export const ALL_AT_ONCE: CompileLimits = {
  atOnce: Infinity,
  manyChanged: Infinity,
  mostChanged: Infinity,
}

export class PolicyCompiler {
  readonly #limits: CompileLimits
  readonly #work: (work: Sliced<PolicySet>, done: (set: PolicySet) => void) => void
  /** What was compiled whole last; of no use to few policies. */
  #whole: PolicySet | undefined
  #isAtWork = false
  #onReady: () => void = () => undefined

  /** @param work How long work is done; for tests. */
  constructor(limits: CompileLimits = COMPILE_LIMITS, work = inSlices<PolicySet>) {
    this.#limits = limits
    this.#work = work
  }

  /** Whether it takes more than a moment. */
  isLong(policies: readonly Policy[]): boolean {
    let rules = 0
    for (const policy of policies) rules += policy.rules.length
    return rules > this.#limits.atOnce
  }

  /**
   * The policies, compiled; undefined when that takes a while. `onReady` is called when it is worth asking again, whoever asked before
   * is not told any more.
   */
  compile(policies: readonly Policy[], onReady: () => void): PolicySet | undefined {
    if (!this.isLong(policies)) {
      this.#whole = undefined
      return PolicySet.of(policies)
    }
    this.#onReady = onReady
    const changed = this.#whole?.changed(policies, this.#limits.mostChanged)
    if (changed === undefined || changed.rules > this.#limits.manyChanged) this.#begin(policies)
    return changed?.set
  }

  /** What is at work is not given up for something newer: with changes that keep coming, nothing would ever be ready. */
  #begin(policies: readonly Policy[]): void {
    if (this.#isAtWork) return
    this.#isAtWork = true
    this.#work(PolicySet.sliced(policies), (set) => {
      this.#isAtWork = false
      this.#whole = set
      this.#onReady()
    })
  }
}
