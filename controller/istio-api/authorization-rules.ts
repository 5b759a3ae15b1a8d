// SPDX-License-Identifier: Apache-2.0
// From an AuthorizationPolicy to the policy that agents enforce. Where something of it cannot be evaluated there, the policy is
// never wider than written: an ALLOW allows less, a DENY denies more. Pure.

import { LONGEST_LIST } from '../../mesh/model/codec/kind.ts'
import type {
  Policy,
  PolicyClause,
  PolicyKey,
  PolicyMatch,
  PolicyRule,
  StringMatch,
} from '../../mesh/model/policy.ts'
import type { TranslateConfig } from '../core/config.ts'
import type { AuthorizationPolicyFacts } from './authorization-policy.ts'
import { areaOf, type PlacedPolicy } from './placed-policy.ts'
import type { RuleFacts } from './rule-reader.ts'

export type Domains = Pick<TranslateConfig, 'trustDomain' | 'trustDomainAliases'>

/** How principals name the mesh's own trust domain, whatever it is called (Istio's rule). */
const OWN_DOMAIN = 'cluster.local'
/**
 * Of a policy on its way to agents, in characters and some for each value: half of what they read. A principal is sent once for each
 * name of the trust domain.
 */
export const LARGEST_POLICY = 1_000_000
const ENTRY_OVERHEAD = 8

/** A rule that everything matches. */
const EVERYTHING: PolicyRule = { clauses: [], place: undefined }

/** Gives the policy, and whom it concerns; undefined when agents have no part in it. */
export function authorizationOf(
  config: TranslateConfig,
  facts: AuthorizationPolicyFacts,
): PlacedPolicy | undefined {
  const { namespace, name, action, target } = facts
  const isAudit = action === 'audit'
  // Waypoints enforce what is attached to one, and only somebody else's service can say what CUSTOM means.
  if (target.kind === 'attached' || action === 'custom') return undefined
  // Nobody can say what such a policy wants on record, and it lets nobody in.
  if (isAudit && (target.kind === 'unreadable' || facts.isCut)) return undefined
  const { area, scope, selector } = areaOf(config.rootNamespace, namespace, target)
  const policy: Policy = {
    key: `${namespace}/${name}` as PolicyKey,
    namespace,
    name,
    scope,
    action: action === 'allow' ? 'allow' : 'deny',
    rules: rulesOf(config, facts),
    // Who does not know of audits sees a policy that denies nothing.
    isDryRun: facts.isDryRun || isAudit,
    isAudit,
    madeOf: '',
  }
  return { policy, area, selector }
}

/** Whether the policy is too large to be sent as it is written; it is closed instead. */
export function isTooLarge(config: Domains, { rules }: AuthorizationPolicyFacts): boolean {
  let size = 0
  for (const { clauses } of rules)
    for (const { matches } of clauses)
      for (const match of matches) {
        if (!isExpansible(config, match)) return true
        size += sizeOf(match, 1 + config.trustDomainAliases.length)
      }
  return size > LARGEST_POLICY
}

function rulesOf(config: TranslateConfig, facts: AuthorizationPolicyFacts): readonly PolicyRule[] {
  const { action, rules, target } = facts
  const isUnsure = facts.isCut || isTooLarge(config, facts)
  if (action === 'allow')
    // A pod of this namespace may be one that it closes for all others, but nobody knows which one it opens.
    return isUnsure || target.kind === 'unreadable'
      ? []
      : rules.filter(({ isPartial }) => !isPartial).map((rule) => ruleOf(config, rule))
  // A denial that cannot be read denies; whoever meant to allow something allows nothing by it, either.
  if (action === undefined || isUnsure) return [EVERYTHING]
  return rules.map((rule) => ruleOf(config, rule))
}

function ruleOf(config: Domains, { place, clauses }: RuleFacts<PolicyMatch>): PolicyRule {
  return { place, clauses: clauses.map((clause) => clauseOf(config, clause)) }
}

function clauseOf(config: Domains, clause: PolicyClause): PolicyClause {
  // Nearly always there is nothing to expand: then nothing is kept twice.
  if (!clause.matches.some((match) => namesDomain(config, match))) return clause
  return {
    matches: clause.matches.map((match) => inAllDomains(config, match)),
  }
}

/** The match with its principals in each name of the mesh's trust domain. */
export function inAllDomains(config: Domains, match: PolicyMatch): PolicyMatch {
  if (!namesDomain(config, match)) return match
  return {
    ...match,
    principals: match.principals.flatMap((each) => expand(config, each)),
    notPrincipals: match.notPrincipals.flatMap((each) => expand(config, each)),
  }
}

/** The principal in each name of the mesh's trust domain, when it is in one of them; others stay as they are. */
function expand(
  { trustDomain, trustDomainAliases }: Domains,
  match: StringMatch,
): readonly StringMatch[] {
  const domain = domainOf(match)
  if (domain === undefined || match.kind === 'present') return [match]
  const domains = new Set([trustDomain, ...trustDomainAliases])
  if (domain !== OWN_DOMAIN && !domains.has(domain)) return [match]
  const rest = match.text.slice(domain.length)
  return [...domains].map((each) => ({ kind: match.kind, text: `${each}${rest}` }))
}

/** The trust domain of a principal that has all of it. */
function domainOf(match: StringMatch): string | undefined {
  if (match.kind !== 'exact' && match.kind !== 'prefix') return undefined
  const slash = match.text.indexOf('/')
  return slash < 0 ? undefined : match.text.slice(0, slash)
}

function namesDomain(config: Domains, match: PolicyMatch): boolean {
  const isOnlyName = config.trustDomainAliases.length === 0 && config.trustDomain === OWN_DOMAIN
  return !isOnlyName && match.principals.length + match.notPrincipals.length > 0
}

/** Whether its principals are few enough to be sent once for each name of the trust domain. */
export function isExpansible({ trustDomainAliases }: Domains, match: PolicyMatch): boolean {
  const longest = Math.max(match.principals.length, match.notPrincipals.length)
  return longest * (1 + trustDomainAliases.length) <= LONGEST_LIST
}

/** What a match takes on the wire, about. */
export function sizeOf(match: PolicyMatch, domains: number): number {
  const text = (total: number, each: StringMatch): number => total + textSize(each)
  const principals = match.notPrincipals.reduce(text, match.principals.reduce(text, 0))
  const namespaces = match.notNamespaces.reduce(text, match.namespaces.reduce(text, 0))
  const accounts = [...match.serviceAccounts, ...match.notServiceAccounts].reduce(
    (total, { namespace, serviceAccount }) =>
      total + 2 * ENTRY_OVERHEAD + namespace.length + serviceAccount.length,
    0,
  )
  const others =
    match.sourceIps.length +
    match.notSourceIps.length +
    match.destinationIps.length +
    match.notDestinationIps.length +
    match.destinationPorts.length +
    match.notDestinationPorts.length
  // An address with its length is some 30 bytes on the wire.
  return principals * domains + namespaces + accounts + others * 4 * ENTRY_OVERHEAD
}

/** What a text takes on the wire, about. */
export function textSize(each: { readonly kind: string; readonly text?: string }): number {
  return ENTRY_OVERHEAD + Buffer.byteLength(each.text ?? '')
}
