// SPDX-License-Identifier: Apache-2.0
// The workloads of the mesh, from facts about Kubernetes objects. Pure: everything an answer depends on is a parameter.

import type {
  Locality,
  Memberships,
  ServiceKey,
  Workload,
  WorkloadPort,
  WorkloadUid,
} from '../../mesh/model/types.ts'
import type { TranslateConfig } from './config.ts'
import type { Backing } from './endpoint.ts'
import type { ObjectKey } from './origin.ts'
import type { PodFacts } from './pod.ts'
import { serviceKeys, type ServiceFacts } from './service.ts'

/** One list for all workloads: there are no policies yet. */
const NO_POLICIES: readonly string[] = []
const NO_SERVICES: Memberships = new Map()

/** Whether a Service selects a pod of its namespace by labels. */
export function selects(service: ServiceFacts, pod: PodFacts): boolean {
  if (service.selector === undefined) return false
  for (const [label, value] of service.selector)
    if (pod.template.labels.get(label) !== value) return false
  return true
}

/** Whether a pod is a workload: it has an address, and has not ended. */
export function isPresent(pod: PodFacts): boolean {
  return pod.addresses.length > 0 && !pod.hasEnded
}

/** The workload of a pod; `key` is the pod's, as podKey() makes it. */
export function workloadOfPod(
  config: TranslateConfig,
  pod: PodFacts,
  key: ObjectKey,
  locality: Locality,
  services: Memberships,
): Workload {
  const { template } = pod
  return {
    uid: key as string as WorkloadUid,
    name: pod.name,
    namespace: template.namespace,
    addresses: pod.addresses,
    hostname: '',
    network: config.network,
    tunnelProtocol: template.tunnelProtocol,
    trustDomain: config.trustDomain,
    serviceAccount: template.serviceAccount,
    node: pod.node,
    canonicalName: template.canonicalName,
    canonicalRevision: template.canonicalRevision,
    workloadType: template.workloadType,
    workloadName: template.workloadName,
    nativeTunnel: template.nativeTunnel,
    services,
    authorizationPolicies: NO_POLICIES,
    status: pod.isHealthy ? 'healthy' : 'unhealthy',
    clusterId: template.cluster,
    locality,
    foundBy: template.isHostNetwork ? 'service' : 'address',
    waypoint: undefined,
    networkGateway: undefined,
    capacity: 1,
    leaving: NO_SERVICES,
  }
}

/**
 * The workload of the addresses behind an endpoint that are no pod's (the API server, a database outside). It is not
 * found by them, because one may be a node's: only through its Service.
 */
export function workloadOfEndpoint(
  config: TranslateConfig,
  { endpoint, addresses }: Backing,
  locality: Locality,
): Workload | undefined {
  const [first] = addresses
  if (first === undefined) return undefined
  const { cluster, namespace, slice, service } = endpoint
  return {
    uid: `${cluster}/discovery.k8s.io/EndpointSlice/${namespace}/${slice}/${first}` as WorkloadUid,
    name: `${slice}-${first}`,
    namespace,
    addresses: [...new Set(addresses)],
    hostname: '',
    network: config.network,
    tunnelProtocol: 'none',
    trustDomain: config.trustDomain,
    serviceAccount: 'default',
    node: endpoint.node,
    canonicalName: service,
    canonicalRevision: 'latest',
    workloadType: 'pod',
    workloadName: service,
    nativeTunnel: false,
    services: endpoint.memberships,
    authorizationPolicies: NO_POLICIES,
    status: endpoint.isHealthy ? 'healthy' : 'unhealthy',
    clusterId: cluster,
    locality: locality.zone === '' ? { ...locality, zone: endpoint.zone } : locality,
    foundBy: 'service',
    waypoint: undefined,
    networkGateway: undefined,
    capacity: 1,
    leaving: NO_SERVICES,
  }
}

/**
 * What a pod may belong to, in all. Anybody may write Services and slices that lead to any pod, and those of another namespace
 * must not make a pod's resource one that agents refuse for its size, nor the controller hold megabytes for each pod.
 */
const MOST_SERVICES = 1_000
const MOST_PORTS = 10_000

/**
 * The Services of a pod: `selecting` are those that select it, `listed` those whose slices lead to it. Over the bounds those
 * of the pod's own namespace come first.
 */
export function membershipsOf(
  pod: PodFacts,
  selecting: readonly ServiceFacts[],
  listed: readonly Memberships[],
): Memberships {
  const services = new Map<ServiceKey, readonly WorkloadPort[]>()
  let room = MOST_PORTS
  const add = (key: ServiceKey, ports: readonly WorkloadPort[]): void => {
    const known = services.get(key)
    if (ports.length > room || (known === undefined && services.size >= MOST_SERVICES)) return
    // A dual-stack Service lists a pod in a slice per family, with the same ports.
    const more = known === undefined ? ports : portsBeside(known, ports)
    room -= more.length
    services.set(key, known === undefined ? more : [...known, ...more])
  }
  for (const service of selecting) {
    const ports = selectedPorts(service, pod)
    for (const key of serviceKeys(service)) add(key, ports)
  }
  for (const isOwn of [true, false])
    for (const memberships of listed)
      for (const [key, ports] of memberships)
        if (key.startsWith(`${pod.template.namespace}/`) === isOwn) add(key, ports)
  return services
}

function portsBeside(
  known: readonly WorkloadPort[],
  ports: readonly WorkloadPort[],
): readonly WorkloadPort[] {
  const taken = new Set(known.map(({ servicePort }) => servicePort))
  return ports.filter(({ servicePort }) => !taken.has(servicePort))
}

function selectedPorts(service: ServiceFacts, pod: PodFacts): readonly WorkloadPort[] {
  return service.ports.flatMap(({ servicePort, target, appProtocol }) => {
    const targetPort = typeof target === 'number' ? target : pod.template.namedPorts.get(target)
    // A pod without a port of that name does not serve this port: Kubernetes leaves it out, too.
    return targetPort === undefined
      ? []
      : [{ servicePort, targetPort, appProtocol, family: 'any' as const }]
  })
}
