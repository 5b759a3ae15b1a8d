// SPDX-License-Identifier: Apache-2.0
// Why policies say what they say of a call: every policy with its rules, whether each matches, and what of it does not. For people: it
// is asked by the same functions as calls are, and costs more.

import type { Policy, PolicyMatch, PolicyRule, StringMatch } from '../model/policy.ts'
import { type CallFacts, factsOf } from './call-facts.ts'
import { isOnlyReported } from './action-indexes.ts'
import { type CompiledMatch, compileRule, type MatchField } from './field-test.ts'
import { holds, type Truth, truthOfClause, truthOfMatch, truthOfRule } from './match.ts'
import type { PolicyCall } from './types.ts'

/** What keeps a match of a rule from being true. */
export interface Obstacle {
  /** Places in the rule's clauses, and in the clause's matches. */
  readonly clause: number
  readonly match: number
  /**
   * `field`: it does not hold. `unread`: there are conditions that cannot be read, so it cannot be told. `empty`: the match says nothing,
   * and is passed over.
   */
  readonly kind: 'field' | 'unread' | 'empty'
  /** Of kind `field`. */
  readonly field: MatchField | undefined
  /** What the field asks for. */
  readonly wanted: string
  /** What the call has instead; empty where it has nothing of the sort. */
  readonly had: string
}

export interface ExplainedRule {
  readonly rule: PolicyRule
  readonly truth: Truth
  /** Of each clause that does not match, what keeps each of its matches from it. */
  readonly obstacles: readonly Obstacle[]
}

export interface ExplainedPolicy {
  readonly policy: Policy
  /** False of a dry run, and of AUDIT. */
  readonly isEnforced: boolean
  /** `yes` when one of its rules is, else `unknown` when one of them is. */
  readonly truth: Truth
  readonly rules: readonly ExplainedRule[]
}

/** More values of one field are counted, not told. */
const MOST_VALUES = 8

/** Explains policies in their order. */
export function explain(policies: readonly Policy[], call: PolicyCall): readonly ExplainedPolicy[] {
  const facts = factsOf(call)
  return policies.map((policy) => {
    const rules = policy.rules.map((rule) => explainRule(rule, facts, call))
    const truths = rules.map(({ truth }) => truth)
    return {
      policy,
      isEnforced: !isOnlyReported(policy),
      truth: truths.find((truth) => truth === 'yes') ?? truths.find(isUnknown) ?? 'no',
      rules,
    }
  })
}

const isUnknown = (truth: Truth): boolean => truth === 'unknown'

function explainRule(rule: PolicyRule, facts: CallFacts, call: PolicyCall): ExplainedRule {
  const compiled = compileRule(rule)
  const obstacles = compiled.flatMap((matches, clause) =>
    truthOfClause(matches, facts) === 'yes'
      ? []
      : matches.flatMap((match, index) =>
          obstaclesOf(match, rule.clauses[clause]?.matches[index], facts, call).map((each) => ({
            clause,
            match: index,
            ...each,
          })),
        ),
  )
  return { rule, truth: truthOfRule(compiled, facts), obstacles }
}

function obstaclesOf(
  match: CompiledMatch,
  written: PolicyMatch | undefined,
  facts: CallFacts,
  call: PolicyCall,
): readonly Omit<Obstacle, 'clause' | 'match'>[] {
  const failing = match.tests.filter((test) => !holds(test, facts))
  if (failing.length > 0)
    return failing.map(({ field }) => ({
      kind: 'field',
      ...fieldObstacle(field, written, facts, call),
    }))
  const kind = truthOfMatch(match, facts) === 'unknown' ? 'unread' : 'empty'
  return [{ kind, field: undefined, wanted: '', had: '' }]
}

/** What a field that does not hold asks for, and what there is instead. */
export function fieldObstacle(
  field: MatchField,
  written: PolicyMatch | undefined,
  facts: CallFacts,
  call: PolicyCall,
): Pick<Obstacle, 'wanted' | 'had'> & { readonly field: MatchField } {
  const wanted = written === undefined ? '' : wantedText(field, written)
  return { field, wanted, had: hadText(field, facts, call) }
}

/** The values of a field as its writer knows them: `*` where any text may stand. */
function wantedText(field: MatchField, match: PolicyMatch): string {
  const values = match[field].map((value): string => {
    if (typeof value === 'number') return String(value)
    if ('kind' in value) return stringMatchText(value)
    if ('address' in value) return `${value.address}/${value.length}`
    return `${value.namespace}/${value.serviceAccount}`
  })
  return toldValues(values)
}

/** The first of them, and how many more there are. */
export function toldValues(values: readonly string[]): string {
  const more = values.length - MOST_VALUES
  const told = values.slice(0, MOST_VALUES).join(', ')
  return more > 0 ? `${told} and ${more} more` : told
}

/** A value as its writer knows it. */
export function stringMatchText(match: StringMatch): string {
  switch (match.kind) {
    case 'exact':
      return match.text
    case 'prefix':
      return `${match.text}*`
    case 'suffix':
      return `*${match.text}`
    case 'present':
      return '*'
  }
}

function hadText(field: MatchField, facts: CallFacts, call: PolicyCall): string {
  switch (field) {
    case 'principals':
    case 'notPrincipals':
      return facts.principal
    case 'namespaces':
    case 'notNamespaces':
      return facts.namespace
    case 'serviceAccounts':
    case 'notServiceAccounts':
      return facts.account.replace('/sa/', '/')
    case 'sourceIps':
    case 'notSourceIps':
      return call.source
    case 'destinationIps':
    case 'notDestinationIps':
      return call.destination.address
    case 'destinationPorts':
    case 'notDestinationPorts':
      return String(call.destination.port)
  }
}
