// SPDX-License-Identifier: Apache-2.0
// Rules found by what a call is: it looks only at those filed under something that it is (rule-filing.ts), and at those that rule
// nothing out by a value (negations alone, presence).

import type { Policy, PolicyRule } from '../model/policy.ts'
import type { CallFacts } from './call-facts.ts'
import type { CompiledRule } from './field-test.ts'
import { type Truth, truthOfRule } from './match.ts'
import { portBit } from './port-masks.ts'
import { fileRules, type Filing } from './rule-filing.ts'
import { ValueIds } from './value-ids.ts'

export interface IndexedRule {
  readonly policy: Policy
  readonly rule: PolicyRule
  readonly compiled: CompiledRule
  /** The bits of the ports at which it may match (portMask). */
  readonly ports: number
}

const NOWHERE = 0x7fff_ffff

export class RuleIndex {
  readonly #rules: readonly IndexedRule[]
  readonly #ports: Int32Array
  readonly #ids = new ValueIds()
  readonly #filing: Filing
  /** What the last call found: kept, so that a call allocates nothing. */
  readonly #found: number[] = []
  #yes = NOWHERE
  #unknown = NOWHERE

  constructor(rules: readonly IndexedRule[]) {
    this.#rules = rules
    this.#ports = Int32Array.from(rules, ({ ports }) => ports)
    this.#filing = fileRules(
      rules.map(({ compiled }) => compiled),
      this.#ids,
    )
    const { starts } = this.#filing
    this.#ids.seal((id) => (starts[id] ?? 0) < (starts[id + 1] ?? 0))
  }

  /** The first rule that certainly matches; if there is none, the first of which it cannot be told. Hot: once per call and action. */
  first(
    facts: CallFacts,
  ): { readonly truth: 'yes' | 'unknown'; readonly rule: IndexedRule } | undefined {
    const { starts, places, unfiled } = this.#filing
    const found = this.#found
    found.length = 0
    this.#yes = NOWHERE
    this.#unknown = NOWHERE
    this.#ids.find(facts, found)
    for (const id of found) this.#search(facts, places, starts[id] ?? 0, starts[id + 1] ?? 0)
    this.#search(facts, unfiled, 0, unfiled.length)
    const truth = this.#yes === NOWHERE ? 'unknown' : 'yes'
    const rule = this.#rules[truth === 'yes' ? this.#yes : this.#unknown]
    return rule === undefined ? undefined : { truth, rule }
  }

  /** All rules that certainly match, in their order. */
  all(facts: CallFacts): readonly IndexedRule[] {
    const { starts, places, unfiled } = this.#filing
    const found: number[] = []
    this.#ids.find(facts, found)
    const maybe = new Set(unfiled)
    for (const id of found)
      for (const place of places.subarray(starts[id], starts[id + 1])) maybe.add(place)
    return [...maybe]
      .filter((place) => this.#truthOf(place, facts) === 'yes')
      .sort((left, right) => left - right)
      .flatMap((place) => this.#rules[place] ?? [])
  }

  /** Looks for rules that come before those found already. */
  #search(facts: CallFacts, places: Int32Array, from: number, to: number): void {
    const bit = portBit(facts.port)
    for (let at = from; at < to; at += 1) {
      const place = places[at] ?? NOWHERE
      if (place >= this.#yes) return
      if (((this.#ports[place] ?? 0) & bit) === 0) continue
      const truth = this.#truthOf(place, facts)
      if (truth === 'yes') this.#yes = place
      else if (truth === 'unknown' && place < this.#unknown) this.#unknown = place
    }
  }

  #truthOf(place: number, facts: CallFacts): Truth {
    const rule = this.#rules[place]
    return rule === undefined ? 'no' : truthOfRule(rule.compiled, facts)
  }
}
