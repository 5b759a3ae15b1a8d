// SPDX-License-Identifier: Apache-2.0
// What the policies that concern a workload say of a call. First match wins in the order in which they were given, so that the same
// policies give the same reason everywhere.

import type { Policy } from '../model/policy.ts'
import { factsOf } from './call-facts.ts'
import { compileRule } from './field-test.ts'
import { portMask } from './port-masks.ts'
import { type IndexedRule, RuleIndex } from './rule-index.ts'
import type { PolicyCall, PolicyHit, PolicyVerdict } from './types.ts'

/** The policies that concern one workload, compiled. It never changes: a change of policies is another set. */
export class PolicySet {
  readonly #deny: RuleIndex
  readonly #allow: RuleIndex
  readonly #reported: RuleIndex | undefined
  readonly #allowing: readonly Policy[]

  /** @param policies All that concern the workload, and no others. */
  constructor(policies: readonly Policy[]) {
    const enforced = policies.filter((policy) => !isOnlyReported(policy))
    const reported = policies.filter(isOnlyReported)
    this.#allowing = enforced.filter(({ action }) => action === 'allow')
    this.#deny = indexOf(enforced.filter(({ action }) => action === 'deny'))
    this.#allow = indexOf(this.#allowing)
    this.#reported = reported.length > 0 ? indexOf(reported) : undefined
  }

  /**
   * Says what becomes of a call. A DENY rule that matches, or of which that cannot be told, denies; one that certainly matches is
   * named first. Then, if there are ALLOW policies, one of them must certainly match. Hot: once per call; the bench `admit` watches it.
   */
  evaluate(call: PolicyCall): PolicyVerdict {
    const facts = factsOf(call)
    const deny = this.#deny.first(facts)
    if (deny !== undefined)
      return { kind: deny.truth === 'yes' ? 'denied' : 'unknown', by: hitOf(deny.rule) }
    if (this.#allowing.length === 0) return ALLOWED
    const allow = this.#allow.first(facts)
    return allow?.truth === 'yes'
      ? { kind: 'allowed', by: hitOf(allow.rule) }
      : { kind: 'notAllowed', policies: this.#allowing }
  }

  /** The first rule that certainly matches of each policy that is only on trial (dry run) or on record (AUDIT). */
  reports(call: PolicyCall): readonly PolicyHit[] {
    if (this.#reported === undefined) return NO_HITS
    const hits = new Map<Policy, PolicyHit>()
    for (const rule of this.#reported.all(factsOf(call)))
      if (!hits.has(rule.policy)) hits.set(rule.policy, hitOf(rule))
    return [...hits.values()]
  }
}

const ALLOWED: PolicyVerdict = { kind: 'allowed', by: undefined }
const NO_HITS: readonly PolicyHit[] = []

/** Whoever says audit alone must not be taken for one that enforces. */
export function isOnlyReported({ isDryRun, isAudit }: Policy): boolean {
  return isDryRun || isAudit
}

const hitOf = ({ policy, rule }: IndexedRule): PolicyHit => ({ policy, rule })

/** Compiled once, however many sets a policy is in: those of a namespace's pods share most of theirs. */
const compiledRules = new WeakMap<Policy, readonly IndexedRule[]>()

function indexOf(policies: readonly Policy[]): RuleIndex {
  return new RuleIndex(policies.flatMap(rulesOf))
}

function rulesOf(policy: Policy): readonly IndexedRule[] {
  const known = compiledRules.get(policy)
  if (known !== undefined) return known
  const rules = policy.rules.map((rule) => {
    const compiled = compileRule(rule)
    return { policy, rule, compiled, ports: portMask(compiled) }
  })
  compiledRules.set(policy, rules)
  return rules
}
