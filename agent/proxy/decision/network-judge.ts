// SPDX-License-Identifier: Apache-2.0
// What the NetworkPolicies of a pod say of a call into it, and of one that it makes, in the form in which admission asks. Asked is about the
// connection as the app meant it: so neither HBONE, which makes every port 15008, nor a relay inside the node goes past them. Pure.

import { formatSocketAddress } from '../../../mesh/model/address.ts'
import type { MeshState } from '../../../mesh/model/mesh-state.ts'
import type { NetworkPolicy } from '../../../mesh/model/network-policy.ts'
import { clusterOfUid } from '../../../mesh/model/names.ts'
import type { SocketAddress, Workload } from '../../../mesh/model/types.ts'
import { isIsolated, judgeNetwork } from '../../../mesh/policy/network.ts'
import type { DecidedBy } from '../../../mesh/telemetry/connection-record.ts'
import type { InboundCall, Refusal } from '../admission.ts'
import type { LocalPod } from '../local-pod.ts'
import type { PodPolicies } from './pod-policies.ts'
import { gapRefusal, type MissingPolicies } from './policy-judge.ts'
import { named } from '../../../mesh/policy/verdict-words.ts'

/** A call as its pod makes it. */
export interface OutboundCall {
  /** Where it leads: after load balancing, the endpoint. Several where the node chooses among them: it may be any. */
  readonly targets: readonly SocketAddress[]
}

type NetworkPod = Pick<LocalPod, 'workloadUid' | 'addresses'>

const NO_PORTS: readonly never[] = []

/** Why the call into the pod is refused, if it is. Hot: once per call. */
export function ingressRefusal(
  { network }: Pick<PodPolicies, 'network'>,
  { peer, target }: InboundCall,
  pod: NetworkPod,
  mesh: MeshState,
): Refusal | undefined {
  const { policies, namedPorts } = network
  // A pod cannot be kept from itself.
  if (!isIsolated(policies, 'ingress') || pod.addresses.includes(peer.address)) return undefined
  const workload = peerAt(mesh, peer, pod)
  const call = { peer: peer.address, workload, port: target.port, namedPorts }
  const verdict = judgeNetwork(policies, 'ingress', call)
  if (verdict.kind !== 'refused') return undefined
  const from = workload === undefined ? peer.address : nameOf(workload)
  return refusal(verdict.policies, `ingress of port ${target.port} from ${from} is not allowed`)
}

/** Why the pod may not make the call, if it may not; `nowMs` is the monotonic clock. Hot: once per call. */
export function egressRefusal(
  policies: PodPolicies,
  { targets }: OutboundCall,
  pod: NetworkPod,
  mesh: MeshState,
  mode: MissingPolicies,
  nowMs: number,
): Refusal | undefined {
  const { gap, policies: known } = policies.network
  const refused = isIsolated(known, 'egress') ? firstRefused(known, targets, pod, mesh) : undefined
  // What is missing may allow what the others do not: it is waited for.
  return (gap === undefined ? undefined : gapRefusal(policies, gap, mode, nowMs)) ?? refused
}

function firstRefused(
  policies: readonly NetworkPolicy[],
  targets: readonly SocketAddress[],
  pod: NetworkPod,
  mesh: MeshState,
): Refusal | undefined {
  for (const target of targets) {
    if (pod.addresses.includes(target.address)) continue
    const workload = peerAt(mesh, target, pod)
    const verdict = judgeNetwork(policies, 'egress', {
      peer: target.address,
      workload,
      port: target.port,
      namedPorts: workload?.namedPorts ?? NO_PORTS,
    })
    if (verdict.kind !== 'refused') continue
    const to =
      workload === undefined
        ? formatSocketAddress(target)
        : `${nameOf(workload)} port ${target.port}`
    return refusal(verdict.policies, `egress to ${to} is not allowed`)
  }
  return undefined
}

/** The workload at the address, of the pod's own cluster: selectors select no others. */
function peerAt(
  mesh: MeshState,
  { address }: SocketAddress,
  pod: NetworkPod,
): Workload | undefined {
  const workload = mesh.findWorkload(address)
  return workload !== undefined && clusterOfUid(workload.uid) === clusterOfUid(pod.workloadUid)
    ? workload
    : undefined
}

function nameOf({ namespace, name }: Workload): string {
  return `${namespace}/${name}`
}

function refusal(policies: readonly NetworkPolicy[], what: string): Refusal {
  const object = `NetworkPolicy ${named(policies.map(({ key }) => key))}`
  const [first] = policies
  const by: DecidedBy | undefined = first && {
    policy: first.key,
    rule: undefined,
    madeOf: object,
  }
  return { kind: 'refuse', reason: 'policyDenied', message: `${object}: ${what}`, by }
}
