// SPDX-License-Identifier: Apache-2.0
// Policies as the stories of the data plane write them, and the changes that bring them.

import type { LocalPod } from '../../agent/proxy/local-pod.ts'
import {
  EMPTY_MATCH,
  POLICY,
  type Policy,
  type PolicyKey,
  type PolicyMatch,
} from '../../mesh/model/policy.ts'
import type { MeshChange, Workload } from '../../mesh/model/types.ts'
import { workloadOf } from './loopback-world.ts'

/** What istiod and the controller make of PeerAuthentication STRICT without exceptions. */
export const STRICT = 'istio-system/istio_converted_static_strict'

/** A rule for calls that match all of this. */
export function rule(match: Partial<PolicyMatch>, place = 0): Policy['rules'][number] {
  return { clauses: [{ matches: [{ ...EMPTY_MATCH, ...match }] }], place }
}

/** A rule for every call. */
export const EVERYBODY: Policy['rules'][number] = { clauses: [], place: 0 }

/** By service accounts of the namespace shop. */
export const from = (...names: readonly string[]): Partial<PolicyMatch> => ({
  serviceAccounts: names.map((serviceAccount) => ({ namespace: 'shop', serviceAccount })),
})

/** Of workload scope, and ALLOW, unless it is said otherwise. */
function policyOf(key: string, change: Partial<Policy> = {}): Policy {
  const [namespace = '', name = ''] = key.split('/')
  return {
    ...POLICY.zero,
    key: key as PolicyKey,
    namespace,
    name,
    scope: 'workload',
    action: 'allow',
    ...change,
  }
}

export const policy = (key: string, change: Partial<Policy> = {}): MeshChange => ({
  kind: 'policy',
  policy: policyOf(key, change),
})

export const gone = (key: string): MeshChange => ({ kind: 'policyRemoved', key: key as PolicyKey })

export const unreadable = (key: string): MeshChange => ({
  kind: 'policyUnreadable',
  policy: { key: key as PolicyKey, reason: 'rules: garbled', scope: undefined },
})

/** What came of the pod's workload cannot be read. */
export const garbled = (pod: LocalPod): MeshChange => ({
  kind: 'workloadUnreadable',
  uid: pod.workloadUid,
  reason: 'status: unknown value 9',
})

/** The pod's workload, which names these. */
export function naming(
  pod: LocalPod,
  authorizationPolicies: readonly string[],
  change: Partial<Workload> = {},
): MeshChange {
  return { kind: 'workload', workload: workloadOf(pod, { authorizationPolicies, ...change }) }
}

export const strict = (): MeshChange =>
  policy(STRICT, {
    action: 'deny',
    rules: [rule({ notPrincipals: [{ kind: 'present' }] })],
    madeOf: 'PeerAuthentication istio-system/default',
  })

export const KNOWN: MeshChange = { kind: 'policyKnowledge', is: 'current' }
