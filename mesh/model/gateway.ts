// SPDX-License-Identifier: Apache-2.0
// What workloads and services both consist of: ports, addresses in a network, gateways to be reached through
// (istio.workload Port, NetworkAddress, GatewayAddress).

import { type IpAddress, ipAddressFromBytes, ipAddressToBytes, isIpv4Address } from './address.ts'
import { checked, optional, single, TEXT, UINT, type Value, word } from './codec/kind.ts'
import { converted, field, type Fields, OWN_FIELDS, record } from './codec/record.ts'
import { BYTES, FieldProblem } from './codec/wire-reader.ts'

export type AppProtocol = 'unknown' | 'http1' | 'http2' | 'grpc' | 'tcp' | 'tls'

export interface ServicePort {
  readonly servicePort: number
  readonly targetPort: number
  readonly appProtocol: AppProtocol
}

/** A port of a Service as one workload serves it. */
export interface WorkloadPort extends ServicePort {
  /** The one family of addresses over which it belongs to the Service; nearly always any that the workload has. */
  readonly family: 'any' | 'ipv4' | 'ipv6'
}

/** An address, or a range of them, in a network. */
export interface NetworkAddress {
  readonly network: string
  readonly address: IpAddress
  /** Undefined for the one address. */
  readonly prefixLength: number | undefined
}

/** Where to go on behalf of others: a waypoint or the gateway of a network. */
export interface GatewayAddress {
  readonly destination:
    | { readonly kind: 'hostname'; readonly namespace: string; readonly hostname: string }
    | { readonly kind: 'address'; readonly network: string; readonly address: IpAddress }
  readonly hbonePort: number
}

/** One of several waypoints of a Service. */
export interface WeightedWaypoint {
  readonly destination: GatewayAddress
  /** Its share of the connections is this out of the sum of all. */
  readonly weight: number
}

const MAX_PORT = 65_535

/** A port number; 0 says nothing. */
export const PORT_NUMBER = checked(UINT, (port) => {
  if (port > MAX_PORT) throw new FieldProblem(`${port} is not a port`)
  return port
})

const PORT_FIELDS: Fields<ServicePort> = {
  servicePort: field('service_port', 1, single(PORT_NUMBER)),
  targetPort: field('target_port', 2, single(PORT_NUMBER)),
  appProtocol: field(
    'app_protocol',
    3,
    single(word<AppProtocol>(['unknown', 'http1', 'http2', 'grpc', 'tcp', 'tls'])),
  ),
}

/** istio.workload.Port */
export const PORT = record<ServicePort>(PORT_FIELDS)

/** The same of a workload. */
export const WORKLOAD_PORT = record<WorkloadPort>({
  ...PORT_FIELDS,
  family: field(
    'ambit_family',
    OWN_FIELDS,
    single(word<WorkloadPort['family']>(['any', 'ipv4', 'ipv6'])),
  ),
})

/** The service's ports as `config_dump` shows them: what is asked for by what is dialled. */
export function dumpPorts(ports: readonly ServicePort[]): Record<string, number> {
  return Object.fromEntries(ports.map(({ servicePort, targetPort }) => [servicePort, targetPort]))
}

/** What stands for an address before it is read. */
const NO_ADDRESS = '' as IpAddress

/** An address in 4 or 16 bytes. */
export const IP: Value<IpAddress> = {
  wireType: BYTES,
  zero: NO_ADDRESS,
  read: (reader) => {
    const bytes = reader.bytes()
    const address = ipAddressFromBytes(bytes)
    if (address === undefined)
      throw new FieldProblem(`has ${bytes.length} bytes, an address has 4 or 16`)
    return address
  },
  write: (writer, address) => writer.bytes(ipAddressToBytes(address)),
  key: (address) => address,
}

/** istio.workload.NetworkAddress */
export const NETWORK_ADDRESS = converted(
  record<NetworkAddress>({
    network: field('network', 1, single(TEXT)),
    address: field('address', 2, single(IP), { isRequired: true }),
    prefixLength: field('length', 3, optional(UINT)),
  }),
  { network: '', address: NO_ADDRESS, prefixLength: undefined },
  (wire) => {
    const bits = isIpv4Address(wire.address) ? 32 : 128
    const length = wire.prefixLength
    if (length !== undefined && length > bits)
      throw new FieldProblem(`${length} is more than ${bits} bits`, 'length')
    // A range of one address is that address.
    return length === bits ? { ...wire, prefixLength: undefined } : wire
  },
  (address) => address,
)

interface WireGateway {
  readonly hostname: { readonly namespace: string; readonly hostname: string } | undefined
  readonly address: NetworkAddress | undefined
  readonly hbonePort: number
}

const NAMESPACED_HOSTNAME = record<NonNullable<WireGateway['hostname']>>({
  namespace: field('namespace', 1, single(TEXT)),
  hostname: field('hostname', 2, single(TEXT)),
})

const NO_GATEWAY: GatewayAddress = {
  destination: { kind: 'hostname', namespace: '', hostname: '' },
  hbonePort: 0,
}

/** istio.workload.GatewayAddress */
export const GATEWAY = converted(
  record<WireGateway>({
    hostname: field('hostname', 1, optional(NAMESPACED_HOSTNAME)),
    address: field('address', 2, optional(NETWORK_ADDRESS)),
    hbonePort: field('hbone_mtls_port', 3, single(PORT_NUMBER)),
  }),
  NO_GATEWAY,
  ({ hostname, address, hbonePort }): GatewayAddress => {
    if (hostname !== undefined && address !== undefined)
      throw new FieldProblem('is both a host name and an address', 'destination')
    if (hostname !== undefined) return { destination: { kind: 'hostname', ...hostname }, hbonePort }
    if (address === undefined)
      throw new FieldProblem('is neither a host name nor an address', 'destination')
    const { network, address: ip } = address
    return { destination: { kind: 'address', network, address: ip }, hbonePort }
  },
  ({ destination, hbonePort }): WireGateway => {
    if (destination.kind === 'hostname') {
      const { namespace, hostname } = destination
      return { hostname: { namespace, hostname }, address: undefined, hbonePort }
    }
    const { network, address } = destination
    return {
      hostname: undefined,
      address: { network, address, prefixLength: undefined },
      hbonePort,
    }
  },
)

/** istio.workload.WeightedWaypoint */
export const WEIGHTED_WAYPOINT = record<WeightedWaypoint>({
  destination: field('destination', 1, single(GATEWAY), { isRequired: true }),
  weight: field('weight', 2, single(UINT)),
})

/** A gateway as `config_dump` shows it. */
export function dumpGateway(
  gateway: GatewayAddress | undefined,
): Record<string, unknown> | undefined {
  if (gateway === undefined) return undefined
  const { destination, hbonePort } = gateway
  return destination.kind === 'address'
    ? { destination: `${destination.network}/${destination.address}`, hboneMtlsPort: hbonePort }
    : { destination: `${destination.namespace}/${destination.hostname}`, hboneMtlsPort: hbonePort }
}
