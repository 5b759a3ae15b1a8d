// SPDX-License-Identifier: Apache-2.0
// The rules of some policies by what becomes of a call that they match.

import type { Sliced } from '../async/sliced.ts'
import type { Policy } from '../model/policy.ts'
import { compileRule } from './field-test.ts'
import { portMask } from './port-masks.ts'
import { type IndexedRule, RuleIndex } from './rule-index.ts'

export interface ActionIndexes {
  readonly deny: RuleIndex
  readonly allow: RuleIndex
  /** Undefined where nothing is only reported. */
  readonly reported: RuleIndex | undefined
}

/** Whoever says audit alone must not be taken for one that enforces. */
export function isOnlyReported({ isDryRun, isAudit }: Policy): boolean {
  return isDryRun || isAudit
}

export function* makeIndexes(policies: readonly Policy[]): Sliced<ActionIndexes> {
  const enforced = policies.filter((policy) => !isOnlyReported(policy))
  const reported = policies.filter(isOnlyReported)
  return {
    deny: yield* indexOf(enforced.filter(({ action }) => action === 'deny')),
    allow: yield* indexOf(enforced.filter(({ action }) => action === 'allow')),
    reported: reported.length === 0 ? undefined : yield* indexOf(reported),
  }
}

/** Between two breaks. */
const RULES_A_STEP = 128

/** Compiled once, however many sets a policy is in: those of a namespace's pods share most of theirs. */
const compiledRules = new WeakMap<Policy, readonly IndexedRule[]>()

function* indexOf(policies: readonly Policy[]): Sliced<RuleIndex> {
  const rules: IndexedRule[] = []
  for (const policy of policies) for (const rule of yield* rulesOf(policy)) rules.push(rule)
  return yield* RuleIndex.make(rules)
}

function* rulesOf(policy: Policy): Sliced<readonly IndexedRule[]> {
  const known = compiledRules.get(policy)
  if (known !== undefined) return known
  const rules: IndexedRule[] = []
  for (const rule of policy.rules) {
    const compiled = compileRule(rule)
    rules.push({ policy, rule, compiled, ports: portMask(compiled) })
    if (rules.length % RULES_A_STEP === 0) yield
  }
  yield
  compiledRules.set(policy, rules)
  return rules
}
