// SPDX-License-Identifier: Apache-2.0
// From facts about Kubernetes objects to workloads and services of the mesh. Pure: everything an answer depends on is a
// parameter, which is what lets the translator recompute only what an event touches.

import { podWorkloadUid } from '../../mesh/model/names.ts'
import { isIpv4Address } from '../../mesh/model/address.ts'
import type {
  Locality,
  Service,
  ServiceKey,
  Workload,
  WorkloadPort,
  WorkloadUid,
} from '../../mesh/model/types.ts'
import type { TranslateConfig } from './config.ts'
import type { PodFacts } from './pod-facts.ts'
import type { ServiceFacts } from './service-facts.ts'
import type { SliceEndpoint, SliceFacts } from './slice-facts.ts'
import { loadBalancingOf, type TrafficDistribution } from './traffic-distribution.ts'

/** The cluster's own host name of a Service. */
function serviceHostname(config: TranslateConfig, namespace: string, name: string): string {
  return `${name}.${namespace}.svc.${config.clusterDomain}`
}

export function serviceKey(config: TranslateConfig, namespace: string, name: string): ServiceKey {
  return `${namespace}/${serviceHostname(config, namespace, name)}` as ServiceKey
}

/** Whether a Service selects a pod of its namespace by labels. */
export function selects(service: ServiceFacts, pod: PodFacts): boolean {
  if (service.selector === undefined) return false
  for (const [label, value] of service.selector) if (pod.labels.get(label) !== value) return false
  return true
}

/** A Service that a pod belongs to because EndpointSlices say so; `ports` are theirs. */
export interface SliceMembership {
  readonly service: ServiceFacts
  readonly ports: ReadonlyMap<string, number>
}

/** The workload of a pod. */
export function workloadOfPod(
  config: TranslateConfig,
  pod: PodFacts,
  locality: Locality,
  selecting: readonly ServiceFacts[],
  listing: readonly SliceMembership[],
): Workload {
  const services = new Map<ServiceKey, readonly WorkloadPort[]>()
  for (const service of sortedByName(selecting, (facts) => facts.name))
    services.set(
      serviceKey(config, service.namespace, service.name),
      service.ports.flatMap(({ servicePort, target, appProtocol }) => {
        const targetPort = typeof target === 'number' ? target : pod.namedPorts.get(target)
        // A pod without a port of that name does not serve this port: Kubernetes leaves it out, too.
        return targetPort === undefined ? [] : [{ servicePort, targetPort, appProtocol }]
      }),
    )
  for (const { service, ports } of sortedByName(listing, (entry) => entry.service.name)) {
    const key = serviceKey(config, service.namespace, service.name)
    services.set(key, [...(services.get(key) ?? []), ...slicePorts(service, ports)])
  }
  return {
    uid: podWorkloadUid(config.clusterId, pod),
    name: pod.name,
    namespace: pod.namespace,
    addresses: pod.addresses,
    hostname: '',
    network: config.network,
    tunnelProtocol: pod.tunnelProtocol,
    trustDomain: config.trustDomain,
    serviceAccount: pod.serviceAccount,
    node: pod.node,
    canonicalName: pod.canonicalName,
    canonicalRevision: pod.canonicalRevision,
    workloadType: pod.workloadType,
    workloadName: pod.workloadName,
    nativeTunnel: pod.nativeTunnel,
    services,
    authorizationPolicies: [],
    status: pod.isHealthy ? 'healthy' : 'unhealthy',
    clusterId: config.clusterId,
    locality,
    foundBy: pod.isHostNetwork ? 'service' : 'address',
    waypoint: undefined,
    networkGateway: undefined,
    capacity: 1,
  }
}

/**
 * The workload of an endpoint that is no pod (the API server, a database outside). It is not found by its address, which
 * may be a node's: only through its Service.
 */
export function workloadOfEndpoint(
  config: TranslateConfig,
  slice: SliceFacts,
  endpoint: SliceEndpoint,
  service: ServiceFacts,
  locality: Locality,
): Workload | undefined {
  const [first] = endpoint.addresses
  if (first === undefined) return undefined
  const { namespace, name } = slice
  const zoned = locality.zone === '' ? { ...locality, zone: endpoint.zone } : locality
  return {
    uid: `${config.clusterId}/discovery.k8s.io/EndpointSlice/${namespace}/${name}/${first}` as WorkloadUid,
    name: `${name}-${first}`,
    namespace,
    addresses: [...new Set(endpoint.addresses)],
    hostname: '',
    network: config.network,
    tunnelProtocol: 'none',
    trustDomain: config.trustDomain,
    serviceAccount: 'default',
    node: endpoint.node,
    canonicalName: service.name,
    canonicalRevision: 'latest',
    workloadType: 'pod',
    workloadName: service.name,
    nativeTunnel: false,
    services: new Map([
      [serviceKey(config, namespace, service.name), slicePorts(service, slice.ports)],
    ]),
    authorizationPolicies: [],
    status: endpoint.isHealthy ? 'healthy' : 'unhealthy',
    clusterId: config.clusterId,
    locality: zoned,
    foundBy: 'service',
    waypoint: undefined,
    networkGateway: undefined,
    capacity: 1,
  }
}

/** The mesh service of a Kubernetes Service. */
export function serviceOf(
  config: TranslateConfig,
  service: ServiceFacts,
  namespaceDistribution: TrafficDistribution | undefined,
): Service {
  const { namespace, name } = service
  return {
    key: serviceKey(config, namespace, name),
    name,
    namespace,
    hostname: serviceHostname(config, namespace, name),
    addresses: service.addresses.map((address) => ({
      network: config.network,
      address,
      prefixLength: undefined,
    })),
    ports: service.ports.map(({ servicePort, target, appProtocol }) => ({
      servicePort,
      // 0 on the wire: each workload says its own.
      targetPort: typeof target === 'number' ? target : 0,
      appProtocol,
    })),
    subjectAltNames: [],
    waypoint: undefined,
    loadBalancing: loadBalancingOf(service, namespaceDistribution),
    ipFamilies:
      service.ipFamilies === 'automatic' ? familiesOf(service.addresses) : service.ipFamilies,
    canonical: true,
  }
}

function familiesOf(addresses: ServiceFacts['addresses']): Service['ipFamilies'] {
  if (addresses.length === 0) return 'automatic'
  if (addresses.every(isIpv4Address)) return 'ipv4'
  return addresses.some(isIpv4Address) ? 'dual' : 'ipv6'
}

function slicePorts(service: ServiceFacts, ports: ReadonlyMap<string, number>): WorkloadPort[] {
  return service.ports.flatMap(({ name, servicePort, appProtocol }) => {
    const targetPort = ports.get(name)
    return targetPort === undefined ? [] : [{ servicePort, targetPort, appProtocol }]
  })
}

/** Equal inputs in any order give equal outputs, so that resource versions do not flap. */
function sortedByName<T>(values: readonly T[], nameOf: (value: T) => string): readonly T[] {
  return values.length < 2
    ? values
    : [...values].sort((left, right) => (nameOf(left) < nameOf(right) ? -1 : 1))
}
