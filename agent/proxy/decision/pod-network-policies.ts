// SPDX-License-Identifier: Apache-2.0
// Which NetworkPolicies a pod has, as far as they are known, and what changes of the mesh touch of them. Pure.

import type { MeshState } from '../../../mesh/model/mesh-state.ts'
import type { NetworkPolicy } from '../../../mesh/model/network-policy.ts'
import type { PolicyKey } from '../../../mesh/model/policy.ts'
import type { MeshChange, Workload } from '../../../mesh/model/types.ts'
import type { PodNetwork } from './pod-policies.ts'
import type { PolicyGap } from './policy-layers.ts'

/** Of a pod that nobody has told of yet. */
const UNTOLD = {
  kind: 'unknown',
  key: undefined,
  message: 'network policies of the pod are not known yet',
} as const

/** Finds them; `said` is what the pod's workload says, undefined where discovery has not told of it. */
export function podNetwork(
  { networkPolicies, policies: { knowledge } }: MeshState,
  namespace: string,
  said: Pick<Workload, 'networkPolicies' | 'namedPorts'> | undefined,
): PodNetwork {
  if (said === undefined) {
    // Policies come before the workloads that name them: where the namespace has none, none can select the pod.
    const isOpen = knowledge === 'current' && !networkPolicies.mayHoldBack(namespace)
    return { policies: [], namedPorts: [], gap: isOpen ? undefined : UNTOLD }
  }
  const policies: NetworkPolicy[] = []
  let gap: PolicyGap | undefined
  for (const name of said.networkPolicies) {
    const key = name as PolicyKey
    const policy = networkPolicies.get(key)
    const unreadable = networkPolicies.unreadable(key)
    const madeOf = `NetworkPolicy ${key}`
    if (policy !== undefined) policies.push(policy)
    // One that cannot be read will not be by waiting for it: it is named first.
    else if (unreadable !== undefined)
      gap = {
        kind: 'unreadable',
        key,
        madeOf,
        message: `${madeOf} cannot be read: ${unreadable.reason}`,
      }
    else gap ??= { kind: 'missing', key, madeOf, message: `${madeOf} is named and has not arrived` }
  }
  return { policies, namedPorts: said.namedPorts, gap }
}

/** NetworkPolicies that have changed. */
export interface TouchedNetwork {
  readonly keys: ReadonlySet<string>
  readonly namespaces: ReadonlySet<string>
}

export function touchedNetworkPolicies(changes: readonly MeshChange[]): TouchedNetwork {
  const keys = new Set<string>()
  for (const change of changes)
    if (change.kind === 'networkPolicy' || change.kind === 'networkPolicyUnreadable')
      keys.add(change.policy.key)
    else if (change.kind === 'networkPolicyRemoved') keys.add(change.key)
  const namespaces = new Set([...keys].map((key) => key.slice(0, Math.max(0, key.indexOf('/')))))
  return { keys, namespaces }
}
