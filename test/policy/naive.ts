// SPDX-License-Identifier: Apache-2.0
// Policies evaluated as their specification reads, sentence by sentence and with no thought of cost: the witness of the product's
// evaluator, with which it shares no code.

import { BlockList } from 'node:net'
import type { Policy, PolicyMatch, PolicyRule, StringMatch } from '../../mesh/model/policy.ts'
import type { PolicyCall } from '../../mesh/policy/types.ts'

export type NaiveTruth = 'yes' | 'no' | 'unknown'

const IDENTITY = /^spiffe:\/\/(?<principal>[^/]+\/ns\/(?<namespace>[^/]+)\/sa\/(?<account>[^/]+))$/

/** Whether a text is as a match wants it. */
export function naiveText(match: StringMatch, text: string): boolean {
  if (match.kind === 'present') return text.length > 0
  if (match.kind === 'exact') return text === match.text
  const at = match.kind === 'prefix' ? 0 : text.length - match.text.length
  return at >= 0 && text.substring(at, at + match.text.length) === match.text
}

/** What Node has said of a range and an address: properties ask for the same few hundreds of thousands of times. */
const known = new Map<string, boolean>()

function naiveRange(range: PolicyMatch['sourceIps'][number], address: string): boolean {
  const family = (text: string): 'ipv4' | 'ipv6' => (text.includes(':') ? 'ipv6' : 'ipv4')
  if (family(range.address) !== family(address)) return false
  const question = `${range.address}/${range.length} ${address}`
  const answer = known.get(question)
  if (answer !== undefined) return answer
  const list = new BlockList()
  list.addSubnet(range.address, range.length, family(range.address))
  const isInside = list.check(address, family(address))
  known.set(question, isInside)
  return isInside
}

/** Fields AND, values OR, of a negation none. */
export function naiveMatch(match: PolicyMatch, call: PolicyCall): NaiveTruth {
  const groups = IDENTITY.exec(call.identity ?? '')?.groups
  const principal = groups?.principal
  const namespace = groups?.namespace ?? ''
  const inPrincipal = (each: StringMatch): boolean =>
    principal !== undefined && naiveText(each, principal)
  const inNamespace = (each: StringMatch): boolean => naiveText(each, namespace)
  const isAccount = (each: PolicyMatch['serviceAccounts'][number]): boolean =>
    each.namespace === groups?.namespace && each.serviceAccount === groups.account
  const fields: readonly (readonly [readonly unknown[], boolean])[] = [
    [match.principals, match.principals.some(inPrincipal)],
    [match.notPrincipals, !match.notPrincipals.some(inPrincipal)],
    [match.namespaces, match.namespaces.some(inNamespace)],
    [match.notNamespaces, !match.notNamespaces.some(inNamespace)],
    [match.serviceAccounts, match.serviceAccounts.some(isAccount)],
    [match.notServiceAccounts, !match.notServiceAccounts.some(isAccount)],
    [match.sourceIps, match.sourceIps.some((each) => naiveRange(each, call.source))],
    [match.notSourceIps, !match.notSourceIps.some((each) => naiveRange(each, call.source))],
    [
      match.destinationIps,
      match.destinationIps.some((each) => naiveRange(each, call.destination.address)),
    ],
    [
      match.notDestinationIps,
      !match.notDestinationIps.some((each) => naiveRange(each, call.destination.address)),
    ],
    [match.destinationPorts, match.destinationPorts.some((each) => each === call.destination.port)],
    [
      match.notDestinationPorts,
      !match.notDestinationPorts.some((each) => each === call.destination.port),
    ],
  ]
  const said = fields.filter(([values]) => values.length > 0)
  if (said.some(([, isTrue]) => !isTrue)) return 'no'
  if (match.isPartlyUnread) return 'unknown'
  return said.length > 0 ? 'yes' : 'no'
}

/** Clauses AND (none: it matches), matches in a clause OR (none: it matches). */
export function naiveRule(rule: PolicyRule, call: PolicyCall): NaiveTruth {
  const clauses = rule.clauses.map(({ matches }) => {
    if (matches.length === 0) return 'yes'
    const truths = matches.map((match) => naiveMatch(match, call))
    if (truths.includes('yes')) return 'yes'
    return truths.includes('unknown') ? 'unknown' : 'no'
  })
  if (clauses.includes('no')) return 'no'
  return clauses.includes('unknown') ? 'unknown' : 'yes'
}

/** What comes of it, and by whom: `denied ns/name#rule`, `allowed`, `notAllowed ns/a ns/b` and so on. */
export function naiveVerdict(policies: readonly Policy[], call: PolicyCall): string {
  const enforced = policies.filter((policy) => !policy.isDryRun && !policy.isAudit)
  const find = (action: Policy['action'], truth: NaiveTruth): string | undefined =>
    enforced
      .filter((policy) => policy.action === action)
      .flatMap((policy) =>
        policy.rules.map((rule, index) => ({ key: policy.key, index, rule }) as const),
      )
      .filter(({ rule }) => naiveRule(rule, call) === truth)
      .map(({ key, index }) => `${key}#${index}`)[0]
  const denied = find('deny', 'yes')
  if (denied !== undefined) return `denied ${denied}`
  const unknown = find('deny', 'unknown')
  if (unknown !== undefined) return `unknown ${unknown}`
  const allowing = enforced.filter(({ action }) => action === 'allow')
  if (allowing.length === 0) return 'allowed'
  const allowed = find('allow', 'yes')
  if (allowed !== undefined) return `allowed ${allowed}`
  return `notAllowed ${allowing.map(({ key }) => key).join(' ')}`
}

/** Of each policy on trial or on record, the first rule that matches. */
export function naiveReports(policies: readonly Policy[], call: PolicyCall): readonly string[] {
  return policies
    .filter((policy) => policy.isDryRun || policy.isAudit)
    .flatMap((policy) => {
      const index = policy.rules.findIndex((rule) => naiveRule(rule, call) === 'yes')
      return index < 0 ? [] : [`${policy.key}#${index}`]
    })
}
