// SPDX-License-Identifier: Apache-2.0
// The policies that an agent has, in istioctl's columns; those on trial, of audit and those that cannot be read say so.

import type { ConfigDump, DumpedNetworkPolicy, DumpedPolicy } from '../dump/config-dump.ts'
import { byTexts, type Table } from './table.ts'

export interface PolicyFilter {
  readonly policyNamespace?: string
}

/** Those that pass, by namespace and name. */
export function policiesOf(
  { policies, networkPolicies = [] }: ConfigDump,
  { policyNamespace }: PolicyFilter,
): readonly DumpedPolicy[] {
  return [...policies, ...networkPolicies.map(asPolicy)]
    .filter(({ namespace }) => policyNamespace === undefined || namespace === policyNamespace)
    .toSorted(byTexts(({ namespace, name }) => [namespace, name]))
}

/** The table of them. */
export function policyTable(dump: ConfigDump, filter: PolicyFilter): Table {
  const unreadable = [...(dump.unreadablePolicies ?? []), ...(dump.unreadableNetworkPolicies ?? [])]
    .map(({ key }) => [key.slice(0, key.indexOf('/')), key.slice(key.indexOf('/') + 1)] as const)
    .filter(
      ([namespace]) => filter.policyNamespace === undefined || namespace === filter.policyNamespace,
    )
  return {
    heading: ['NAMESPACE', 'POLICY NAME', 'ACTION', 'SCOPE'],
    rows: [
      ...policiesOf(dump, filter).map((policy) => [
        policy.namespace,
        policy.name,
        actionOf(policy),
        policy.scope,
      ]),
      ...unreadable.map(([namespace, name]) => [namespace, name, 'unreadable: closed', '-']),
    ],
  }
}

/** Its directions stand for its action. */
function asPolicy({ name, namespace, ingress, egress }: DumpedNetworkPolicy): DumpedPolicy {
  const action = networkDirections(ingress, egress)
  return { name, namespace, action, scope: 'NetworkPolicy' }
}

/** The directions that a NetworkPolicy is about, as its `policyTypes` name them. */
export function networkDirections(ingress: unknown, egress: unknown): string {
  return [ingress && 'Ingress', egress && 'Egress'].filter(Boolean).join(', ') || 'none'
}

function actionOf({ action, audit, dryRun }: DumpedPolicy): string {
  if (audit === true) return 'Audit'
  return dryRun === true ? `${action} (dry run)` : action
}
