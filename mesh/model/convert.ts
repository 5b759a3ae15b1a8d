// SPDX-License-Identifier: Apache-2.0
// From the wire form of workloads and services to the model, with validation: what gets past here is sound, what does
// not is named by resource and field. The way back is convert-to-proto.ts.

import { err, ok, type Result } from '../result.ts'
import { ipAddressFromBytes, isIpv4Address } from './address.ts'
import type {
  AppProtocol,
  FoundBy,
  GatewayAddress,
  HealthStatus,
  IpAddress,
  IpFamilies,
  LoadBalancing,
  MeshChange,
  RoutingScope,
  Service,
  ServiceKey,
  ServicePort,
  TunnelProtocol,
  Workload,
  WorkloadPort,
  WorkloadType,
  WorkloadUid,
} from './types.ts'
import type * as wire from '../proto/gen/workload_pb.js'

const DEFAULT_TRUST_DOMAIN = 'cluster.local'
const DEFAULT_SERVICE_ACCOUNT = 'default'
const DEFAULT_CLUSTER_ID = 'Kubernetes'
/** Weight of a workload that states none. */
export const DEFAULT_CAPACITY = 1

const MAX_PORT = 65_535

/** Why a resource cannot be used: which one, which field, and what is wrong with it. */
export interface ResourceProblem {
  readonly resource: string
  readonly field: string
  readonly reason: string
}

/** Writes a problem in one sentence. */
export function formatResourceProblem(problem: ResourceProblem): string {
  return `Cannot use resource ${problem.resource}: ${problem.field}: ${problem.reason}`
}

// Position in each list is the number on the wire.
const TUNNEL_PROTOCOLS: readonly TunnelProtocol[] = ['none', 'hbone']
const WORKLOAD_TYPES: readonly WorkloadType[] = ['deployment', 'cronjob', 'pod', 'job']
const HEALTH_STATUSES: readonly HealthStatus[] = ['healthy', 'unhealthy']
// network_mode STANDARD and HOST_NETWORK: peers keep the latter out of their index of addresses.
const FOUND_BY: readonly FoundBy[] = ['address', 'service']
const APP_PROTOCOLS: readonly AppProtocol[] = ['unknown', 'http1', 'http2', 'grpc', 'tcp', 'tls']
const IP_FAMILIES: readonly IpFamilies[] = ['automatic', 'ipv4', 'ipv6', 'dual']
const MODES: readonly LoadBalancing['mode'][] = ['standard', 'strict', 'failover', 'passthrough']
const HEALTH_POLICIES: readonly LoadBalancing['healthPolicy'][] = ['onlyHealthy', 'allowAll']
const SCOPES: readonly (RoutingScope | undefined)[] = [
  undefined,
  'region',
  'zone',
  'subzone',
  'node',
  'cluster',
  'network',
]

/** The numbers of the model's words on the wire, for convert-to-proto.ts. */
export const WIRE_NUMBERS = {
  tunnelProtocol: TUNNEL_PROTOCOLS,
  workloadType: WORKLOAD_TYPES,
  status: HEALTH_STATUSES,
  foundBy: FOUND_BY,
  appProtocol: APP_PROTOCOLS,
  ipFamilies: IP_FAMILIES,
  mode: MODES,
  healthPolicy: HEALTH_POLICIES,
  scope: SCOPES,
} as const

/** Thrown inside this file only, so that a field deep down can end the conversion; leaves it as a Result. */
class FieldProblem extends Error {
  readonly field: string

  constructor(field: string, reason: string) {
    super(reason)
    this.field = field
  }
}

/** Reads an address resource into the change it stands for. */
export function changeFromAddress(
  resourceName: string,
  address: wire.Address,
): Result<MeshChange, ResourceProblem> {
  try {
    switch (address.type.case) {
      case 'workload':
        return ok({ kind: 'workload', workload: readWorkload(resourceName, address.type.value) })
      case 'service':
        return ok({ kind: 'service', service: readService(resourceName, address.type.value) })
      case undefined:
        throw new FieldProblem('type', 'is neither a workload nor a service')
    }
  } catch (thrown) {
    if (!(thrown instanceof FieldProblem)) throw thrown
    return err({ resource: resourceName, field: thrown.field, reason: thrown.message })
  }
}

function readWorkload(resourceName: string, workload: wire.Workload): Workload {
  const uid = required('uid', workload.uid)
  if (uid !== resourceName) throw new FieldProblem('uid', `is "${uid}", not the resource's name`)
  return {
    uid: uid as WorkloadUid,
    name: workload.name,
    namespace: workload.namespace,
    addresses: workload.addresses.map((bytes, index) => readIp(`addresses[${index}]`, bytes)),
    hostname: workload.hostname,
    network: workload.network,
    // The legacy sidecar protocol (2) is not ours to speak: such a workload is reached as it is.
    tunnelProtocol:
      workload.tunnelProtocol === 2
        ? 'none'
        : word('tunnel_protocol', TUNNEL_PROTOCOLS, workload.tunnelProtocol),
    trustDomain: workload.trustDomain || DEFAULT_TRUST_DOMAIN,
    serviceAccount: workload.serviceAccount || DEFAULT_SERVICE_ACCOUNT,
    node: workload.node,
    canonicalName: workload.canonicalName,
    canonicalRevision: workload.canonicalRevision,
    workloadType: word('workload_type', WORKLOAD_TYPES, workload.workloadType),
    workloadName: workload.workloadName,
    nativeTunnel: workload.nativeTunnel,
    services: readMemberships(workload.services),
    authorizationPolicies: workload.authorizationPolicies,
    status: word('status', HEALTH_STATUSES, workload.status),
    clusterId: workload.clusterId || DEFAULT_CLUSTER_ID,
    locality: {
      region: workload.locality?.region ?? '',
      zone: workload.locality?.zone ?? '',
      subzone: workload.locality?.subzone ?? '',
    },
    foundBy: word('network_mode', FOUND_BY, workload.networkMode),
    waypoint: readGateway('waypoint', workload.waypoint),
    networkGateway: readGateway('network_gateway', workload.networkGateway),
    capacity: workload.capacity ?? DEFAULT_CAPACITY,
  }
}

function readService(resourceName: string, service: wire.Service): Service {
  const namespace = required('namespace', service.namespace)
  const hostname = required('hostname', service.hostname)
  const key = `${namespace}/${hostname}` as ServiceKey
  if (key !== resourceName)
    throw new FieldProblem('hostname', `makes the key "${key}", not the resource's name`)
  return {
    key,
    name: service.name,
    namespace,
    hostname,
    addresses: service.addresses.map((address, index) =>
      readNetworkAddress(`addresses[${index}]`, address),
    ),
    ports: readPorts('ports', service.ports),
    subjectAltNames: service.subjectAltNames,
    waypoint: readGateway('waypoint', service.waypoint),
    loadBalancing: readLoadBalancing(service.loadBalancing),
    ipFamilies: word('ip_families', IP_FAMILIES, service.ipFamilies),
    canonical: service.canonical,
  }
}

function readMemberships(services: Record<string, wire.PortList>): Workload['services'] {
  const memberships = new Map<ServiceKey, readonly WorkloadPort[]>()
  for (const [key, list] of Object.entries(services)) {
    if (!/^[^/]+\/[^/]+$/.test(key))
      throw new FieldProblem('services', `"${key}" is not namespace/hostname`)
    memberships.set(key as ServiceKey, readPorts(`services[${key}]`, list.ports))
  }
  return memberships
}

function readPorts(field: string, ports: readonly wire.Port[]): ServicePort[] {
  return ports.map((port, index) => ({
    servicePort: readPort(`${field}[${index}].service_port`, port.servicePort),
    targetPort: readPort(`${field}[${index}].target_port`, port.targetPort),
    appProtocol: word(`${field}[${index}].app_protocol`, APP_PROTOCOLS, port.appProtocol),
  }))
}

function readLoadBalancing(loadBalancing: wire.LoadBalancing | undefined): LoadBalancing {
  if (loadBalancing === undefined)
    return { routingPreference: [], mode: 'standard', healthPolicy: 'onlyHealthy' }
  return {
    routingPreference: loadBalancing.routingPreference.map((scope, index) =>
      word(`load_balancing.routing_preference[${index}]`, SCOPES, scope),
    ),
    mode: word('load_balancing.mode', MODES, loadBalancing.mode),
    healthPolicy: word('load_balancing.health_policy', HEALTH_POLICIES, loadBalancing.healthPolicy),
  }
}

function readGateway(
  field: string,
  gateway: wire.GatewayAddress | undefined,
): GatewayAddress | undefined {
  if (gateway === undefined) return undefined
  const hbonePort = readPort(`${field}.hbone_mtls_port`, gateway.hboneMtlsPort)
  switch (gateway.destination.case) {
    case 'hostname': {
      const { namespace, hostname } = gateway.destination.value
      return { destination: { kind: 'hostname', namespace, hostname }, hbonePort }
    }
    case 'address': {
      const { network, address } = gateway.destination.value
      const ip = readIp(`${field}.address`, address)
      return { destination: { kind: 'address', network, address: ip }, hbonePort }
    }
    case undefined:
      throw new FieldProblem(`${field}.destination`, 'is neither a host name nor an address')
  }
}

function readNetworkAddress(
  field: string,
  value: wire.NetworkAddress,
): Service['addresses'][number] {
  const address = readIp(`${field}.address`, value.address)
  const bits = isIpv4Address(address) ? 32 : 128
  if (value.length !== undefined && value.length > bits)
    throw new FieldProblem(`${field}.length`, `${value.length} is more than ${bits} bits`)
  // A range of one address is that address.
  const prefixLength = value.length === bits ? undefined : value.length
  return { network: value.network, address, prefixLength }
}

function readIp(field: string, bytes: Uint8Array): IpAddress {
  const address = ipAddressFromBytes(bytes)
  if (address === undefined)
    throw new FieldProblem(field, `has ${bytes.length} bytes, an address has 4 or 16`)
  return address
}

function readPort(field: string, port: number): number {
  if (port > MAX_PORT) throw new FieldProblem(field, `${port} is not a port`)
  return port
}

function required(field: string, value: string): string {
  if (value === '') throw new FieldProblem(field, 'is empty')
  return value
}

function word<T>(field: string, words: readonly (T | undefined)[], number: number): T {
  const found = words[number]
  if (found === undefined) throw new FieldProblem(field, `unknown value ${number}`)
  return found
}
