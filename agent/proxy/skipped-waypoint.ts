// SPDX-License-Identifier: Apache-2.0
// Open connections into a pod that has come to be bound to a waypoint: those that have passed none may not stay, lest who holds one
// be free of what the waypoint asks for. What a waypoint has let in stays when the pod is bound to another one, or to none. No I/O.

import type { TrustPolicy } from '../../mesh/identity/trust-policy.ts'
import type { MeshState } from '../../mesh/model/mesh-state.ts'
import type { MeshChange, PodUid, WorkloadUid } from '../../mesh/model/types.ts'
import type { Refusal } from './admission.ts'
import type { Connection } from './connection.ts'
import { provenWaypoint } from './decision/waypoint.ts'
import type { LocalPod } from './local-pod.ts'

/** Those of the pods that are bound, by what has just been told of their workloads. */
export function* podsBoundBy(
  changes: readonly MeshChange[],
  pods: Iterable<{ readonly pod: LocalPod }>,
): Generator<PodUid> {
  const bound = new Set<WorkloadUid>()
  for (const change of changes)
    if (change.kind === 'workload' && change.workload.waypoint !== undefined)
      bound.add(change.workload.uid)
  if (bound.size === 0) return
  for (const { pod } of pods) if (bound.has(pod.workloadUid)) yield pod.uid
}

/** Why a connection that was let into the pod may not stay; undefined where it may. */
export function skippedWaypoint(
  { call, about }: Pick<Connection, 'call' | 'about'>,
  pod: LocalPod,
  mesh: MeshState,
  trust: Pick<TrustPolicy, 'isOneOf'>,
): Refusal | undefined {
  const workload = mesh.workload(pod.workloadUid)
  if (call === undefined || workload?.waypoint === undefined || about.via !== undefined)
    return undefined
  // One that is led back leads to the waypoint.
  if (about.destination.uid !== pod.workloadUid) return undefined
  const { peer, peerIdentity } = call
  if (pod.addresses.includes(peer.address)) return undefined
  // A waypoint of this node that is a pod of the mesh calls without a tunnel.
  if (peerIdentity !== undefined && provenWaypoint(mesh, workload, peerIdentity, trust))
    return undefined
  return {
    kind: 'refuse',
    reason: 'policyChanged',
    message: `workload ${pod.workloadUid} is bound to a waypoint now, and the connection has not passed it`,
    by: undefined,
  }
}
