// SPDX-License-Identifier: Apache-2.0
// What was called and has come to be bound to another waypoint since. What judges calls to it is told to that one, and no more to this: so
// calls that are open here cannot be judged any more. What is bound to none now goes on, for nobody judges calls to it. No I/O.

import type { MeshState } from '../../mesh/model/mesh-state.ts'
import { waypointsOf } from '../../mesh/model/service-waypoints.ts'
import type { GatewayAddress, MeshChange, ServiceKey, WorkloadUid } from '../../mesh/model/types.ts'
import type { Call } from './call.ts'
import type { IsOwn } from './decide-tunnel.ts'

/** Whether what was called is another waypoint's by now. Hot: once a request. */
export function hasMoved(
  mesh: Pick<MeshState, 'service' | 'workload'>,
  isOwn: IsOwn,
  { service, workload }: Pick<Call, 'service' | 'workload'>,
): boolean {
  if (service !== undefined) {
    const present = mesh.service(service.key)
    return present !== undefined && present !== service && isOthers(waypointsOf(present), isOwn)
  }
  const waypoint = workload && mesh.workload(workload.uid)?.waypoint
  return waypoint !== undefined && !isOwn(waypoint)
}

/** What is bound to this waypoint: notices when something moves. */
export class BoundHere {
  readonly #isOwn: IsOwn
  readonly #keys = new Set<ServiceKey | WorkloadUid>()

  constructor(isOwn: IsOwn) {
    this.#isOwn = isOwn
  }

  /** Takes in what has changed; says whether anything that was bound here is another waypoint's now. */
  hasLost(changes: readonly MeshChange[]): boolean {
    let hasLost = false
    for (const change of changes)
      if (change.kind === 'service')
        hasLost = this.#note(change.service.key, waypointsOf(change.service)) || hasLost
      else if (change.kind === 'workload') {
        const { uid, waypoint } = change.workload
        hasLost = this.#note(uid, waypoint === undefined ? [] : [waypoint]) || hasLost
      } else if (change.kind === 'serviceRemoved') this.#keys.delete(change.key)
      else if (change.kind === 'workloadRemoved') this.#keys.delete(change.uid)
    return hasLost
  }

  #note(key: ServiceKey | WorkloadUid, waypoints: readonly GatewayAddress[]): boolean {
    if (waypoints.some(this.#isOwn)) {
      this.#keys.add(key)
      return false
    }
    return this.#keys.delete(key) && isOthers(waypoints, this.#isOwn)
  }
}

function isOthers(waypoints: readonly GatewayAddress[], isOwn: IsOwn): boolean {
  return waypoints.length > 0 && !waypoints.some(isOwn)
}
