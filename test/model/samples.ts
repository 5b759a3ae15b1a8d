// SPDX-License-Identifier: Apache-2.0
// Sample workloads and services, plain unless told otherwise.

import { parseIpAddress } from '../../mesh/model/address.ts'
import type {
  IpAddress,
  Service,
  ServiceKey,
  Workload,
  WorkloadUid,
} from '../../mesh/model/types.ts'

export function ip(text: string): IpAddress {
  const address = parseIpAddress(text)
  if (address === undefined) throw new Error(`not an address: ${text}`)
  return address
}

export function podUid(namespace: string, name: string): WorkloadUid {
  return `Kubernetes//Pod/${namespace}/${name}` as WorkloadUid
}

export function serviceKey(namespace: string, name: string): ServiceKey {
  return `${namespace}/${name}.${namespace}.svc.cluster.local` as ServiceKey
}

export function sampleWorkload(name: string, overrides: Partial<Workload> = {}): Workload {
  const namespace = overrides.namespace ?? 'shop'
  return {
    uid: podUid(namespace, name),
    name,
    namespace,
    addresses: [ip('10.244.0.1')],
    hostname: '',
    network: '',
    tunnelProtocol: 'hbone',
    trustDomain: 'cluster.local',
    serviceAccount: 'default',
    node: 'node-a',
    canonicalName: name,
    canonicalRevision: 'latest',
    workloadType: 'deployment',
    workloadName: name,
    nativeTunnel: false,
    services: new Map(),
    authorizationPolicies: [],
    status: 'healthy',
    clusterId: 'Kubernetes',
    locality: { region: '', zone: '', subzone: '' },
    foundBy: 'address',
    waypoint: undefined,
    networkGateway: undefined,
    capacity: 1,
    leaving: new Map(),
    networkPolicies: [],
    peerGroups: [],
    namedPorts: [],
    ...overrides,
  }
}

export function sampleService(name: string, overrides: Partial<Service> = {}): Service {
  const namespace = overrides.namespace ?? 'shop'
  const hostname = `${name}.${namespace}.svc.cluster.local`
  return {
    key: `${namespace}/${hostname}` as ServiceKey,
    name,
    namespace,
    hostname,
    addresses: [{ network: '', address: ip('10.96.0.50'), prefixLength: undefined }],
    ports: [{ servicePort: 80, targetPort: 8080, appProtocol: 'http1' }],
    subjectAltNames: [],
    waypoint: undefined,
    weightedWaypoints: [],
    loadBalancing: {
      routingPreference: [],
      mode: 'standard',
      healthPolicy: 'onlyHealthy',
      sessionAffinity: 'none',
    },
    ipFamilies: 'ipv4',
    canonical: true,
    externalAddresses: [],
    nodePorts: [],
    nodePortScope: 'cluster',
    ...overrides,
  }
}
