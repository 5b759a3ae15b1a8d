// SPDX-License-Identifier: Apache-2.0
// Whether whatever one rule matches, another one matches as well. Said only where it is certain; where it is not, or would be costly to
// tell, the answer is no. Pure.

import type {
  AccountMatch,
  AddressRange,
  PolicyClause,
  PolicyMatch,
  PolicyRule,
  StringMatch,
} from '../model/policy.ts'
import { addressBits, sharesBits } from './address-bits.ts'

/** Pairs of values that are compared one by one; what has more is not said to cover anything. */
const MOST_PAIRS = 20_000

/** Whether every call that `narrow` matches, `broad` matches, too. */
export function ruleCovers(broad: PolicyRule, narrow: PolicyRule): boolean {
  return broad.clauses.every(
    (clause) => isAlwaysTrue(clause) || narrow.clauses.some((each) => clauseCovers(clause, each)),
  )
}

/** Whether it matches every call. */
export function coversAll({ clauses }: PolicyRule): boolean {
  return clauses.every(isAlwaysTrue)
}

function isAlwaysTrue({ matches }: PolicyClause): boolean {
  return matches.length === 0
}

function clauseCovers(broad: PolicyClause, narrow: PolicyClause): boolean {
  if (isAlwaysTrue(narrow) || broad.matches.length * narrow.matches.length > MOST_PAIRS)
    return false
  return narrow.matches.every((each) => broad.matches.some((other) => matchCovers(other, each)))
}

function matchCovers(broad: PolicyMatch, narrow: PolicyMatch): boolean {
  // Nobody can tell what of them cannot be read.
  if (broad.isPartlyUnread || narrow.isPartlyUnread) return false
  // A match that says nothing is never true.
  if (saysNothing(broad)) return false
  return (
    within(narrow.principals, broad.principals, stringCovers) &&
    excludes(narrow.notPrincipals, broad.notPrincipals, stringCovers) &&
    (within(narrow.namespaces, broad.namespaces, stringCovers) ||
      within(namespacesOf(narrow), broad.namespaces, stringCovers)) &&
    excludes(narrow.notNamespaces, broad.notNamespaces, stringCovers) &&
    within(narrow.serviceAccounts, broad.serviceAccounts, isSameAccount) &&
    excludes(narrow.notServiceAccounts, broad.notServiceAccounts, isSameAccount) &&
    within(narrow.sourceIps, broad.sourceIps, rangeCovers) &&
    excludes(narrow.notSourceIps, broad.notSourceIps, rangeCovers) &&
    within(narrow.destinationIps, broad.destinationIps, rangeCovers) &&
    excludes(narrow.notDestinationIps, broad.notDestinationIps, rangeCovers) &&
    within(narrow.destinationPorts, broad.destinationPorts, Object.is) &&
    excludes(narrow.notDestinationPorts, broad.notDestinationPorts, Object.is)
  )
}

type Covers<T> = (outer: T, inner: T) => boolean

/** Of a field: each value of the narrower one is one of the broader one, or that asks for nothing. */
function within<T>(narrow: readonly T[], broad: readonly T[], covers: Covers<T>): boolean {
  if (broad.length === 0) return true
  return narrow.length > 0 && eachIsIn(narrow, broad, covers)
}

/** Of a negation: whatever the broader one excludes, the narrower one excludes as well. */
function excludes<T>(narrow: readonly T[], broad: readonly T[], covers: Covers<T>): boolean {
  return eachIsIn(broad, narrow, covers)
}

function eachIsIn<T>(inner: readonly T[], outer: readonly T[], covers: Covers<T>): boolean {
  if (inner.length * outer.length > MOST_PAIRS) return false
  return inner.every((each) => outer.some((other) => covers(other, each)))
}

function saysNothing({ isPartlyUnread: _, ...fields }: PolicyMatch): boolean {
  return Object.values(fields).every(({ length }) => length === 0)
}

/** The namespaces of those whom it names by account or by their whole principal. */
function namespacesOf({ principals, serviceAccounts }: PolicyMatch): readonly StringMatch[] {
  if (serviceAccounts.length > 0)
    return serviceAccounts.map(({ namespace }) => ({ kind: 'exact', text: namespace }))
  const found = principals.map(
    (each) => each.kind === 'exact' && /^[^/]+\/ns\/([^/]+)\/sa\/[^/]+$/.exec(each.text)?.[1],
  )
  // Of one that is not known, nothing is said of any.
  const known = found.filter((text) => typeof text === 'string')
  return known.length < found.length ? [] : known.map((text) => ({ kind: 'exact', text }))
}

function stringCovers(broad: StringMatch, narrow: StringMatch): boolean {
  switch (broad.kind) {
    case 'present':
      return narrow.kind === 'present' || narrow.text !== ''
    case 'exact':
      return narrow.kind === 'exact' && narrow.text === broad.text
    case 'prefix':
      return isOneOf(narrow, 'prefix') && narrow.text.startsWith(broad.text)
    case 'suffix':
      return isOneOf(narrow, 'suffix') && narrow.text.endsWith(broad.text)
  }
}

function isOneOf(
  match: StringMatch,
  kind: 'prefix' | 'suffix',
): match is Exclude<StringMatch, { readonly kind: 'present' }> {
  return match.kind === 'exact' || match.kind === kind
}

function rangeCovers(broad: AddressRange, narrow: AddressRange): boolean {
  return (
    broad.length <= narrow.length &&
    sharesBits(addressBits(broad.address), addressBits(narrow.address), broad.length)
  )
}

function isSameAccount(one: AccountMatch, other: AccountMatch): boolean {
  return one.namespace === other.namespace && one.serviceAccount === other.serviceAccount
}
