// SPDX-License-Identifier: Apache-2.0
// What the policies that concern a workload say of a call. First match wins in the order in which they were given, so that the same
// policies give the same reason everywhere.

import { finish, type Sliced } from '../async/sliced.ts'
import type { Policy } from '../model/policy.ts'
import { type ActionIndexes, isOnlyReported, makeIndexes } from './action-indexes.ts'
import { type CallFacts, factsOf } from './call-facts.ts'
import type { FoundRule, IndexedRule } from './rule-index.ts'
import type { PolicyCall, PolicyHit, PolicyVerdict } from './types.ts'

/** Policies, compiled. */
interface Compiled {
  /** In their order. */
  readonly policies: ReadonlySet<Policy>
  readonly indexes: ActionIndexes
}

/** What has changed since most policies of a set were compiled. */
interface Overlay {
  readonly indexes: ActionIndexes
  /** Compiled, and in the set no more. */
  readonly gone: ReadonlySet<Policy>
}

/** The policies that concern one workload, compiled. It never changes: a change of policies is another set. */
export class PolicySet {
  readonly #compiled: Compiled
  readonly #overlay: Overlay | undefined
  readonly #policies: readonly Policy[]
  readonly #allowing: readonly Policy[]
  /** Of each policy its place in the set; counted when two indexes have found something. */
  #places: ReadonlyMap<Policy, number> | undefined

  private constructor(policies: readonly Policy[], compiled: Compiled, overlay?: Overlay) {
    this.#policies = policies
    this.#compiled = compiled
    this.#overlay = overlay
    this.#allowing = policies.filter(
      (policy) => policy.action === 'allow' && !isOnlyReported(policy),
    )
  }

  /** @param policies All that concern the workload, and no others, none twice. Takes some 4 us a rule: see `sliced`. */
  static of(policies: readonly Policy[]): PolicySet {
    return finish(PolicySet.sliced(policies))
  }

  /** The same, to be done by and by. */
  static *sliced(policies: readonly Policy[]): Sliced<PolicySet> {
    const indexes = yield* makeIndexes(policies)
    return new PolicySet(policies, { policies: new Set(policies), indexes })
  }

  /**
   * The set of other policies, with what was compiled of this one: takes the time of what is new. Undefined when more rules than `most`
   * have come or gone since this set, or the one that it was made of, was compiled whole, and when those that stay changed places.
   */
  changed(policies: readonly Policy[], most: number): ChangedSet | undefined {
    const before = this.#compiled.policies
    const come: Policy[] = []
    const kept: Policy[] = []
    for (const policy of policies) (before.has(policy) ? kept : come).push(policy)
    const gone = missingOf(before, kept)
    if (gone === undefined) return undefined
    const rules = rulesOf(come) + rulesOf(gone)
    if (rules > most) return undefined
    if (come.length === 0 && gone.size === 0)
      return { rules, set: new PolicySet(policies, this.#compiled) }
    const overlay = { indexes: finish(makeIndexes(come)), gone }
    return { rules, set: new PolicySet(policies, this.#compiled, overlay) }
  }

  /**
   * Says what becomes of a call. A DENY rule that matches, or of which that cannot be told, denies; one that certainly matches is
   * named first. Then, if there are ALLOW policies, one of them must certainly match. Hot: once per call; the bench `admit` watches it.
   */
  evaluate(call: PolicyCall): PolicyVerdict {
    const facts = factsOf(call)
    const deny = this.#first('deny', facts)
    if (deny !== undefined)
      return { kind: deny.truth === 'yes' ? 'denied' : 'unknown', by: hitOf(deny.rule) }
    if (this.#allowing.length === 0) return ALLOWED
    const allow = this.#first('allow', facts)
    return allow?.truth === 'yes'
      ? { kind: 'allowed', by: hitOf(allow.rule) }
      : { kind: 'notAllowed', policies: this.#allowing }
  }

  /** The first rule that certainly matches of each policy that is only on trial (dry run) or on record (AUDIT). */
  reports(call: PolicyCall): readonly PolicyHit[] {
    const { reported } = this.#compiled.indexes
    const changed = this.#overlay?.indexes.reported
    if (reported === undefined && changed === undefined) return NO_HITS
    const facts = factsOf(call)
    const hits = new Map<Policy, PolicyHit>()
    for (const rule of [
      ...(reported?.all(facts, this.#gone) ?? []),
      ...(changed?.all(facts, NONE) ?? []),
    ])
      if (!hits.has(rule.policy)) hits.set(rule.policy, hitOf(rule))
    const found = [...hits.values()]
    return this.#overlay === undefined
      ? found
      : found.sort((left, right) => this.#placeOf(left) - this.#placeOf(right))
  }

  get #gone(): ReadonlySet<Policy> {
    return this.#overlay?.gone ?? NONE
  }

  #first(action: 'deny' | 'allow', facts: CallFacts): FoundRule | undefined {
    const compiled = this.#compiled.indexes[action].first(facts, this.#gone)
    const changed = this.#overlay?.indexes[action].first(facts, NONE)
    if (compiled === undefined || changed === undefined) return compiled ?? changed
    if (compiled.truth !== changed.truth) return compiled.truth === 'yes' ? compiled : changed
    return this.#placeOf(compiled.rule) < this.#placeOf(changed.rule) ? compiled : changed
  }

  #placeOf({ policy }: PolicyHit): number {
    this.#places ??= new Map(this.#policies.map((each, place) => [each, place]))
    return this.#places.get(policy) ?? -1
  }
}

/** A set made of another, and how many rules differ from what was compiled whole: each makes calls and changes a little dearer. */
export interface ChangedSet {
  readonly set: PolicySet
  readonly rules: number
}

const ALLOWED: PolicyVerdict = { kind: 'allowed', by: undefined }
const NO_HITS: readonly PolicyHit[] = []
const NONE: ReadonlySet<Policy> = new Set()

const hitOf = ({ policy, rule }: IndexedRule): PolicyHit => ({ policy, rule })

/** Those that `some` leave out of all; undefined when they are in another order. */
function missingOf(
  all: ReadonlySet<Policy>,
  some: readonly Policy[],
): ReadonlySet<Policy> | undefined {
  const missing = new Set<Policy>()
  let at = 0
  for (const policy of all)
    if (policy === some[at]) at += 1
    else missing.add(policy)
  return at === some.length ? missing : undefined
}

function rulesOf(policies: Iterable<Policy>): number {
  let rules = 0
  for (const policy of policies) rules += policy.rules.length
  return rules
}
