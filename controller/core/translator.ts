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
import { derivePolicies, type PolicyCollections } from '../istio-api/policies.ts'
import type { PolicyStatus } from '../status/policy-status.ts'
import type { ObjectProblem } from '../reading/object-reader.ts'
import { SharedLists, SharedMaps } from '../reading/sharing.ts'
import { externalClaims, judgeExternal, type LostClaims, lostClaims, nodePortKey } from './claim.ts'
import type { TranslateConfig } from './config.ts'
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
  /** What is to be said of policy objects. */
  readonly policyStatuses: readonly Collection<ObjectKey, PolicyStatus>[]
  readonly services: Collection<ServiceKey, Service>
  /** Pods, and what EndpointSlices list that is no pod. */
  readonly workloads: readonly Collection<WorkloadUid, Workload>[]
  readonly nodes: Collection<NodeKey, MeshNode>
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
): MeshCollections {
  const podsByAddress = objects.Pod.index((pod) => (isPresent(pod) ? pod.addresses : []))
  const lost = deriveLostClaims(graph, objects, podsByAddress)
  const services = graph.derive('mesh services', objects.Service, (fetch, service, key) => {
    const { cluster, namespace } = service
    const around = fetch(objects.Namespace, objectKey(cluster, CLUSTER_SCOPE, namespace))
    return meshServicesOf(config, service, around?.trafficDistribution, fetch(lost, key))
  })
  const nodes = graph.derive('mesh nodes', objects.Node, (_fetch, node) =>
    meshNodesOf(config, node),
  )
  const policies = derivePolicies(graph, objects, config)
  return {
    policies: policies.policies,
    policyStatuses: policies.statuses,
    services,
    nodes,
    lostClaims: lost,
    ...deriveWorkloads(graph, objects, podsByAddress, policies, config),
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
  { namedBy }: PolicyCollections,
  config: TranslateConfig,
): WorkloadCollections {
  const shared = new SharedMaps<ServiceKey, readonly WorkloadPort[]>(portsText)
  const policies = new SharedLists()
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
