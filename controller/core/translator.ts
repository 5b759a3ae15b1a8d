// SPDX-License-Identifier: Apache-2.0
// How the mesh follows from the cluster's objects. Nothing is kept in step by hand here: each collection says what it is
// made of, and what it fetches is what it depends on.

import type { Collection, Fetch, Graph, Index } from '../../mesh/collections/index.ts'
import type {
  IpAddress,
  MeshNode,
  NodeKey,
  Service,
  ServiceKey,
  Workload,
  WorkloadPort,
  WorkloadUid,
} from '../../mesh/model/types.ts'
import type { Policy, PolicyKey } from '../../mesh/model/policy.ts'
import type { WaypointPolicy } from '../../mesh/model/waypoint-policy.ts'
import { deriveWaypointPolicies } from '../istio-api/waypoint-policies.ts'
import { derivePolicies, type PolicyCollections } from '../istio-api/policies.ts'
import type { HttpRoutes } from '../../mesh/model/http-routes.ts'
import type { NetworkPolicy } from '../../mesh/model/network-policy.ts'
import { deriveGatewayStatuses, type GatewayStatusInputs } from '../gateway-api/gateway-statuses.ts'
import {
  deriveOrders,
  deriveOthersGateways,
  type GatewayOwner,
  type WaypointOrder,
} from '../provisioner/waypoint-order.ts'
import { deriveWaypointBindings, type WaypointBindings } from '../gateway-api/waypoint-bindings.ts'
import type { Waypoint } from '../gateway-api/waypoints.ts'
import {
  deriveNetworkPolicies,
  type NetworkPolicyCollections,
  type NetworkStanding,
} from '../network-policy/network-policies.ts'
import { deriveBackendTls } from '../gateway-api/backend-tls.ts'
import { deriveRoutes } from '../gateway-api/routes.ts'
import type { BackendTls } from '../../mesh/model/backend-tls.ts'
import type { BackendTlsStatus } from '../status/backend-tls-status.ts'
import type { PolicyStatus } from '../status/policy-status.ts'
import type { RouteStatus } from '../status/route-status.ts'
import type { ObjectProblem } from '../reading/object-reader.ts'
import { SharedLists, SharedMaps } from '../reading/sharing.ts'
import { externalClaims, judgeExternal, type LostClaims, lostClaims, nodePortKey } from './claim.ts'
import type { MeshSecret, TranslateConfig } from './config.ts'
import type { ObjectCollections } from './input.ts'
import {
  fitnessAt,
  heard,
  isBare,
  isBehind,
  listedAddresses,
  type Listing,
  listingOf,
} from './listing.ts'
import { belongingOf, type Listed } from './membership.ts'
import { meshServicesOf } from './mesh-service.ts'
import { meshNodesOf, NOWHERE } from './node.ts'
import { objectKey, type ObjectKey } from './origin.ts'
import type { PodFacts } from './pod.ts'
import {
  bareAddresses,
  familiesOf,
  isPresent,
  MOST_BARE,
  workloadOfEndpoint,
  workloadOfPod,
} from './workload.ts'

/** What the mesh consists of. */
export interface MeshCollections {
  /** What agents enforce; those that not every workload of a scope has are named by the workloads. */
  readonly policies: readonly Collection<PolicyKey, Policy>[]
  readonly networkPolicies: Collection<PolicyKey, NetworkPolicy>
  /** What is to be said of policy objects. */
  readonly policyStatuses: readonly Collection<ObjectKey, PolicyStatus>[]
  readonly services: Collection<ServiceKey, Service>
  /** Of the clusters' Gateways those that are waypoints, by the keys of their objects. */
  readonly waypoints: Collection<ObjectKey, Waypoint>
  /** What waypoints do with requests to Services. */
  readonly httpRoutes: Collection<string, HttpRoutes>
  /** What they enforce. */
  readonly waypointPolicies: Collection<PolicyKey, WaypointPolicy>
  /** How they speak TLS to pods whose clients do not. */
  readonly backendTls: Collection<string, BackendTls>
  readonly backendTlsStatuses: Collection<ObjectKey, BackendTlsStatus>
  readonly routeStatuses: readonly Collection<ObjectKey, RouteStatus>[]
  /** Pods, and what EndpointSlices list that is no pod. */
  readonly workloads: readonly Collection<WorkloadUid, Workload>[]
  readonly nodes: Collection<NodeKey, MeshNode>
  /** What is to be made of Gateways, and what is to be said of them. */
  readonly waypointOrders: Collection<ObjectKey, WaypointOrder>
  readonly othersGateways: Collection<ObjectKey, GatewayOwner>
  readonly gatewayStatuses: GatewayStatusInputs
  /** What Services claim and do not get. */
  readonly lostClaims: Collection<ObjectKey, LostClaims>
  /** Of Services with more endpoints than count. */
  readonly crowds: Collection<ObjectKey, ObjectProblem>
}

interface WorkloadCollections {
  readonly workloads: readonly Collection<WorkloadUid, Workload>[]
  readonly crowds: Collection<ObjectKey, ObjectProblem>
}

/** Cluster-scoped objects have no namespace. */
const CLUSTER_SCOPE = ''

type PodsByAddress = Index<IpAddress, PodFacts>

/** Derives the mesh from the facts about Kubernetes objects. */
export function translate(
  graph: Graph,
  objects: ObjectCollections,
  config: TranslateConfig,
  secrets: Collection<MeshSecret, string>,
): MeshCollections {
  const podsByAddress = objects.Pod.index((pod) => (isPresent(pod) ? pod.addresses : []))
  const waypoints = deriveWaypointBindings(graph, objects)
  const lost = deriveLostClaims(graph, objects, podsByAddress)
  const services = graph.derive('mesh services', objects.Service, (fetch, service, key) => {
    const { cluster, namespace } = service
    const around = fetch(objects.Namespace, objectKey(cluster, CLUSTER_SCOPE, namespace))
    return meshServicesOf(config, service, {
      distribution: around?.trafficDistribution,
      lost: fetch(lost, key),
      waypoints: waypoints.waypointsOfService(fetch, service),
    })
  })
  const nodes = graph.derive('mesh nodes', objects.Node, (_fetch, node) =>
    meshNodesOf(config, node),
  )
  const ofWaypoints = deriveWaypointPolicies(graph, objects, waypoints, config)
  const policies = derivePolicies(graph, objects, ofWaypoints, config)
  const network = deriveNetworkPolicies(graph, objects)
  const routes = deriveRoutes(graph, objects, waypoints, secrets)
  return {
    policies: policies.policies,
    policyStatuses: policies.statuses,
    waypointPolicies: ofWaypoints.waypointPolicies,
    networkPolicies: network.networkPolicies,
    services,
    nodes,
    waypointOrders: deriveOrders(graph, objects, waypoints.waypoints),
    othersGateways: deriveOthersGateways(graph, objects),
    gatewayStatuses: deriveGatewayStatuses(graph, objects, waypoints),
    lostClaims: lost,
    waypoints: waypoints.waypoints,
    ...routes,
    ...deriveBackendTls(graph, objects, routes.callersOf),
    ...deriveWorkloads(
      graph,
      objects,
      podsByAddress,
      { ...policies, ...network, ...waypoints },
      config,
    ),
  }
}

/** Who says of an address that it is his, and is not believed. */
function deriveLostClaims(
  graph: Graph,
  { Service: services, Node: nodes }: ObjectCollections,
  podsByAddress: PodsByAddress,
): Collection<ObjectKey, LostClaims> {
  const byClusterIp = services.index(({ clusterIps }) => clusterIps.map(({ value }) => value))
  const byExternalIp = services.index((service) =>
    externalClaims(service).map(({ value }) => value),
  )
  const byNodePort = services.index((service) =>
    service.ports.flatMap(({ nodePort }) =>
      nodePort === undefined ? [] : [nodePortKey(service, nodePort)],
    ),
  )
  const nodesByAddress = nodes.index(({ addresses }) => addresses)

  const claimed = graph.derive('claimed addresses', services, (_fetch, service) =>
    externalClaims(service).map(({ value }) => [value, value] as const),
  )
  const verdicts = graph.derive('verdicts on claims', claimed, (fetch, address) => {
    const verdict = judgeExternal(address, {
      clusterIps: fetch(byClusterIp, address),
      external: fetch(byExternalIp, address),
      pods: fetch(podsByAddress, address),
      nodes: fetch(nodesByAddress, address),
    })
    return [[address, verdict]]
  })
  return graph.derive('lost claims', services, (fetch, service, key) => {
    const lost = lostClaims(service, (address) => fetch(verdicts, address), {
      forClusterIp: (address) => fetch(byClusterIp, address),
      forNodePort: (nodePort) => fetch(byNodePort, nodePortKey(service, nodePort)),
    })
    return lost === undefined ? [] : [[key, lost]]
  })
}

/** Pods and bare addresses, with the Services whose slices list them. */
function deriveWorkloads(
  graph: Graph,
  { Pod: pods, Service: services, EndpointSlice: slices, Node: nodes }: ObjectCollections,
  podsByAddress: PodsByAddress,
  {
    namedBy,
    standingOf,
    waypointOfPod,
  }: PolicyCollections & NetworkPolicyCollections & WaypointBindings,
  config: TranslateConfig,
): WorkloadCollections {
  const shared = new SharedMaps<ServiceKey, readonly WorkloadPort[]>(portsText)
  const policies = new SharedLists()
  const shareStanding = ({ policies: named, groups }: NetworkStanding): NetworkStanding => ({
    policies: policies.share(named),
    groups: policies.share(groups),
  })
  const localityOf = (fetch: Fetch, cluster: string, node: string) =>
    fetch(nodes, objectKey(cluster, CLUSTER_SCOPE, node))?.locality ?? NOWHERE
  const claimantsOf =
    (fetch: Fetch, cluster: string, address: IpAddress): (() => readonly PodFacts[]) =>
    () =>
      fetch(podsByAddress, address).filter(({ template }) => template.cluster === cluster)

  const listings = graph.derive('endpoint lists', slices, (fetch, slice, key) => {
    const { cluster, namespace, serviceName } = slice
    const service = fetch(services, objectKey(cluster, namespace, serviceName))
    const listing = service && listingOf(slice, service)
    return listing === undefined ? [] : [[key, listing]]
  })
  const listingsByAddress = listings.index(listedAddresses)
  const listingsByService = listings.index(({ cluster, namespace, service }) => [
    objectKey(cluster, namespace, service),
  ])

  const ofPods = graph.derive('workloads of pods', pods, (fetch, pod, key) => {
    if (!isPresent(pod)) return []
    const { cluster, namespace } = pod.template
    const listed: Listed[] = []
    for (const address of pod.addresses) {
      const claimants = claimantsOf(fetch, cluster, address)
      const ofCluster = fetch(listingsByAddress, address).filter((each) => each.cluster === cluster)
      for (const listing of heard(ofCluster, namespace)) {
        const fitness = fitnessAt(listing, address, (each) => isBehind(pod, each, claimants))
        if (fitness !== 'unfit') listed.push({ listing, fitness })
      }
    }
    const belonging = belongingOf(namespace, familiesOf(pod), listed)
    const workload = workloadOfPod(config, pod, key, localityOf(fetch, cluster, pod.node), {
      services: shared.share(belonging.services),
      leaving: shared.share(belonging.leaving),
      policies: policies.share(namedBy(fetch, pod.template)),
      network: shareStanding(standingOf(fetch, pod.template)),
      waypoint: waypointOfPod(fetch, pod.template),
    })
    return [[workload.uid, workload]]
  })

  const bareOf = (fetch: Fetch, cluster: string, listed: readonly Listing[]) =>
    bareAddresses(listed, (endpoint) =>
      isBare(endpoint, claimantsOf(fetch, cluster, endpoint.address)),
    )
  const ofEndpoints = graph.derive('workloads of endpoints', services, (fetch, service, key) => {
    const { cluster, namespace } = service
    return bareOf(fetch, cluster, fetch(listingsByService, key)).addresses.map((each) => {
      const locality = localityOf(fetch, cluster, each.endpoint.node)
      const belonging = belongingOf(namespace, 1, each.listed)
      const workload = workloadOfEndpoint(config, each, locality, belonging)
      return [workload.uid, workload] as const
    })
  })

  const crowds = graph.derive('crowded services', services, (fetch, service, key) => {
    const listed = fetch(listingsByService, key)
    const count = listed.reduce((sum, { endpoints }) => sum + endpoints.length, 0)
    if (count <= MOST_BARE || !bareOf(fetch, service.cluster, listed).hasMore) return []
    const reason = `more than ${MOST_BARE} are no pods: of these the last slices by name do not count`
    const { namespace, name } = service
    return [[key, { kind: 'Service', namespace, name, field: 'endpoints', reason }]]
  })

  return { workloads: [ofPods, ofEndpoints], crowds }
}

function portsText(ports: readonly WorkloadPort[]): string {
  let text = ''
  for (const { servicePort, targetPort, appProtocol, family } of ports)
    text += `${servicePort}:${targetPort}:${appProtocol}:${family} `
  return text
}
