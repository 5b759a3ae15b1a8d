// SPDX-License-Identifier: Apache-2.0
// Which policies concern a pod: those of the whole mesh, those of its namespace, and those that its workload names. Pure.

import type { MeshState } from '../../mesh/model/mesh-state.ts'
import type { Policy, PolicyKey } from '../../mesh/model/policy.ts'
import { WHOLE_MESH } from '../../mesh/model/policy-index.ts'
import type { WorkloadUid } from '../../mesh/model/types.ts'

export interface ConcerningPolicies {
  readonly policies: readonly Policy[]
  /** Why the pod is closed: a policy that has not arrived or cannot be read, or nobody has told yet which there are. */
  readonly gap: string | undefined
}

/** Finds them. */
export function policiesOf(
  mesh: MeshState,
  { namespace, workloadUid }: { readonly namespace: string; readonly workloadUid: WorkloadUid },
): ConcerningPolicies {
  const workload = mesh.workload(workloadUid)
  const keys = new Set<string>([
    ...mesh.policies.wide(WHOLE_MESH),
    ...mesh.policies.wide(namespace),
    ...(workload?.authorizationPolicies ?? []),
  ])
  const policies: Policy[] = []
  let gap: string | undefined
  for (const key of [...keys].sort() as PolicyKey[]) {
    const policy = mesh.policies.get(key)
    const unreadable = mesh.policies.unreadable(key)
    if (policy !== undefined) policies.push(policy)
    else if (unreadable !== undefined) gap ??= `policy ${key} cannot be read: ${unreadable.reason}`
    else gap ??= `policy ${key} has not arrived`
  }
  if (mesh.policies.knowledge === 'unknown')
    gap ??= 'no control plane has told yet which policies there are'
  if (workload === undefined) gap ??= `workload ${workloadUid} is not known yet`
  return { policies, gap }
}
