// SPDX-License-Identifier: Apache-2.0
// The policies that an agent has, in istioctl's columns; those on trial, of audit and those that cannot be read say so.

import type { WaypointAnswer } from '../cluster/waypoint-dumps.ts'
import type { DumpedTarget, DumpedWaypointPolicy } from '../dump/waypoint-dump.ts'
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

/** A policy of waypoints, and the waypoints that have it. */
type WaypointPolicyRow = DumpedWaypointPolicy & { readonly waypoints: readonly string[] }

/** Those that waypoints enforce and that pass, each once, by namespace and name. */
export function waypointPoliciesOf(
  waypoints: readonly WaypointAnswer[],
  { policyNamespace }: PolicyFilter,
): readonly WaypointPolicyRow[] {
  const found = new Map<string, DumpedWaypointPolicy & { waypoints: string[] }>()
  for (const { namespace, gateway, answer } of waypoints)
    for (const policy of answer.ok ? answer.value.policies : []) {
      if (policyNamespace !== undefined && policy.namespace !== policyNamespace) continue
      const waypoint = `${namespace}/${gateway}`
      const row = found.get(policy.key) ?? { ...policy, waypoints: [] }
      // Of several pods of one waypoint.
      if (!row.waypoints.includes(waypoint)) row.waypoints.push(waypoint)
      found.set(policy.key, row)
    }
  return [...found.values()].toSorted(byTexts(({ namespace, name }) => [namespace, name]))
}

/** Rows of the same table, and those that a waypoint cannot read. */
export function waypointPolicyRows(
  waypoints: readonly WaypointAnswer[],
  filter: PolicyFilter,
): Table['rows'] {
  const unreadable = new Set(
    waypoints.flatMap(({ answer }) =>
      answer.ok ? answer.value.unreadablePolicies.map(({ key }) => key) : [],
    ),
  )
  return [
    ...waypointPoliciesOf(waypoints, filter).map((policy) => [
      policy.namespace,
      policy.name,
      actionOf({
        ...policy,
        action: policy.action === 'deny' ? 'Deny' : 'Allow',
        audit: policy.isAudit,
        dryRun: policy.isDryRun,
      }),
      policy.targets.map(targetText).join(', '),
    ]),
    ...[...unreadable]
      .map((key) => [key.slice(0, key.indexOf('/')), key.slice(key.indexOf('/') + 1)] as const)
      .filter(([of]) => filter.policyNamespace === undefined || of === filter.policyNamespace)
      .map(([namespace, name]) => [namespace, name, 'unreadable: closed', 'waypoints']),
  ]
}

function targetText({ kind, namespace, name }: DumpedTarget): string {
  switch (kind) {
    case 'waypoint':
      return `Gateway ${namespace}/${name}`
    case 'service':
      return `Service ${namespace}/${name}`
    case 'namespace':
      return `waypoints of ${namespace}`
    case 'mesh':
      return 'all waypoints'
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

function actionOf({
  action,
  audit,
  dryRun,
}: Pick<DumpedPolicy, 'action' | 'audit' | 'dryRun'>): string {
  if (audit === true) return 'Audit'
  return dryRun === true ? `${action} (dry run)` : action
}
