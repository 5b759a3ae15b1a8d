// SPDX-License-Identifier: Apache-2.0
// Which endpoint of a service a connection goes to. Pure, and hot: once per connection, over all endpoints of the
// service, so it walks them twice and allocates only the answer; watched by bench/mesh-state.ts.

import { isIpv4Address } from './address.ts'
import type { IpAddress, IpFamilies, RoutingScope, Service, Workload } from './types.ts'

/** A chosen endpoint of a service, with the address and port to dial on it. */
export interface Endpoint {
  readonly workload: Workload
  readonly address: IpAddress
  readonly port: number
}

export interface PickRequest {
  readonly service: Service
  /** The port the app asked for. */
  readonly servicePort: number
  /** The caller, for locality; unknown counts as near to nothing. */
  readonly client: Workload | undefined
  /** The address the app asked for: an endpoint with several is reached over the same family. */
  readonly requested: IpAddress
  /** In [0, 1). */
  readonly random: () => number
}

/** Not a candidate. */
const EXCLUDED = -1

/**
 * Chooses by the service's load balancing: among the healthy endpoints (all, if the service says so) that serve the
 * port, the nearest (failover) or only the near ones (strict), at random by capacity. Undefined when none is left.
 * The mode passthrough has no endpoints to choose from and is the caller's to handle.
 */
export function pickEndpoint(
  endpoints: readonly Workload[],
  request: PickRequest,
): Endpoint | undefined {
  let bestRank = 0
  let totalCapacity = 0
  for (const workload of endpoints) {
    const rank = rankOf(workload, request)
    if (rank === EXCLUDED || rank < bestRank) continue
    if (rank > bestRank) {
      bestRank = rank
      totalCapacity = 0
    }
    totalCapacity += workload.capacity
  }
  if (totalCapacity === 0) return undefined
  let remaining = request.random() * totalCapacity
  let chosen: Workload | undefined
  for (const workload of endpoints) {
    if (workload.capacity === 0 || rankOf(workload, request) !== bestRank) continue
    chosen = workload
    remaining -= workload.capacity
    if (remaining < 0) break
  }
  return chosen === undefined ? undefined : endpointOf(chosen, request)
}

/** How near the endpoint is, the higher the better, or EXCLUDED. */
function rankOf(workload: Workload, request: PickRequest): number {
  const { loadBalancing, ipFamilies } = request.service
  if (workload.status !== 'healthy' && loadBalancing.healthPolicy !== 'allowAll') return EXCLUDED
  if (targetPortOf(workload, request) === undefined) return EXCLUDED
  if (pickAddress(workload.addresses, ipFamilies, request.requested) === undefined) return EXCLUDED
  const { mode, routingPreference } = loadBalancing
  if (mode !== 'strict' && mode !== 'failover') return 0
  const matched = leadingMatches(routingPreference, request.client, workload)
  if (mode === 'failover') return matched
  return matched === routingPreference.length ? 0 : EXCLUDED
}

function endpointOf(workload: Workload, request: PickRequest): Endpoint | undefined {
  const address = pickAddress(workload.addresses, request.service.ipFamilies, request.requested)
  const port = targetPortOf(workload, request)
  return address === undefined || port === undefined ? undefined : { workload, address, port }
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

/** The port of the workload behind the service port; undefined when the workload does not serve it. */
function targetPortOf(workload: Workload, request: PickRequest): number | undefined {
  const ports = workload.services.get(request.service.key)
  if (ports === undefined) return undefined
  // 0 on the wire means that nobody said: then it is the same port.
  for (const port of ports)
    if (port.servicePort === request.servicePort) return port.targetPort || port.servicePort
  return undefined
}

/** An address the service may be reached over, of the requested family if there is one. */
function pickAddress(
  addresses: readonly IpAddress[],
  families: IpFamilies,
  requested: IpAddress,
): IpAddress | undefined {
  const wantsIpv4 = isIpv4Address(requested)
  let other: IpAddress | undefined
  for (const address of addresses) {
    const isIpv4 = isIpv4Address(address)
    if ((families === 'ipv4' && !isIpv4) || (families === 'ipv6' && isIpv4)) continue
    if (isIpv4 === wantsIpv4) return address
    other ??= address
  }
  return other
}
