// SPDX-License-Identifier: Apache-2.0
// How the mesh follows from the cluster's objects. Nothing is kept in step by hand here: each collection says what it is
// made of, and what it fetches is what it depends on.

import type { Collection, Graph } from '../../mesh/collections/index.ts'
import type {
  MeshNode,
  NodeKey,
  Service,
  ServiceKey,
  Workload,
  WorkloadPort,
  WorkloadUid,
} from '../../mesh/model/types.ts'
import { SharedMaps } from '../reading/sharing.ts'
import type { TranslateConfig } from './config.ts'
import { backingOf, endpointsOf, ownAddresses } from './endpoint.ts'
import type { ObjectCollections } from './input.ts'
import { meshServicesOf } from './mesh-service.ts'
import { meshNodesOf, NOWHERE } from './node.ts'
import { objectKey, podKey } from './origin.ts'
import type { ServiceFacts } from './service.ts'
import { isPresent, membershipsOf, selects, workloadOfEndpoint, workloadOfPod } from './workload.ts'

/** What the mesh consists of. */
export interface MeshCollections {
  readonly services: Collection<ServiceKey, Service>
  /** Pods, and what EndpointSlices list that is no pod. */
  readonly workloads: readonly Collection<WorkloadUid, Workload>[]
  readonly nodes: Collection<NodeKey, MeshNode>
}

/** Cluster-scoped objects have no namespace. */
const CLUSTER_SCOPE = ''

/** Derives the mesh from the facts about Kubernetes objects. */
export function translate(
  graph: Graph,
  objects: ObjectCollections,
  config: TranslateConfig,
): MeshCollections {
  const { Pod: pods, Service: services, EndpointSlice: slices, Node: nodes } = objects
  const shared = new SharedMaps<ServiceKey, readonly WorkloadPort[]>(portsText)
  const podsByAddress = pods.index(ownAddresses)
  const servicesBySelector = services.index(selectorKeys)

  const meshServices = graph.derive('mesh services', services, (fetch, service) => {
    const { cluster, namespace } = service
    const wish = fetch(objects.Namespace, objectKey(cluster, CLUSTER_SCOPE, namespace))
    return meshServicesOf(config, service, wish)
  })

  const endpoints = graph.derive('endpoints', slices, (fetch, slice) => {
    const { cluster, namespace, serviceName } = slice
    const service = fetch(services, objectKey(cluster, namespace, serviceName))
    return service === undefined ? [] : endpointsOf(slice, service)
  })

  const backings = graph.derive('backings of endpoints', endpoints, (fetch, endpoint, key) => {
    const { cluster, namespace, podName } = endpoint
    const named =
      podName === undefined ? undefined : fetch(pods, podKey(cluster, namespace, podName))
    const claimants = endpoint.addresses.flatMap((address) => fetch(podsByAddress, address))
    return [[key, backingOf(endpoint, named, claimants)]]
  })
  const backingsByPod = backings.index((backing) => backing.pods)

  const podWorkloads = graph.derive('workloads of pods', pods, (fetch, pod, key) => {
    if (!isPresent(pod)) return []
    const selecting: ServiceFacts[] = []
    const { template } = pod
    for (const [label, value] of template.labels)
      for (const service of fetch(servicesBySelector, labelKey(template, label, value)))
        if (selects(service, pod)) selecting.push(service)
    const locality =
      fetch(nodes, objectKey(template.cluster, CLUSTER_SCOPE, pod.node))?.locality ?? NOWHERE
    const listed = fetch(backingsByPod, key).map(({ endpoint }) => endpoint.memberships)
    const memberships = shared.share(membershipsOf(pod, sortedByName(selecting), listed))
    const workload = workloadOfPod(config, pod, key, locality, memberships)
    return [[workload.uid, workload]]
  })

  const endpointWorkloads = graph.derive('workloads of endpoints', backings, (fetch, backing) => {
    const { cluster, node } = backing.endpoint
    const locality = fetch(nodes, objectKey(cluster, CLUSTER_SCOPE, node))?.locality ?? NOWHERE
    const workload = workloadOfEndpoint(config, backing, locality)
    return workload === undefined ? [] : [[workload.uid, workload]]
  })

  const meshNodes = graph.derive('mesh nodes', nodes, (_fetch, node) => meshNodesOf(config, node))

  return {
    services: meshServices,
    workloads: [podWorkloads, endpointWorkloads],
    nodes: meshNodes,
  }
}

/**
 * One label of a Service's selector stands for it in the index: a pod that has all of them has this one, so looking up
 * each of a pod's labels finds every Service that may select it, and only those.
 */
function selectorKeys(service: ServiceFacts): readonly string[] {
  let [first] = service.selector ?? []
  if (first === undefined) return []
  for (const entry of service.selector ?? []) if (entry[0] < first[0]) first = entry
  return [labelKey(service, ...first)]
}

function labelKey(
  { cluster, namespace }: { readonly cluster: string; readonly namespace: string },
  label: string,
  value: string,
): string {
  return `${cluster}/${namespace}/${label}=${value}`
}

function portsText(ports: readonly WorkloadPort[]): string {
  let text = ''
  for (const port of ports) text += `${port.servicePort}:${port.targetPort}:${port.appProtocol} `
  return text
}

/** Labels have no order: equal pods must give equal workloads, or versions of resources would flap. */
function sortedByName(services: readonly ServiceFacts[]): readonly ServiceFacts[] {
  return services.length < 2
    ? services
    : [...services].sort((left, right) => (left.name < right.name ? -1 : 1))
}
