// SPDX-License-Identifier: Apache-2.0
// Turns what discovery says of addresses into changes of the mesh state.

import type { MeshChange, MeshNode, NodeKey, ServiceKey, WorkloadUid } from '../model/types.ts'
import type { Policy, PolicyKey } from '../model/policy.ts'
import { Subscription } from './subscription.ts'
import { ADDRESS, type AddressResource } from './types/address.ts'
import { AUTHORIZATION } from './types/authorization.ts'
import { NODE } from './types/mesh-node.ts'

/**
 * Follows all workloads and services.
 *
 * @example meshSubscription((changes) => state.apply(changes))
 */
export function meshSubscription(
  onChanges: (changes: readonly MeshChange[]) => void,
): Subscription<AddressResource> {
  // A removal carries only a name; this tells which kind it was.
  const serviceNames = new Set<string>()
  return new Subscription(ADDRESS, '*', (resources, removed) => {
    const changes: MeshChange[] = []
    // Removals first: a name that is both removed and sent in one response exists.
    for (const name of removed) {
      if (serviceNames.delete(name))
        changes.push({ kind: 'serviceRemoved', key: name as ServiceKey })
      else changes.push({ kind: 'workloadRemoved', uid: name as WorkloadUid })
    }
    for (const resource of resources) {
      changes.push(resource)
      if (resource.kind === 'service') serviceNames.add(resource.service.key)
    }
    onChanges(changes)
  })
}

/**
 * Follows all nodes, where the control plane has them to offer. To be asked for before the workloads, so that of a control plane
 * that has them node ports are known as soon as Services are.
 */
export function nodeSubscription(
  onChanges: (changes: readonly MeshChange[]) => void,
): Subscription<MeshNode> {
  const apply = (nodes: readonly MeshNode[], removed: readonly string[]): void =>
    onChanges([
      ...removed.map((key) => ({ kind: 'nodeRemoved' as const, key: key as NodeKey })),
      ...nodes.map((node) => ({ kind: 'node' as const, node })),
    ])
  return new Subscription(NODE, '*', apply, { isOptional: true })
}

/**
 * Follows all policies. To be asked for before the workloads, so that no workload is known before what concerns it is. One that cannot be
 * read does not go on as it was: what it demands now is not known.
 */
export function policySubscription(
  onChanges: (changes: readonly MeshChange[]) => void,
): Subscription<Policy> {
  return new Subscription(AUTHORIZATION, '*', (policies, removed, refused) =>
    onChanges([
      ...removed.map((key) => ({ kind: 'policyRemoved' as const, key: key as PolicyKey })),
      ...refused.map(({ name, problem: { field, reason } }) => ({
        kind: 'policyUnreadable' as const,
        policy: { key: name as PolicyKey, reason: `${field}: ${reason}`, scope: undefined },
      })),
      ...policies.map((policy) => ({ kind: 'policy' as const, policy })),
    ]),
  )
}
