// SPDX-License-Identifier: Apache-2.0
// Which policies concern a pod that this agent cannot enforce yet. Calls into such a pod are refused, unless the operator
// has said otherwise: a policy that is silently not there is worse than none. Pure.

import type { MeshState } from '../../../mesh/model/mesh-state.ts'
import type { PolicyKey } from '../../../mesh/model/policy.ts'
import { WHOLE_MESH } from '../../../mesh/model/policy-index.ts'
import type { InboundCall, Judge, Refusal } from '../admission.ts'
import type { LocalPod } from '../local-pod.ts'

/** What becomes of calls into a pod whose policies are not enforced. */
export type UnenforcedPolicies = 'refuse' | 'serve'

/**
 * What istiod makes of PeerAuthentication STRICT without exceptions: always the same rule, nobody without an identity. That
 * one can be enforced. The name cannot be an object's: Kubernetes allows no underscores.
 */
const STRICT = /\/istio_converted_static_strict$/

type Concerned = Pick<LocalPod, 'namespace' | 'workloadUid'>

/** The keys of the policies that concern the pod and are not enforced, those that it names first. */
export function unenforcedPolicies(mesh: MeshState, pod: Concerned): readonly string[] {
  const keys: string[] = []
  for (const key of namedBy(mesh, pod))
    if (!STRICT.test(key) && mesh.policies.get(key as PolicyKey)?.isDryRun !== true) keys.push(key)
  for (const place of [WHOLE_MESH, pod.namespace])
    for (const key of mesh.policies.wide(place))
      if (!keys.includes(key) && mesh.policies.get(key)?.isDryRun !== true) keys.push(key)
  return keys
}

/** The rules for calls into pods by the policies of the mesh; asked after the mesh's own. */
export function policyJudge(mesh: MeshState, mode: UnenforcedPolicies): Judge {
  return (call, pod) => {
    // Hot: for most pods there is no policy at all.
    const strict = strictRefusal(mesh, call, pod)
    if (strict !== undefined || mode === 'serve') return strict
    const [policy] = unenforcedPolicies(mesh, pod)
    return policy === undefined
      ? undefined
      : deny(policy, 'concerns the pod and is not enforced yet (--unenforced-policies)')
  }
}

function strictRefusal(mesh: MeshState, call: InboundCall, pod: Concerned): Refusal | undefined {
  if (call.peerIdentity !== undefined) return undefined
  const strict = namedBy(mesh, pod).find((key) => STRICT.test(key))
  return strict === undefined ? undefined : deny(strict, 'wants mutual TLS (STRICT)')
}

function namedBy(mesh: MeshState, { workloadUid }: Concerned): readonly string[] {
  return mesh.workload(workloadUid)?.authorizationPolicies ?? []
}

function deny(policy: string, why: string): Refusal {
  const by = { policy, rule: undefined, madeOf: `AuthorizationPolicy ${policy}` }
  return { kind: 'refuse', reason: 'policyDenied', message: `policy ${policy} ${why}`, by }
}
