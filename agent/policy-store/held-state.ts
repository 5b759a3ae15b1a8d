// SPDX-License-Identifier: Apache-2.0
// What of the mesh the pods of one node need to be admitted to: their workloads, which say what policies they name, and the policies
// that concern them. Pure.

import type { MeshState } from '../../mesh/model/mesh-state.ts'
import type { NetworkPolicy } from '../../mesh/model/network-policy.ts'
import type { UnreadableNetworkPolicy } from '../../mesh/model/network-policy-index.ts'
import type { Policy, PolicyKey } from '../../mesh/model/policy.ts'
import { type UnreadablePolicy, WHOLE_MESH } from '../../mesh/model/policy-index.ts'
import type { MeshChange, Workload, WorkloadUid } from '../../mesh/model/types.ts'

export interface HeldState {
  readonly workloads: readonly Workload[]
  readonly policies: readonly Policy[]
  /** Policies that concern pods and cannot be read keep them closed after a restart, too. */
  readonly unreadable: readonly UnreadablePolicy[]
  /** And so does what could not be read of their workloads; by workload, with what is wrong with it. */
  readonly unreadableWorkloads: readonly (readonly [WorkloadUid, string])[]
  readonly networkPolicies: readonly NetworkPolicy[]
  readonly unreadableNetwork: readonly UnreadableNetworkPolicy[]
}

/** What of the mesh concerns these workloads; each list in the order of keys, so that the same state is the same bytes. */
export function heldStateOf(
  mesh: MeshState,
  of: Iterable<Workload>,
  unreadableWorkloads: Iterable<readonly [WorkloadUid, string]> = [],
): HeldState {
  const workloads = [...of].sort((one, other) => (one.uid < other.uid ? -1 : 1))
  const keys = new Set<string>()
  for (const place of new Set([WHOLE_MESH, ...workloads.map(({ namespace }) => namespace)]))
    for (const key of mesh.policies.wide(place)) keys.add(key)
  for (const { authorizationPolicies } of workloads)
    for (const key of authorizationPolicies) keys.add(key)
  const sorted = [...keys].sort() as PolicyKey[]
  const network = [...new Set(workloads.flatMap(({ networkPolicies }) => networkPolicies))].sort()
  return {
    workloads,
    policies: sorted.flatMap((key) => mesh.policies.get(key) ?? []),
    unreadable: sorted.flatMap((key) => mesh.policies.unreadable(key) ?? []),
    unreadableWorkloads: [...unreadableWorkloads].sort(([one], [other]) => (one < other ? -1 : 1)),
    networkPolicies: network.flatMap((key) => mesh.networkPolicies.get(key as PolicyKey) ?? []),
    unreadableNetwork: network.flatMap(
      (key) => mesh.networkPolicies.unreadable(key as PolicyKey) ?? [],
    ),
  }
}

/** The changes by which an empty mesh state knows what was held. */
export function changesOfHeld(held: HeldState): MeshChange[] {
  const { workloads, policies, unreadable, unreadableWorkloads } = held
  const { networkPolicies, unreadableNetwork } = held
  return [
    ...networkPolicies.map((policy) => ({ kind: 'networkPolicy', policy }) as const),
    ...unreadableNetwork.map((policy) => ({ kind: 'networkPolicyUnreadable', policy }) as const),
    ...policies.map((policy) => ({ kind: 'policy', policy }) as const),
    ...unreadable.map((policy) => ({ kind: 'policyUnreadable', policy }) as const),
    ...workloads.map((workload) => ({ kind: 'workload', workload }) as const),
    ...unreadableWorkloads.map(
      ([uid, reason]) => ({ kind: 'workloadUnreadable', uid, reason }) as const,
    ),
    { kind: 'policyKnowledge', is: 'held' },
  ]
}
