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
import { SharedMaps } from '../reading/sharing.ts'
import { externalClaims, judgeExternal, type LostClaims, lostClaims, nodePortKey } from './claim.ts'
import type { TranslateConfig } from './config.ts'
import type { ObjectCollections } from './input.ts'
import { isBare, isBehind, listedAddresses, listingOf } from './listing.ts'
import { belongingOf, type Listed } from './membership.ts'
import { meshServicesOf } from './mesh-service.ts'
import { meshNodesOf, NOWHERE } from './node.ts'
import { objectKey, type ObjectKey } from './origin.ts'
import type { PodFacts } from './pod.ts'
import { endpointsAt } from './slice.ts'
import {
  bareAddresses,
  familiesOf,
  isPresent,
  workloadOfEndpoint,
  workloadOfPod,
} from './workload.ts'

/** What the mesh consists of. */
export interface MeshCollections {
  readonly services: Collection<ServiceKey, Service>
  /** Pods, and what EndpointSlices list that is no pod. */
  readonly workloads: readonly Collection<WorkloadUid, Workload>[]
  readonly nodes: Collection<NodeKey, MeshNode>
  /** What Services claim and do not get. */
  readonly lostClaims: Collection<ObjectKey, LostClaims>
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
    const wish = fetch(objects.Namespace, objectKey(cluster, CLUSTER_SCOPE, namespace))
    return meshServicesOf(config, service, wish, fetch(lost, key))
  })
  const nodes = graph.derive('mesh nodes', objects.Node, (_fetch, node) =>
    meshNodesOf(config, node),
  )
  const workloads = deriveWorkloads(graph, objects, podsByAddress, config)
  return { services, workloads, nodes, lostClaims: lost }
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
  config: TranslateConfig,
): readonly Collection<WorkloadUid, Workload>[] {
  const shared = new SharedMaps<ServiceKey, readonly WorkloadPort[]>(portsText)
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
      for (const listing of fetch(listingsByAddress, address))
        if (listing.cluster === cluster)
          for (const endpoint of endpointsAt(listing.endpoints, address))
            if (isBehind(pod, endpoint, claimants))
              listed.push({ listing, fitness: endpoint.fitness })
    }
    const belonging = belongingOf(namespace, familiesOf(pod), listed)
    const workload = workloadOfPod(config, pod, key, localityOf(fetch, cluster, pod.node), {
      services: shared.share(belonging.services),
      leaving: shared.share(belonging.leaving),
    })
    return [[workload.uid, workload]]
  })

  const ofEndpoints = graph.derive('workloads of endpoints', services, (fetch, service, key) => {
    const { cluster, namespace } = service
    const bare = bareAddresses(fetch(listingsByService, key), (endpoint) =>
      isBare(endpoint, claimantsOf(fetch, cluster, endpoint.address)),
    )
    return bare.map((each) => {
      const locality = localityOf(fetch, cluster, each.endpoint.node)
      const belonging = belongingOf(namespace, 1, each.listed)
      const workload = workloadOfEndpoint(config, each, locality, belonging)
      return [workload.uid, workload] as const
    })
  })

  return [ofPods, ofEndpoints]
}

function portsText(ports: readonly WorkloadPort[]): string {
  let text = ''
  for (const { servicePort, targetPort, appProtocol, family } of ports)
    text += `${servicePort}:${targetPort}:${appProtocol}:${family} `
  return text
}
