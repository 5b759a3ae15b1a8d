// SPDX-License-Identifier: Apache-2.0
// Rules that another rule of the same action makes superfluous.

import { WHOLE_MESH } from '../../../controller/istio-api/placed-policy.ts'
import type { AccountMatch, PolicyMatch, PolicyRule } from '../../../mesh/model/policy.ts'
import { coversAll, ruleCovers } from '../../../mesh/policy/covers.ts'
import { isOnlyReported } from '../../../mesh/policy/action-indexes.ts'
import { finding, refName } from '../finding.ts'
import type { AuthorizationObject } from '../policies.ts'
import { concernKey } from './concern-key.ts'
import type { Check } from './check.ts'

interface Placed {
  readonly policy: AuthorizationObject
  readonly rule: PolicyRule
  readonly order: number
}

/** Rules with a value in common that one is compared with: more are not looked at, so that many cannot make it slow. */
const MOST_COMPARED = 32
/** Filed under a key of its own, so that no number of others hides it. */
const EVERYTHING = 'everything'
/** Rules by patterns and negations: what they cover need not have a value of theirs. */
const PATTERNS = 'patterns'

export const COVERED_RULE: Check = {
  codes: ['AMB301'],
  needs: ['AuthorizationPolicy'],
  *run({ policies }) {
    const rules = policies.authorizations
      .flatMap(rulesOf)
      .map((each, order) => ({ ...each, order }))
    const wide = new Map<string, Placed[]>()
    for (const each of rules)
      for (const key of coveringKeys(each.rule)) {
        const place = `${groupOf(each.policy)}\n${key}`
        const there = wide.get(place)
        if (there === undefined) wide.set(place, [each])
        else if (there.length < MOST_COMPARED) there.push(each)
      }
    for (const each of rules) {
      const by = coveredBy(each, wide)
      if (by === undefined) continue
      const { policy, rule } = each
      const whose = by.policy === policy ? 'of this policy' : `of ${refName(by.policy)}`
      yield finding(
        'AMB301',
        policy,
        `spec.rules[${rule.place ?? 0}]`,
        `spec.rules[${by.rule.place ?? 0}] ${whose} matches whatever it matches`,
      )
    }
  },
}

/** What agents enforce of it as it is written. */
function rulesOf(policy: AuthorizationObject): readonly Omit<Placed, 'order'>[] {
  const { placed, facts } = policy
  if (placed === undefined || isOnlyReported(placed.policy) || facts.isCut) return []
  // Of a rule that is enforced as another than is written, its writer is told otherwise.
  const whole = new Set(facts.rules.flatMap(({ place, isPartial }) => (isPartial ? [] : [place])))
  return placed.policy.rules
    .filter(({ place }) => place !== undefined && whole.has(place))
    .map((rule) => ({ policy, rule }))
}

/** The first that covers it; of two that cover one another the later one is superfluous. */
function coveredBy(each: Placed, wide: ReadonlyMap<string, readonly Placed[]>): Placed | undefined {
  const keys = [EVERYTHING, ...keysOf(each.rule), PATTERNS]
  for (const group of groupsOf(each.policy))
    for (const key of keys)
      for (const other of wide.get(`${group}\n${key}`) ?? [])
        if (
          other !== each &&
          ruleCovers(other.rule, each.rule) &&
          (other.order < each.order || !ruleCovers(each.rule, other.rule))
        )
          return other
  return undefined
}

function groupOf({ placed }: AuthorizationObject): string {
  return placed === undefined ? '' : `${placed.policy.action}\n${concernKey(placed)}`
}

/** Its own workloads, and those among whom they are. */
function groupsOf(policy: AuthorizationObject): ReadonlySet<string> {
  const { placed } = policy
  if (placed === undefined) return new Set()
  const { area, selector } = placed
  return new Set(
    [
      { area, selector },
      { area, selector: undefined },
      { area: WHOLE_MESH, selector },
      { area: WHOLE_MESH, selector: undefined },
    ].map((whom) => `${placed.policy.action}\n${concernKey(whom)}`),
  )
}

/** What a rule that it covers has one of. */
function coveringKeys(rule: PolicyRule): readonly string[] {
  if (coversAll(rule)) return [EVERYTHING]
  // Any of its clauses would do: the one that fewest others are like.
  const [clause] = rule.clauses
    .filter(({ matches }) => matches.length > 0)
    .map(({ matches }) => matches.map(valuesOf))
    .toSorted((one, other) => one.flat().length - other.flat().length)
  const values = clause?.flat() ?? []
  return clause === undefined || clause.some(({ length }) => length === 0) ? [PATTERNS] : values
}

/** What whoever covers it has among its values, if it has values at all. */
function keysOf({ clauses }: PolicyRule): readonly string[] {
  return clauses.flatMap(({ matches: [first] }) => {
    if (first === undefined) return []
    const [principal] = first.principals
    const [account] = first.serviceAccounts
    const [port] = first.destinationPorts
    return [
      ...(principal?.kind === 'exact' ? [`p ${principal.text}`] : []),
      ...(account === undefined ? [] : [accountKey(account)]),
      ...(port === undefined ? [] : [`d ${port}`]),
    ]
  })
}

/** The values of the first field that has nothing but exact ones. */
function valuesOf({
  principals,
  serviceAccounts,
  destinationPorts,
}: PolicyMatch): readonly string[] {
  const texts = principals.flatMap((each) => (each.kind === 'exact' ? [`p ${each.text}`] : []))
  if (texts.length > 0 && texts.length === principals.length) return texts
  if (serviceAccounts.length > 0) return serviceAccounts.map(accountKey)
  return destinationPorts.map((port) => `d ${port}`)
}

function accountKey({ namespace, serviceAccount }: AccountMatch): string {
  return `a ${namespace}/${serviceAccount}`
}
