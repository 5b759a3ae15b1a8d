// SPDX-License-Identifier: Apache-2.0
// Which endpoint of a service a connection goes to. Pure, and hot: once per connection, over all endpoints of the
// service, so it walks them twice and allocates only the answer; watched by bench/mesh-state.ts.

import { isIpv4Address } from './address.ts'
import type {
  IpAddress,
  IpFamilies,
  RoutingScope,
  Service,
  Workload,
  WorkloadPort,
} from './types.ts'

/** A chosen endpoint of a service, with the address and port to dial on it. */
export interface Endpoint {
  readonly workload: Workload
  readonly address: IpAddress
  readonly port: number
}

export interface PickRequest {
  readonly service: Service
  /** The port of the Service. */
  readonly servicePort: number
  /** The caller, for locality; unknown counts as near to nothing. */
  readonly client: Workload | undefined
  /** The address the app asked for: an endpoint with several is reached over the same family. */
  readonly requested: IpAddress
  /** Who may be chosen by where the call was addressed to; any, where nothing is said. */
  readonly reach?: Reach
  /** In [0, 1). */
  readonly random: () => number
}

/**
 * `external`: by an address that is not the cluster's own, for which internalTrafficPolicy does not count. `node`: by a node port
 * that leads to endpoints of its node only.
 */
export type Reach =
  | { readonly kind: 'external' }
  | { readonly kind: 'node'; readonly clusterId: string; readonly node: string }

/** Not a candidate. */
const EXCLUDED = -1
/** More than there can be scopes to match. */
const NEARNESS_STEPS = 65_536
/** An endpoint that is ready beats all that are leaving, however near. */
const READY = NEARNESS_STEPS
/** As with kube-proxy, which keeps the families apart: one of the family asked for beats all of the other. */
const SAME_FAMILY = 2 * NEARNESS_STEPS

/**
 * Chooses by the service's load balancing: among the endpoints that serve the port, those that are ready (or count as such,
 * if the service says so) before those that are leaving and still serve; of these the nearest (failover) or only the near ones
 * (strict); of these at random by capacity. Undefined when none is left. The mode passthrough has no endpoints to choose from and
 * is the caller's to handle.
 */
export function pickEndpoint(
  endpoints: readonly Workload[],
  request: PickRequest,
): Endpoint | undefined {
  const { key } = request.service
  let bestRank = 0
  let totalCapacity = 0
  for (const workload of endpoints) {
    const nearness = nearnessOf(workload, request)
    if (nearness === EXCLUDED || workload.capacity === 0) continue
    for (const ready of BOTH)
      for (const port of (ready ? workload.services : workload.leaving).get(key) ?? NO_PORTS) {
        const rank = rankOf(workload, port, ready, nearness, request)
        if (rank < bestRank) continue
        if (rank > bestRank) totalCapacity = 0
        bestRank = rank
        totalCapacity += workload.capacity
      }
  }
  if (totalCapacity === 0) return undefined
  const isReady = bestRank % SAME_FAMILY >= READY
  let remaining = request.random() * totalCapacity
  let chosen: Workload | undefined
  let chosenPort: WorkloadPort | undefined
  for (const workload of endpoints) {
    const nearness = nearnessOf(workload, request)
    if (nearness === EXCLUDED || workload.capacity === 0) continue
    for (const port of (isReady ? workload.services : workload.leaving).get(key) ?? NO_PORTS) {
      if (rankOf(workload, port, isReady, nearness, request) !== bestRank) continue
      chosen = workload
      chosenPort = port
      remaining -= workload.capacity
      if (remaining < 0) return endpointOf(workload, port, request)
    }
  }
  // Only where adding up numbers has lost some of the last one's share.
  return chosen === undefined || chosenPort === undefined
    ? undefined
    : endpointOf(chosen, chosenPort, request)
}

const BOTH = [true, false] as const
const NO_PORTS: readonly never[] = []

/** How good a choice this port of the endpoint is, the higher the better, or EXCLUDED. */
function rankOf(
  workload: Workload,
  port: WorkloadPort,
  isReady: boolean,
  nearness: number,
  { service, servicePort, requested }: PickRequest,
): number {
  if (port.servicePort !== servicePort) return EXCLUDED
  // A control plane without our field for leaving endpoints says it of the workload as a whole.
  const isSick = workload.status !== 'healthy' && service.loadBalancing.healthPolicy !== 'allowAll'
  if (isReady && isSick) return EXCLUDED
  const address = pickAddress(workload.addresses, service.ipFamilies, port.family, requested)
  if (address === undefined) return EXCLUDED
  const isSameFamily = isIpv4Address(address) === isIpv4Address(requested)
  return nearness + (isReady ? READY : 0) + (isSameFamily ? SAME_FAMILY : 0)
}

/** How near the endpoint is, the higher the better, or EXCLUDED. */
function nearnessOf(workload: Workload, { service, client, reach }: PickRequest): number {
  const { mode, routingPreference } = service.loadBalancing
  if (reach?.kind === 'node')
    return workload.node === reach.node && workload.clusterId === reach.clusterId ? 0 : EXCLUDED
  if (mode === 'failover') return leadingMatches(routingPreference, client, workload)
  if (mode !== 'strict' || reach?.kind === 'external') return 0
  const matched = leadingMatches(routingPreference, client, workload)
  return matched === routingPreference.length ? 0 : EXCLUDED
}

function endpointOf(
  workload: Workload,
  port: WorkloadPort,
  { service, requested }: PickRequest,
): Endpoint | undefined {
  const address = pickAddress(workload.addresses, service.ipFamilies, port.family, requested)
  // 0 on the wire means that nobody said: then it is the same port.
  return address && { workload, address, port: port.targetPort || port.servicePort }
}

function leadingMatches(
  scopes: readonly RoutingScope[],
  client: Workload | undefined,
  workload: Workload,
): number {
  if (client === undefined) return 0
  let matched = 0
  for (const scope of scopes) {
    if (!isSame(scope, client, workload)) break
    matched += 1
  }
  return matched
}

function isSame(scope: RoutingScope, client: Workload, workload: Workload): boolean {
  switch (scope) {
    case 'region':
      return client.locality.region === workload.locality.region
    case 'zone':
      return client.locality.zone === workload.locality.zone
    case 'subzone':
      return client.locality.subzone === workload.locality.subzone
    case 'node':
      return client.node === workload.node
    case 'cluster':
      return client.clusterId === workload.clusterId
    case 'network':
      return client.network === workload.network
  }
}

/** An address the service may be reached over at this port, of the requested family if there is one. */
function pickAddress(
  addresses: readonly IpAddress[],
  families: IpFamilies,
  family: WorkloadPort['family'],
  requested: IpAddress,
): IpAddress | undefined {
  const wantsIpv4 = isIpv4Address(requested)
  let other: IpAddress | undefined
  for (const address of addresses) {
    const isIpv4 = isIpv4Address(address)
    if (isIpv4 ? isIpv6Only(families, family) : isIpv4Only(families, family)) continue
    if (isIpv4 === wantsIpv4) return address
    other ??= address
  }
  return other
}

function isIpv4Only(families: IpFamilies, family: WorkloadPort['family']): boolean {
  return families === 'ipv4' || family === 'ipv4'
}

function isIpv6Only(families: IpFamilies, family: WorkloadPort['family']): boolean {
  return families === 'ipv6' || family === 'ipv6'
}
