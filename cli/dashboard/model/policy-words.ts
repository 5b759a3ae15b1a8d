// SPDX-License-Identifier: Apache-2.0
// The rules of a policy in words. A rule is clauses that must all be true; a clause is matches of which one must be; of a match, each field.

import { count, fields, list, text } from './reading.ts'

/** In the order in which they read well. */
const WORDS: readonly (readonly [string, string])[] = [
  ['principals', 'identity'],
  ['notPrincipals', 'identity not'],
  ['serviceAccounts', 'service account'],
  ['notServiceAccounts', 'service account not'],
  ['namespaces', 'namespace'],
  ['notNamespaces', 'namespace not'],
  ['sourceIps', 'from'],
  ['notSourceIps', 'not from'],
  ['destinationIps', 'to address'],
  ['notDestinationIps', 'not to address'],
  ['destinationPorts', 'to port'],
  ['notDestinationPorts', 'not to port'],
]

/** One line a rule. */
export function policyRules(rules: unknown, places: unknown): readonly string[] {
  return list(rules).map((rule, at) => {
    const clauses = list(rule)
      .map(clauseText)
      .filter((clause) => clause !== '')
    const words = clauses.length === 0 ? 'every connection' : clauses.join(', and ')
    // Where nobody says which rule of the object it is, none is named.
    const place = count(list(places)[at])
    return place === undefined ? words : `rules[${place}]: ${words}`
  })
}

function clauseText(clause: unknown): string {
  const matches = list(clause).map(matchText)
  return matches.some((match) => match === '') ? '' : matches.join(' or ')
}

function matchText(value: unknown): string {
  const match = fields(value)
  const parts = WORDS.flatMap(([field, word]) => {
    // What mutual TLS that is required comes down to.
    if (field === 'notPrincipals' && list(match[field]).some(isPresence))
      return ['callers without an identity']
    const values = list(match[field]).map(valueText)
    return values.length === 0 ? [] : [`${word} ${values.join(' | ')}`]
  })
  if (match['isPartlyUnread'] === true) parts.push('a condition that cannot be read')
  return parts.join(', ')
}

function isPresence(value: unknown): boolean {
  return fields(value)['Presence'] !== undefined
}

function valueText(value: unknown): string {
  if (typeof value === 'string' || typeof value === 'number') return String(value)
  const { Exact, Prefix, Suffix, Presence, namespace, serviceAccount } = fields(value)
  if (Exact !== undefined) return text(Exact)
  if (Prefix !== undefined) return `${text(Prefix)}*`
  if (Suffix !== undefined) return `*${text(Suffix)}`
  if (Presence !== undefined) return '*'
  return `${text(namespace)}/${text(serviceAccount)}`
}
