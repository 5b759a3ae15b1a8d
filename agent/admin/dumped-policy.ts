// SPDX-License-Identifier: Apache-2.0
// A policy in the shape of Istio's ztunnel: rules, their clauses and matches as nested lists, a text as the kind of its comparison.

import {
  type AddressRange,
  POLICY,
  type Policy,
  type PolicyMatch,
  type StringMatch,
} from '../../mesh/model/policy.ts'

/** The policy as `config_dump` shows it. Beside ztunnel's fields: audit, madeOf, and the places of the rules in their object. */
export function dumpPolicy(policy: Policy): Record<string, unknown> {
  return {
    ...POLICY.dump(policy),
    rules: policy.rules.map(({ clauses }) => clauses.map(({ matches }) => matches.map(dumpMatch))),
    places: policy.rules.map(({ place }) => place ?? null),
  }
}

function dumpMatch(match: PolicyMatch): Record<string, unknown> {
  const dump: Record<string, unknown> = {
    namespaces: match.namespaces.map(dumpText),
    notNamespaces: match.notNamespaces.map(dumpText),
    principals: match.principals.map(dumpText),
    notPrincipals: match.notPrincipals.map(dumpText),
    sourceIps: match.sourceIps.map(dumpRange),
    notSourceIps: match.notSourceIps.map(dumpRange),
    destinationIps: match.destinationIps.map(dumpRange),
    notDestinationIps: match.notDestinationIps.map(dumpRange),
    destinationPorts: match.destinationPorts,
    notDestinationPorts: match.notDestinationPorts,
    serviceAccounts: match.serviceAccounts,
    notServiceAccounts: match.notServiceAccounts,
  }
  for (const [name, values] of Object.entries(dump))
    if (Array.isArray(values) && values.length === 0) delete dump[name]
  return match.isPartlyUnread ? { ...dump, isPartlyUnread: true } : dump
}

function dumpText(match: StringMatch): Record<string, unknown> {
  switch (match.kind) {
    case 'exact':
      return { Exact: match.text }
    case 'prefix':
      return { Prefix: match.text }
    case 'suffix':
      return { Suffix: match.text }
    case 'present':
      return { Presence: {} }
  }
}

function dumpRange({ address, length }: AddressRange): string {
  return `${address}/${length}`
}
