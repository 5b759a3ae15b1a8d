// SPDX-License-Identifier: Apache-2.0
// Which endpoint of a service a connection goes to. Pure, and hot: once per connection, over all endpoints of the
// service, so it walks them once and allocates only the answer; watched by bench/mesh-state.ts.

import { isIpv4Address } from './address.ts'
import { lessBusyOfTwo, ownEndpoint } from './endpoint-choice.ts'
import type {
  IpAddress,
  IpFamilies,
  RoutingScope,
  Service,
  Workload,
  WorkloadPort,
  WorkloadUid,
} from './types.ts'

/** A chosen endpoint of a service, with the address and port to dial on it. */
export interface Endpoint {
  readonly workload: Workload
  readonly address: IpAddress
  readonly port: number
}

/** What the caller has met at the endpoints of services so far. */
export interface Experience {
  /** Connections it has open there, or is opening. */
  openTo(endpoint: WorkloadUid): number
  /** Whether the endpoint is to be left alone for a while: connections to this port of it failed. */
  isEjected(endpoint: WorkloadUid, port: number): boolean
  /** Whether any is; saves asking for each. */
  readonly hasEjected: boolean
}

/** Of a caller that has met none. */
const NO_EXPERIENCE: Experience = {
  openTo: () => 0,
  isEjected: () => false,
  hasEjected: false,
}

export interface PickRequest {
  readonly service: Service
  /** The port of the Service. */
  readonly servicePort: number
  /** The caller, for locality; unknown counts as near to nothing. */
  readonly client: Workload | undefined
  /** The caller's own address, which session affinity goes by. */
  readonly clientAddress: IpAddress
  /** The address the app asked for: an endpoint with several is reached over the same family. */
  readonly requested: IpAddress
  /** Who may be chosen by where the call was addressed to; any, where nothing is said. */
  readonly reach?: Reach
  /** None when left out. */
  readonly experience?: Experience | undefined
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
 * With more than this part of the fit endpoints ejected it is rather the caller that is ill, or all are: then none counts as
 * ejected.
 */
const PANIC_PART = 1 / 2

/** Filled and emptied by each pick, in step: lists for each connection would be garbage. */
const best: Workload[] = []
const bestPorts: WorkloadPort[] = []

/**
 * Chooses by the service's load balancing: among the endpoints that serve the port and are not ejected, those that are ready (or
 * count as such, if the service says so) before those that are leaving and still serve; of these the nearest (failover) or only
 * the near ones (strict); of these the client's own one (session affinity), or the less busy of two. Undefined when none is left.
 * The mode passthrough has no endpoints to choose from and is the caller's to handle.
 */
export function pickEndpoint(
  endpoints: readonly Workload[],
  request: PickRequest,
): Endpoint | undefined {
  const experience = request.experience ?? NO_EXPERIENCE
  const ejecting = experience.hasEjected ? experience : undefined
  if (!gatherBest(endpoints, request, ejecting)) gatherBest(endpoints, request, undefined)
  const place = choose(request, experience)
  const [workload, port] = [best[place], bestPorts[place]]
  // What is left in there would outlive the mesh's own copy.
  forget()
  return workload && port && endpointOf(workload, port, request)
}

function choose({ service, clientAddress, random }: PickRequest, experience: Experience): number {
  return service.loadBalancing.sessionAffinity === 'clientIp'
    ? ownEndpoint(best, (place) => dialled(bestPorts[place]), clientAddress, service.key)
    : lessBusyOfTwo(best, (uid) => experience.openTo(uid), random)
}

function forget(): void {
  best.length = 0
  bestPorts.length = 0
}

/** Gathers the candidates of the best rank, without those that are ejected; false when those are too many. */
function gatherBest(
  endpoints: readonly Workload[],
  request: PickRequest,
  experience: Experience | undefined,
): boolean {
  const { key } = request.service
  forget()
  let bestRank = 0
  let fit = 0
  let ejected = 0
  for (const workload of endpoints) {
    const nearness = nearnessOf(workload, request)
    if (nearness === EXCLUDED || workload.capacity === 0) continue
    for (const isReady of BOTH)
      for (const port of (isReady ? workload.services : workload.leaving).get(key) ?? NO_PORTS) {
        const rank = rankOf(workload, port, isReady, nearness, request)
        if (rank === EXCLUDED) continue
        fit += 1
        if (experience?.isEjected(workload.uid, dialled(port)) === true) ejected += 1
        else if (rank >= bestRank) {
          if (rank > bestRank) forget()
          bestRank = rank
          best.push(workload)
          bestPorts.push(port)
        }
      }
  }
  return ejected <= fit * PANIC_PART
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
  return address && { workload, address, port: dialled(port) }
}

function dialled(port: WorkloadPort | undefined): number {
  // 0 on the wire means that nobody said: then it is the same port.
  return port === undefined ? 0 : port.targetPort || port.servicePort
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
      // What is on no node is not on the client's.
      return client.node !== '' && client.node === workload.node
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
