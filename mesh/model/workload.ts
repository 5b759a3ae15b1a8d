// SPDX-License-Identifier: Apache-2.0
// One pod, VM or external endpoint, and its form on the wire (istio.workload.Workload). A new field is a line in the type
// and a line in the table.

import type { IpAddress } from './address.ts'
import {
  checked,
  FLAG,
  list,
  optional,
  optionalOr,
  single,
  TEXT,
  textOf,
  UINT,
  word,
} from './codec/kind.ts'
import { map } from './codec/map.ts'
import { field, OWN_FIELDS, record, wrapper } from './codec/record.ts'
import { FieldProblem } from './codec/wire-reader.ts'
import {
  dumpGateway,
  GATEWAY,
  type GatewayAddress,
  IP,
  WORKLOAD_PORT,
  type WorkloadPort,
} from './gateway.ts'
import { NAMED_PORT, type NamedPort } from './network-policy.ts'
import type { ServiceKey } from './service.ts'

/** Key of a workload, `<cluster>//Pod/<namespace>/<name>` for pods; survives IP reuse. */
export type WorkloadUid = string & { readonly __brand: 'WorkloadUid' }

export type TunnelProtocol = 'none' | 'hbone'
export type WorkloadType = 'deployment' | 'cronjob' | 'pod' | 'job'
export type HealthStatus = 'healthy' | 'unhealthy'
/** How callers find a workload: by its own address, or only as an endpoint of a service. */
export type FoundBy = 'address' | 'service'

export interface Locality {
  readonly region: string
  readonly zone: string
  readonly subzone: string
}

/** The Services that a workload belongs to, with the ports that lead to it: those of one Service may lead to several of its own. */
export type Memberships = ReadonlyMap<ServiceKey, readonly WorkloadPort[]>

export interface Workload {
  readonly uid: WorkloadUid
  readonly name: string
  readonly namespace: string
  readonly addresses: readonly IpAddress[]
  readonly hostname: string
  readonly network: string
  readonly tunnelProtocol: TunnelProtocol
  readonly trustDomain: string
  readonly serviceAccount: string
  readonly node: string
  readonly canonicalName: string
  readonly canonicalRevision: string
  readonly workloadType: WorkloadType
  readonly workloadName: string
  readonly nativeTunnel: boolean
  readonly services: Memberships
  readonly authorizationPolicies: readonly string[]
  readonly status: HealthStatus
  readonly clusterId: string
  readonly locality: Locality
  /**
   * 'service' when its address is not its own to be found by: a node's, which all host-network pods there share, or
   * whatever an EndpointSlice lists. (The wire says so by network_mode HOST_NETWORK.)
   */
  readonly foundBy: FoundBy
  readonly waypoint: GatewayAddress | undefined
  readonly networkGateway: GatewayAddress | undefined
  readonly capacity: number
  /**
   * Where it is on its way out and still serves: to be used by these Services when they have nothing better. What it is not fit
   * for at all is in neither. (To those who do not know the field it is a member of these Services no more.)
   */
  readonly leaving: Memberships
  /** The NetworkPolicies that select it, as `namespace/name`. */
  readonly networkPolicies: readonly string[]
  /** The groups of peers of NetworkPolicies that it is in; those that its namespace alone decides are not named. */
  readonly peerGroups: readonly string[]
  /** Of its containers, for TCP: NetworkPolicies may say ports by name. */
  readonly namedPorts: readonly NamedPort[]
}

// What the protocol means by saying nothing.
const DEFAULT_TRUST_DOMAIN = 'cluster.local'
const DEFAULT_SERVICE_ACCOUNT = 'default'
const DEFAULT_CLUSTER_ID = 'Kubernetes'
/** Weight of a workload that states none. */
const DEFAULT_CAPACITY = 1

const LOCALITY = record<Locality>({
  region: field('region', 1, single(TEXT)),
  zone: field('zone', 2, single(TEXT)),
  subzone: field('subzone', 3, single(TEXT)),
})

const SERVICE_KEY = checked(textOf<ServiceKey>(), (key) => {
  const slash = key.indexOf('/')
  if (slash < 1 || slash === key.length - 1 || key.includes('/', slash + 1))
    throw new FieldProblem(`"${key}" is not namespace/hostname`)
  return key
})

const MEMBERSHIPS = map(SERVICE_KEY, wrapper(1, list(WORKLOAD_PORT)))

const shared = { isShared: true }

export const WORKLOAD = record<Workload>({
  uid: field('uid', 20, single(textOf<WorkloadUid>()), { isRequired: true }),
  name: field('name', 1, single(TEXT)),
  namespace: field('namespace', 2, single(TEXT), shared),
  addresses: field('addresses', 3, list(IP), {
    dump: (workloadIps) => ({ workloadIps }),
  }),
  hostname: field('hostname', 21, single(TEXT), shared),
  network: field('network', 4, single(TEXT), shared),
  tunnelProtocol: field(
    'tunnel_protocol',
    5,
    // The legacy sidecar protocol (2) is not ours to speak: such a workload is reached as it is.
    single(word<TunnelProtocol>(['none', 'hbone'], new Map([[2, 'none']]))),
    { dump: (protocol) => ({ protocol: protocol === 'hbone' ? 'HBONE' : 'TCP' }) },
  ),
  trustDomain: field('trust_domain', 6, single(TEXT, DEFAULT_TRUST_DOMAIN), shared),
  serviceAccount: field('service_account', 7, single(TEXT, DEFAULT_SERVICE_ACCOUNT), shared),
  node: field('node', 9, single(TEXT), shared),
  canonicalName: field('canonical_name', 10, single(TEXT), shared),
  canonicalRevision: field('canonical_revision', 11, single(TEXT), shared),
  workloadType: field(
    'workload_type',
    12,
    single(word<WorkloadType>(['deployment', 'cronjob', 'pod', 'job'])),
  ),
  workloadName: field('workload_name', 13, single(TEXT), shared),
  nativeTunnel: field('native_tunnel', 14, single(FLAG)),
  services: field('services', 22, MEMBERSHIPS, {
    isShared: true,
    dump: (services) => ({ services: [...services.keys()] }),
  }),
  authorizationPolicies: field('authorization_policies', 16, list(TEXT), shared),
  status: field('status', 17, single(word<HealthStatus>(['healthy', 'unhealthy'])), {
    dump: (status) => ({ status: status === 'healthy' ? 'Healthy' : 'Unhealthy' }),
  }),
  clusterId: field('cluster_id', 18, single(TEXT, DEFAULT_CLUSTER_ID), shared),
  locality: field('locality', 24, single(LOCALITY), shared),
  // STANDARD and HOST_NETWORK: peers keep the latter out of their index of addresses.
  foundBy: field('network_mode', 25, single(word<FoundBy>(['address', 'service'])), {
    dump: (foundBy) => ({ networkMode: foundBy === 'address' ? 'Standard' : 'HostNetwork' }),
  }),
  waypoint: field('waypoint', 8, optional(GATEWAY), {
    isShared: true,
    dump: (gateway) => ({ waypoint: dumpGateway(gateway) }),
  }),
  networkGateway: field('network_gateway', 19, optional(GATEWAY), {
    isShared: true,
    dump: (gateway) => ({ networkGateway: dumpGateway(gateway) }),
  }),
  capacity: field('capacity', 27, optionalOr(wrapper(1, single(UINT)), DEFAULT_CAPACITY)),
  leaving: field('ambit_leaving', OWN_FIELDS, MEMBERSHIPS, {
    isShared: true,
    dump: (leaving) => ({ leavingServices: [...leaving.keys()] }),
  }),
  networkPolicies: field('ambit_network_policies', OWN_FIELDS + 1, list(TEXT), shared),
  peerGroups: field('ambit_peer_groups', OWN_FIELDS + 2, list(TEXT), shared),
  namedPorts: field('ambit_named_ports', OWN_FIELDS + 3, list(NAMED_PORT), shared),
})
