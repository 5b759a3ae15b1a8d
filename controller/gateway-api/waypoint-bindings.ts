// SPDX-License-Identifier: Apache-2.0
// The bindings to waypoints, as the translator reads them. What a namespace says is resolved once for all that is in it: a pod that says
// nothing itself reads one answer.

import type { Collection, Fetch, Graph } from '../../mesh/collections/index.ts'
import type { GatewayAddress } from '../../mesh/model/gateway.ts'
import { GATEWAY_NAME_LABEL } from '../../mesh/model/names.ts'
import type { ServiceWaypoints } from '../../mesh/model/service-waypoints.ts'
import type { ObjectCollections } from '../core/input.ts'
import { objectKey, type ObjectKey } from '../core/origin.ts'
import type { PodTemplate } from '../core/pod.ts'
import type { ServiceFacts } from '../core/service.ts'
import {
  type Binding,
  type BindingFacts,
  bindingOf,
  NO_WAYPOINTS,
  serviceWaypoints,
  waypointAddress,
} from './waypoint-binding.ts'
import { useOfUnknown, type WaypointUse } from './waypoint-use.ts'
import {
  deriveWaypointPods,
  deriveWaypoints,
  type Waypoint,
  type WaypointPods,
} from './waypoints.ts'

export interface WaypointBindings {
  readonly waypoints: Collection<ObjectKey, Waypoint>
  readonly pods: Collection<ObjectKey, WaypointPods>
  /** Where agents send a Service's traffic. */
  readonly waypointsOfService: (fetch: Fetch, service: ServiceFacts) => ServiceWaypoints
  /** Where they send what is for a pod by its own address. */
  readonly waypointOfPod: (fetch: Fetch, template: BoundTemplate) => GatewayAddress | undefined
  /** How a Service stands to its waypoint, for its status. */
  readonly bindingOfService: (fetch: Fetch, service: ServiceFacts) => Binding | undefined
}

type BoundTemplate = Pick<PodTemplate, 'cluster' | 'namespace' | 'labels' | 'waypointUse'>

type Place = Pick<PodTemplate, 'cluster' | 'namespace'>

/** Where the traffic of a namespace's objects goes that say nothing themselves. */
interface Inherited {
  readonly service: ServiceWaypoints
  readonly workload: GatewayAddress | undefined
}

const NOTHING: Inherited = { service: NO_WAYPOINTS, workload: undefined }
/** Cluster-scoped objects have no namespace. */
const CLUSTER_SCOPE = ''

/** Derives waypoints and bindings; what is derived after them may ask for its own. */
export function deriveWaypointBindings(graph: Graph, objects: ObjectCollections): WaypointBindings {
  const waypoints = deriveWaypoints(graph, objects)
  const pods = deriveWaypointPods(graph, objects, waypoints)
  const factsOf = (
    fetch: Fetch,
    target: BindingFacts['target'],
    { cluster, namespace }: Place,
    own: WaypointUse | undefined,
  ): BindingFacts => {
    const around = fetch(objects.Namespace, objectKey(cluster, CLUSTER_SCOPE, namespace))
    return {
      target,
      own,
      inherited: around === undefined ? useOfUnknown(cluster, namespace) : around.waypointUse,
      namespace,
      namespaceLabels: around?.labels,
      waypointOf: ({ gateway }) => fetch(waypoints, gateway),
      podsOf: ({ gateway }) => fetch(pods, gateway),
    }
  }
  const addressesIn = (fetch: Fetch, place: Place): Inherited => {
    const service = factsOf(fetch, 'service', place, undefined)
    if (service.inherited?.asked === undefined) return NOTHING
    const workload = factsOf(fetch, 'workload', place, undefined)
    return { service: serviceWaypoints(service), workload: waypointAddress(workload) }
  }
  const inherited = graph.derive(
    'waypoints of namespaces',
    objects.Namespace,
    (fetch, { cluster, name }, key) => [[key, addressesIn(fetch, { cluster, namespace: name })]],
  )
  /** A waypoint's own Service and pods are bound to none: their traffic would go round in circles. */
  const isWaypoints = (fetch: Fetch, cluster: string, namespace: string, gateway?: string) =>
    gateway !== undefined && fetch(waypoints, objectKey(cluster, namespace, gateway)) !== undefined
  const ofNamespace = (fetch: Fetch, { cluster, namespace }: Place): Inherited =>
    fetch(inherited, objectKey(cluster, CLUSTER_SCOPE, namespace)) ??
    addressesIn(fetch, { cluster, namespace })
  return {
    waypoints,
    pods,
    waypointsOfService: (fetch, service) => {
      const { cluster, namespace, name, waypointUse } = service
      if (isWaypoints(fetch, cluster, namespace, name)) return NO_WAYPOINTS
      return waypointUse === undefined
        ? ofNamespace(fetch, service).service
        : serviceWaypoints(factsOf(fetch, 'service', service, waypointUse))
    },
    waypointOfPod: (fetch, template) => {
      const { cluster, namespace, labels, waypointUse } = template
      if (isWaypoints(fetch, cluster, namespace, labels.get(GATEWAY_NAME_LABEL))) return undefined
      return waypointUse === undefined
        ? ofNamespace(fetch, template).workload
        : waypointAddress(factsOf(fetch, 'workload', template, waypointUse))
    },
    bindingOfService: (fetch, service) =>
      isWaypoints(fetch, service.cluster, service.namespace, service.name)
        ? undefined
        : bindingOf(factsOf(fetch, 'service', service, service.waypointUse)),
  }
}
