// SPDX-License-Identifier: Apache-2.0
// Rules found by what a call is: it looks only at those filed under something that it is (rule-filing.ts), and at those of the other
// rules whose class it does not rule out (rule-classes.ts).

import type { Sliced } from '../async/sliced.ts'
import type { Policy, PolicyRule } from '../model/policy.ts'
import type { CallFacts } from './call-facts.ts'
import { ClassSearch } from './class-search.ts'
import type { CompiledRule } from './field-test.ts'
import { type Truth, truthOfRule } from './match.ts'
import { portBit } from './port-masks.ts'
import { classify, type PlaceLists, type RuleClasses, rowOf, USES } from './rule-classes.ts'
import { fileRules } from './rule-filing.ts'
import { ValueIds } from './value-ids.ts'

export interface IndexedRule {
  readonly policy: Policy
  readonly rule: PolicyRule
  readonly compiled: CompiledRule
  /** The bits of the ports at which it may match (portMask). */
  readonly ports: number
}

export interface FoundRule {
  readonly truth: 'yes' | 'unknown'
  readonly rule: IndexedRule
}

const NOWHERE = 0x7fff_ffff

export class RuleIndex {
  readonly #rules: readonly IndexedRule[]
  readonly #ports: Int32Array
  readonly #ids: ValueIds
  readonly #filed: PlaceLists
  readonly #classes: RuleClasses
  readonly #search: ClassSearch
  /** What the last call met, and what classes it left: kept, so that a call allocates nothing. */
  readonly #met: number[] = []
  readonly #left: number[] = []
  #yes = NOWHERE
  #unknown = NOWHERE

  private constructor(
    rules: readonly IndexedRule[],
    ids: ValueIds,
    filed: PlaceLists,
    classes: RuleClasses,
  ) {
    this.#rules = rules
    this.#ports = Int32Array.from(rules, ({ ports }) => ports)
    this.#ids = ids
    this.#filed = filed
    this.#classes = classes
    this.#search = new ClassSearch(classes, ids)
  }

  static *make(rules: readonly IndexedRule[]): Sliced<RuleIndex> {
    const ids = new ValueIds()
    const compiled = rules.map((rule) => rule.compiled)
    yield
    const filed = yield* fileRules(compiled, ids)
    const classes = yield* classify(compiled, filed.unfiled, ids)
    yield* ids.seal(
      (id) => hasAny(filed.starts, id) || hasAny(classes.loose.starts, id) || isCommon(classes, id),
    )
    return new RuleIndex(rules, ids, filed, classes)
  }

  /**
   * The first rule that certainly matches; if there is none, the first of which it cannot be told. Those of policies in `without` are
   * passed over. Hot: once per call and action.
   */
  first(facts: CallFacts, without: ReadonlySet<Policy>): FoundRule | undefined {
    this.#yes = NOWHERE
    this.#unknown = NOWHERE
    this.#meet(facts)
    const { loose, lists, isUnsure } = this.#classes
    for (const id of this.#met) {
      this.#walk(facts, without, this.#filed, id, false)
      this.#walk(facts, without, loose, id, false)
    }
    for (const number of this.#left)
      this.#walk(facts, without, lists, number, isUnsure[number] === 1)
    const truth = this.#yes === NOWHERE ? 'unknown' : 'yes'
    const rule = this.#rules[truth === 'yes' ? this.#yes : this.#unknown]
    return rule === undefined ? undefined : { truth, rule }
  }

  /** All rules that certainly match, in their order. */
  all(facts: CallFacts, without: ReadonlySet<Policy>): readonly IndexedRule[] {
    this.#meet(facts)
    const { loose, lists } = this.#classes
    const maybe = new Set<number>()
    const add = ({ starts, places }: PlaceLists, key: number): void => {
      for (const place of places.subarray(starts[key], starts[key + 1])) maybe.add(place)
    }
    for (const id of this.#met) {
      add(this.#filed, id)
      add(loose, id)
    }
    for (const number of this.#left) add(lists, number)
    return [...maybe]
      .filter((place) => this.#truthOf(place, facts, without) === 'yes')
      .sort((left, right) => left - right)
      .flatMap((place) => this.#rules[place] ?? [])
  }

  #meet(facts: CallFacts): void {
    this.#met.length = 0
    this.#left.length = 0
    this.#ids.find(facts, this.#met)
    this.#search.collect(this.#met, this.#left)
  }

  /** Looks in a list for rules that come before those found already. `isUnsure`: none of it is certain on that account. */
  #walk(
    facts: CallFacts,
    without: ReadonlySet<Policy>,
    { starts, places }: PlaceLists,
    key: number,
    isUnsure: boolean,
  ): void {
    const bit = portBit(facts.port)
    const end = starts[key + 1] ?? 0
    for (let at = starts[key] ?? 0; at < end; at += 1) {
      const place = places[at] ?? NOWHERE
      if (place >= this.#yes || (isUnsure && place >= this.#unknown)) return
      if (((this.#ports[place] ?? 0) & bit) === 0) continue
      this.#look(place, facts, without)
    }
  }

  #look(place: number, facts: CallFacts, without: ReadonlySet<Policy>): void {
    const truth = this.#truthOf(place, facts, without)
    if (truth === 'yes') this.#yes = place
    else if (truth === 'unknown' && place < this.#unknown) this.#unknown = place
  }

  #truthOf(place: number, facts: CallFacts, without: ReadonlySet<Policy>): Truth {
    const rule = this.#rules[place]
    if (rule === undefined) return 'no'
    const truth = truthOfRule(rule.compiled, facts)
    return truth !== 'no' && without.has(rule.policy) ? 'no' : truth
  }
}

/** Whether a list has anything in it. */
function hasAny(starts: Int32Array, key: number): boolean {
  return (starts[key] ?? 0) < (starts[key + 1] ?? 0)
}

/** Whether classes exclude or require a value. */
function isCommon({ offsets }: RuleClasses, id: number): boolean {
  for (let use = 0; use < USES; use += 1) if (offsets.has(rowOf(id, use))) return true
  return false
}
