// SPDX-License-Identifier: Apache-2.0
// What the policies that concern a workload say of a call. First match wins in the order in which they were given, so that the same
// policies give the same reason everywhere.

import type { Policy, PolicyRule } from '../model/policy.ts'
import { type CallFacts, factsOf } from './call-facts.ts'
import { type CompiledRule, compileRule, truthOfRule } from './match.ts'
import type { PolicyCall, PolicyHit, PolicyVerdict } from './types.ts'

interface Filed {
  readonly policy: Policy
  readonly rule: PolicyRule
  readonly compiled: CompiledRule
}

/** The policies that concern one workload, compiled. It never changes: a change of policies is another set. */
export class PolicySet {
  readonly #deny: readonly Filed[]
  readonly #allow: readonly Filed[]
  readonly #reported: readonly Filed[]
  readonly #allowing: readonly Policy[]

  /** @param policies All that concern the workload, and no others. */
  constructor(policies: readonly Policy[]) {
    // Whoever says audit alone must not be taken for one that enforces.
    const isEnforced = (policy: Policy): boolean => !policy.isDryRun && !policy.isAudit
    const enforced = policies.filter(isEnforced)
    this.#allowing = enforced.filter(({ action }) => action === 'allow')
    this.#deny = filed(enforced.filter(({ action }) => action === 'deny'))
    this.#allow = filed(this.#allowing)
    this.#reported = filed(policies.filter((policy) => !isEnforced(policy)))
  }

  /**
   * Says what becomes of a call. A DENY rule that matches, or of which that cannot be told, denies; one that certainly matches is
   * named first. Then, if there are ALLOW policies, one of them must certainly match. Hot: once per call.
   */
  evaluate(call: PolicyCall): PolicyVerdict {
    const facts = factsOf(call)
    const denied = first(this.#deny, facts, 'yes')
    if (denied !== undefined) return { kind: 'denied', by: denied }
    const unknown = first(this.#deny, facts, 'unknown')
    if (unknown !== undefined) return { kind: 'unknown', by: unknown }
    if (this.#allowing.length === 0) return { kind: 'allowed', by: undefined }
    const allowed = first(this.#allow, facts, 'yes')
    if (allowed !== undefined) return { kind: 'allowed', by: allowed }
    return { kind: 'notAllowed', policies: this.#allowing }
  }

  /** The first rule that certainly matches of each policy that is only on trial (dry run) or on record (AUDIT). */
  reports(call: PolicyCall): readonly PolicyHit[] {
    if (this.#reported.length === 0) return NO_HITS
    const facts = factsOf(call)
    const hits = new Map<Policy, PolicyHit>()
    for (const { policy, rule, compiled } of this.#reported)
      if (!hits.has(policy) && truthOfRule(compiled, facts) === 'yes')
        hits.set(policy, { policy, rule })
    return [...hits.values()]
  }
}

const NO_HITS: readonly PolicyHit[] = []

function filed(policies: readonly Policy[]): readonly Filed[] {
  return policies.flatMap((policy) =>
    policy.rules.map((rule) => ({ policy, rule, compiled: compileRule(rule) })),
  )
}

function first(
  rules: readonly Filed[],
  facts: CallFacts,
  wanted: 'yes' | 'unknown',
): PolicyHit | undefined {
  for (const { policy, rule, compiled } of rules)
    if (truthOfRule(compiled, facts) === wanted) return { policy, rule }
  return undefined
}
