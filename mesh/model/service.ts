// SPDX-License-Identifier: Apache-2.0
// One Kubernetes Service or ServiceEntry host, and its form on the wire (istio.workload.Service).

import { list, optional, single, TEXT, FLAG, word } from './codec/kind.ts'
import { derived, field, OWN_FIELDS, record } from './codec/record.ts'
import type { IpAddress } from './address.ts'
import {
  dumpGateway,
  dumpPorts,
  GATEWAY,
  type GatewayAddress,
  IP,
  NETWORK_ADDRESS,
  type NetworkAddress,
  PORT,
  PORT_NUMBER,
  type ServicePort,
  WEIGHTED_WAYPOINT,
  type WeightedWaypoint,
} from './gateway.ts'

/** Key of a service, `<namespace>/<hostname>`. */
export type ServiceKey = string & { readonly __brand: 'ServiceKey' }

export type RoutingScope = 'region' | 'zone' | 'subzone' | 'node' | 'cluster' | 'network'

export interface LoadBalancing {
  readonly routingPreference: readonly RoutingScope[]
  readonly mode: 'standard' | 'strict' | 'failover' | 'passthrough'
  readonly healthPolicy: 'onlyHealthy' | 'allowAll'
  /** Whether a client's connections go to the same endpoint as long as it is fit. */
  readonly sessionAffinity: 'none' | 'clientIp'
}

/** A port that leads to the Service at the address of every node. */
export interface NodePort {
  readonly nodePort: number
  readonly servicePort: number
}

export type IpFamilies = 'automatic' | 'ipv4' | 'ipv6' | 'dual'

export interface Service {
  readonly key: ServiceKey
  readonly name: string
  readonly namespace: string
  readonly hostname: string
  readonly addresses: readonly NetworkAddress[]
  readonly ports: readonly ServicePort[]
  readonly subjectAltNames: readonly string[]
  readonly waypoint: GatewayAddress | undefined
  /** `waypoint` and a canary beside it, each with its share of the connections; empty where there is no canary. */
  readonly weightedWaypoints: readonly WeightedWaypoint[]
  readonly loadBalancing: LoadBalancing
  readonly ipFamilies: IpFamilies
  readonly canonical: boolean
  /**
   * Those of `addresses` that others may have, too: a load balancer's, external ones. At them only the Service's ports are
   * the Service's, and internalTrafficPolicy does not count.
   */
  readonly externalAddresses: readonly IpAddress[]
  readonly nodePorts: readonly NodePort[]
  /** Whom a node port leads to: any endpoint, or those of the node that was asked. */
  readonly nodePortScope: 'cluster' | 'node'
}

/** Its place in the list is a word's number on the wire; 0 says nothing. */
const SCOPES: readonly (RoutingScope | undefined)[] = [
  undefined,
  'region',
  'zone',
  'subzone',
  'node',
  'cluster',
  'network',
]

const LOAD_BALANCING = record<LoadBalancing>({
  routingPreference: field('routing_preference', 1, list(word(SCOPES))),
  mode: field(
    'mode',
    2,
    single(word<LoadBalancing['mode']>(['standard', 'strict', 'failover', 'passthrough'])),
  ),
  healthPolicy: field(
    'health_policy',
    3,
    single(word<LoadBalancing['healthPolicy']>(['onlyHealthy', 'allowAll'])),
  ),
  sessionAffinity: field(
    'ambit_session_affinity',
    OWN_FIELDS,
    single(word<LoadBalancing['sessionAffinity']>(['none', 'clientIp'])),
  ),
})

const NODE_PORT = record<NodePort>({
  nodePort: field('node_port', 1, single(PORT_NUMBER)),
  servicePort: field('service_port', 2, single(PORT_NUMBER)),
})

export const SERVICE = record<Service>({
  key: derived(
    '' as ServiceKey,
    ({ namespace, hostname }: Service) => `${namespace}/${hostname}` as ServiceKey,
    { dump: () => ({}) },
  ),
  name: field('name', 1, single(TEXT)),
  namespace: field('namespace', 2, single(TEXT), { isRequired: true, isShared: true }),
  hostname: field('hostname', 3, single(TEXT), { isRequired: true }),
  addresses: field('addresses', 4, list(NETWORK_ADDRESS), {
    dump: (addresses) => ({
      vips: addresses.map(({ network, address }) => `${network}/${address}`),
    }),
  }),
  ports: field('ports', 5, list(PORT), {
    isShared: true,
    dump: (ports) => ({ ports: dumpPorts(ports) }),
  }),
  subjectAltNames: field('subject_alt_names', 6, list(TEXT), { isShared: true }),
  waypoint: field('waypoint', 7, optional(GATEWAY), {
    isShared: true,
    dump: (gateway) => ({ waypoint: dumpGateway(gateway) }),
  }),
  loadBalancing: field('load_balancing', 8, single(LOAD_BALANCING), {
    isShared: true,
    dump: (loadBalancer) => ({ loadBalancer }),
  }),
  ipFamilies: field(
    'ip_families',
    9,
    single(word<IpFamilies>(['automatic', 'ipv4', 'ipv6', 'dual'])),
  ),
  canonical: field('canonical', 11, single(FLAG)),
  weightedWaypoints: field('weighted_waypoints', 13, list(WEIGHTED_WAYPOINT), {
    isShared: true,
    dump: (weighted) =>
      weighted.length === 0
        ? {}
        : {
            weightedWaypoints: weighted.map(({ destination, weight }) => ({
              destination: dumpGateway(destination),
              weight,
            })),
          },
  }),
  externalAddresses: field('ambit_external_addresses', OWN_FIELDS, list(IP)),
  nodePorts: field('ambit_node_ports', OWN_FIELDS + 1, list(NODE_PORT)),
  nodePortScope: field(
    'ambit_node_port_scope',
    OWN_FIELDS + 2,
    single(word<Service['nodePortScope']>(['cluster', 'node'])),
  ),
})
