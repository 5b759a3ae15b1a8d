// SPDX-License-Identifier: Apache-2.0
// The waypoints of the mesh, as a collection: Gateways of a class that is ours. What each is for and whom it takes stands apart from whether
// it is ready, for the one changes when somebody says so, and the other whenever a pod comes or goes.

import type { Collection, Graph } from '../../mesh/collections/index.ts'
import { GATEWAY_NAME_LABEL } from '../../mesh/model/names.ts'
import type { ObjectCollections } from '../core/input.ts'
import { objectKey, type ObjectKey } from '../core/origin.ts'
import { isPresent } from '../core/workload.ts'
import { selects } from '../network-policy/label-selector.ts'
import { isOurs } from './gateway-class.ts'
import { type AllowedNamespaces, isHbone } from './listener.ts'
import { DEFAULT_TRAFFIC, type WaypointTraffic } from './waypoint-traffic.ts'

/** A waypoint, by the key of its Gateway. */
export interface Waypoint {
  readonly namespace: string
  readonly name: string
  readonly traffic: WaypointTraffic
  /** Whose objects may use it; undefined when its listeners are not those of a waypoint, so that there will be none. */
  readonly allowed: AllowedNamespaces | undefined
}

/** What there is of it in the cluster. */
export interface WaypointPods {
  readonly ready: number
  readonly all: number
}

/** Cluster-scoped objects have no namespace. */
const CLUSTER_SCOPE = ''

/** Derives the waypoints; what is derived after them may be bound to them. */
export function deriveWaypoints(
  graph: Graph,
  { Gateway: gateways, GatewayClass: classes }: ObjectCollections,
): Collection<ObjectKey, Waypoint> {
  return graph.derive('waypoints', gateways, (fetch, gateway, key) => {
    const { cluster, namespace, name, className, traffic, listeners } = gateway
    const gatewayClass = fetch(classes, objectKey(cluster, CLUSTER_SCOPE, className))
    if (gatewayClass === undefined || !isOurs(gatewayClass)) return []
    const [listener, another] = listeners
    const isRight = listener !== undefined && another === undefined && isHbone(listener)
    const waypoint: Waypoint = {
      namespace,
      name,
      traffic: traffic ?? gatewayClass.traffic ?? DEFAULT_TRAFFIC,
      allowed: isRight ? listener.allowed : undefined,
    }
    return [[key, waypoint]]
  })
}

/** Counts their pods. */
export function deriveWaypointPods(
  graph: Graph,
  { Pod: pods }: ObjectCollections,
  waypoints: Collection<ObjectKey, Waypoint>,
): Collection<ObjectKey, WaypointPods> {
  const byGateway = pods.index((pod) => {
    const { cluster, namespace, labels } = pod.template
    const name = labels.get(GATEWAY_NAME_LABEL)
    return name === undefined || !isPresent(pod) ? [] : [objectKey(cluster, namespace, name)]
  })
  return graph.derive('pods of waypoints', waypoints, (fetch, _waypoint, key) => {
    const found = fetch(byGateway, key)
    const ready = found.filter(({ isHealthy }) => isHealthy).length
    return [[key, { ready, all: found.length }]]
  })
}

/** Whether objects of a namespace may use the waypoint. `labels` are the namespace's, undefined while it is not known. */
export function admits(
  { namespace: own, allowed }: Pick<Waypoint, 'namespace' | 'allowed'>,
  namespace: string,
  labels: ReadonlyMap<string, string> | undefined,
): boolean {
  switch (allowed?.kind) {
    case 'all':
      return true
    case 'same':
      return namespace === own
    case 'selector':
      return labels !== undefined && selects(allowed.selector, labels)
    case 'none':
    case undefined:
      return false
  }
}
