// SPDX-License-Identifier: Apache-2.0
// The agent's state in the form that `istioctl ztunnel-config` and people read: GET /config_dump. Never holds a key.

import type { CertificateStatus } from '../../mesh/identity/certificate-manager.ts'
import type { MeshState } from '../../mesh/model/mesh-state.ts'
import type { GatewayAddress, Service, SpiffeId, Workload } from '../../mesh/model/types.ts'
import type { LocalPod } from '../proxy/local-pod.ts'
import type { ConnectionDump } from '../proxy/open-connections.ts'

export interface ConfigDumpSources {
  readonly mesh: MeshState
  readonly certificates: () => readonly CertificateStatus[]
  readonly pods: () => readonly LocalPod[]
  readonly connections: () => Promise<ReadonlyMap<string, readonly ConnectionDump[]>>
  readonly version: string
  /** The agent's own configuration, without secrets. */
  readonly config: Readonly<Record<string, unknown>>
}

/** Makes the whole dump. */
export async function configDump(sources: ConfigDumpSources): Promise<Record<string, unknown>> {
  const { mesh } = sources
  return {
    workloads: [...mesh.workloads()].map(dumpWorkload),
    services: [...mesh.services()].map((service) => dumpService(service, mesh)),
    policies: [],
    certificates: sources.certificates().map(dumpCertificate),
    workloadState: await dumpPods(sources),
    version: { version: sources.version },
    config: sources.config,
  }
}

function dumpWorkload(workload: Workload): Record<string, unknown> {
  return {
    uid: workload.uid,
    workloadIps: workload.addresses,
    waypoint: dumpGateway(workload.waypoint),
    networkGateway: dumpGateway(workload.networkGateway),
    protocol: workload.tunnelProtocol === 'hbone' ? 'HBONE' : 'TCP',
    name: workload.name,
    namespace: workload.namespace,
    serviceAccount: workload.serviceAccount,
    trustDomain: workload.trustDomain,
    network: workload.network,
    workloadName: workload.workloadName,
    workloadType: workload.workloadType,
    canonicalName: workload.canonicalName,
    canonicalRevision: workload.canonicalRevision,
    clusterId: workload.clusterId,
    locality: workload.locality,
    node: workload.node,
    nativeTunnel: workload.nativeTunnel,
    status: workload.status === 'healthy' ? 'Healthy' : 'Unhealthy',
    authorizationPolicies: workload.authorizationPolicies,
    hostname: workload.hostname,
    networkMode: workload.foundBy === 'address' ? 'Standard' : 'HostNetwork',
    capacity: workload.capacity,
    services: [...workload.services.keys()],
  }
}

function dumpService(service: Service, mesh: MeshState): Record<string, unknown> {
  const endpoints: Record<string, unknown> = {}
  for (const workload of mesh.endpoints(service.key)) {
    const ports = workload.services.get(service.key) ?? []
    endpoints[workload.uid] = {
      workloadUid: workload.uid,
      service: service.key,
      port: Object.fromEntries(ports.map((port) => [port.servicePort, port.targetPort])),
    }
  }
  return {
    name: service.name,
    namespace: service.namespace,
    hostname: service.hostname,
    vips: service.addresses.map(({ network, address }) => `${network}/${address}`),
    ports: Object.fromEntries(service.ports.map((port) => [port.servicePort, port.targetPort])),
    endpoints,
    subjectAltNames: service.subjectAltNames,
    waypoint: dumpGateway(service.waypoint),
    loadBalancer: service.loadBalancing,
    ipFamilies: service.ipFamilies,
  }
}

function dumpGateway(gateway: GatewayAddress | undefined): Record<string, unknown> | undefined {
  if (gateway === undefined) return undefined
  const { destination, hbonePort } = gateway
  return destination.kind === 'address'
    ? { destination: `${destination.network}/${destination.address}`, hboneMtlsPort: hbonePort }
    : { destination: `${destination.namespace}/${destination.hostname}`, hboneMtlsPort: hbonePort }
}

function dumpCertificate(status: CertificateStatus): Record<string, unknown> {
  const one = {
    serialNumber: status.serialNumber,
    validFrom: status.notBefore?.toISOString(),
    expirationTime: status.notAfter?.toISOString(),
  }
  return {
    identity: status.identity satisfies SpiffeId,
    state: { initializing: 'Initializing', available: 'Available', unavailable: 'Unavailable' }[
      status.state
    ],
    certChain: status.chainPem === undefined ? [] : [{ pem: status.chainPem, ...one }],
    rootCerts: status.rootsPem === undefined ? [] : [{ pem: status.rootsPem }],
    ...(status.lastFailure === undefined ? {} : { lastFailure: status.lastFailure.message }),
  }
}

async function dumpPods(sources: ConfigDumpSources): Promise<Record<string, unknown>> {
  const connections = await sources.connections()
  return Object.fromEntries(
    sources.pods().map((pod) => {
      const open = connections.get(pod.uid) ?? []
      return [
        pod.uid,
        {
          state: connections.has(pod.uid) ? 'Up' : 'Pending',
          connections: {
            inbound: open.filter(({ direction }) => direction === 'inbound'),
            outbound: open.filter(({ direction }) => direction === 'outbound'),
          },
          info: {
            name: pod.name,
            namespace: pod.namespace,
            serviceAccount: pod.serviceAccount,
            addresses: pod.addresses,
          },
        },
      ]
    }),
  )
}
