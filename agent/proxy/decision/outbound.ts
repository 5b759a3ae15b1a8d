// SPDX-License-Identifier: Apache-2.0
// What to do with a captured outbound connection: a pure function of the address the app asked for, the pod that
// asked, and the mesh state. Row numbers are those of the outbound decision table in docs/compatibility.md.

import { familyOf, formatSocketAddress, isLoopback } from '../../../mesh/model/address.ts'
import { expectedIdentities } from '../../../mesh/identity/workload-identity.ts'
import type {
  GatewayAddress,
  IpAddress,
  MeshNode,
  Service,
  SocketAddress,
  SpiffeId,
  Workload,
  WorkloadUid,
} from '../../../mesh/model/types.ts'
import {
  type Endpoint,
  type Experience,
  pickEndpoint,
  type Reach,
} from '../../../mesh/model/load-balance.ts'
import type { MeshState, ServiceMatch } from '../../../mesh/model/mesh-state.ts'
import type { EndReason } from '../../../mesh/telemetry/end-reason.ts'
import type { EndpointPort } from '../../../mesh/balance/ejections.ts'
import type { LocalPod, LocalPods } from '../local-pod.ts'
import { isMeshPort, MESH_PORTS } from '../../../mesh/model/ports.ts'
import { drawWaypoint, waypointsOf } from '../../../mesh/model/service-waypoints.ts'
import { isLedByNode } from './plain-service.ts'
import { holderOf, whoIsAt } from '../../../mesh/model/who-is-at.ts'
import { chooseWaypoint, isWaypointItself } from './waypoint.ts'

interface Destination {
  readonly service: Service | undefined
  readonly workload: Workload | undefined
  /** As the service's list has it, where it was chosen of one. */
  readonly endpoint?: EndpointPort
}

/** The waypoint of what was called. */
interface BoundTo {
  /** `namespace/name` */
  readonly name: string
  /** What is bound to it: the Service that was called, whose endpoint the waypoint chooses, or the one workload. */
  readonly of: 'service' | 'workload'
}

export type OutboundDecision =
  | (Destination & {
      readonly kind: 'hbone'
      readonly workload: Workload
      /** The peer's HBONE listener. */
      readonly peer: SocketAddress
      /** What the CONNECT asks for. */
      readonly target: SocketAddress
      readonly expectedIdentities: readonly SpiffeId[]
      /** Where the peer is the waypoint that the target is bound to: `workload` is one of its own then. */
      readonly waypoint?: BoundTo
    })
  | (Destination & {
      /** Both pods are this agent's: one relay, no TLS, straight to the app (both ends known by the kernel). */
      readonly kind: 'sameNode'
      readonly pod: LocalPod
      readonly target: SocketAddress
    })
  | (Destination & { readonly kind: 'passthrough'; readonly target: SocketAddress })
  | (Destination & { readonly kind: 'deny'; readonly reason: EndReason; readonly message: string })

export interface OutboundRequest {
  readonly originalDestination: SocketAddress
  readonly source: LocalPod
  readonly mesh: MeshState
  readonly localPods: LocalPods
  /** The caller's own, as the destination would have seen it. */
  readonly clientAddress: IpAddress
  readonly experience?: Experience
  readonly random: () => number
  /** Endpoints of the service that have just failed this connection. */
  readonly exclude?: ReadonlySet<WorkloadUid>
}

const UNKNOWN: Destination = { service: undefined, workload: undefined }

/** Decides one outbound connection. Never throws; fails closed where security is at stake. */
export function decideOutbound(request: OutboundRequest): OutboundDecision {
  const { originalDestination, source, mesh } = request
  const { address, port } = originalDestination
  // Row 10: a proxy that dialled its own listener would call itself without end.
  if (isMeshPort(port) && isLoopback(address))
    return deny(UNKNOWN, 'selfCall', `port ${port} belongs to the mesh`)

  const match = mesh.findService(originalDestination, source.namespace)
  if (match !== undefined) return decideService(request, match)

  const workload = mesh.findWorkload(address)
  if (workload !== undefined) return decideWorkload(request, { workload, address, port }, undefined)
  return decideUnknown(request)
}

/** To an address that is nobody's, so far as the mesh knows by now. */
function decideUnknown(request: OutboundRequest): OutboundDecision {
  const { originalDestination, mesh } = request
  // Row 6a: the node may lead it on yet, in plaintext and past its waypoint.
  const service = mesh.formerService(originalDestination)
  if (service !== undefined)
    return deny(
      { service, workload: undefined },
      'noHealthyUpstream',
      `no healthy upstream: service ${service.key} is deleted, or has ${formatSocketAddress(originalDestination)} no more`,
    )
  // Row 8a: it may be there yet, and nobody else gets what was meant for it.
  const workload = mesh.formerWorkload(originalDestination.address)
  if (workload !== undefined)
    return decideWorkload(request, { ...originalDestination, workload }, undefined)
  // Row 9: an address the mesh does not know is none of its business.
  return { kind: 'passthrough', target: originalDestination, ...UNKNOWN }
}

function decideService(request: OutboundRequest, match: ServiceMatch): OutboundDecision {
  const { originalDestination, source, mesh, random } = request
  const { service, servicePort } = match
  // Row 1; row 2 needs gateways to other networks.
  const isWaypoints = waypointsOf(service).some((each) =>
    isWaypointItself(mesh, each, source.workloadUid),
  )
  const bound = isWaypoints ? undefined : drawWaypoint(service, random)
  if (bound !== undefined) {
    const target = asWaypointKnowsIt(match, originalDestination)
    return byWaypoint(request, bound, target, { service, workload: undefined })
  }
  if (service.loadBalancing.mode === 'passthrough')
    return { kind: 'passthrough', target: originalDestination, service, workload: undefined }
  const { exclude } = request
  const all = mesh.endpoints(service.key)
  const candidates =
    exclude === undefined
      ? all
      : all.filter(
          ({ uid, addresses }) =>
            !exclude.has(uid) &&
            !addresses.some((address) => exclude.has(holderOf(mesh, address)?.uid ?? uid)),
        )
  const client = mesh.workload(source.workloadUid)
  const endpoint = pickEndpoint(candidates, {
    service,
    servicePort,
    client,
    clientAddress: request.clientAddress,
    requested: originalDestination.address,
    experience: request.experience,
    ...reachOf(match, client),
    random,
  })
  // Row 6.
  if (endpoint === undefined)
    return deny(
      { service, workload: undefined },
      'noHealthyUpstream',
      `no healthy upstream: service ${service.key} port ${servicePort}${onlyNear(match, client)}`,
    )
  const decision = decideWorkload(request, endpoint, service)
  if (
    decision.kind === 'passthrough' &&
    isLedByNode({
      mesh,
      match,
      caller: source.workloadUid,
      requested: originalDestination.address,
      chosen: endpoint.address,
    })
  )
    return { kind: 'passthrough', target: originalDestination, service, workload: undefined }
  return decision
}

/** Whom the address that was asked for leads to, of the Service's endpoints. */
export function reachOf(
  match: ServiceMatch,
  client: Workload | undefined,
): { readonly reach?: Reach } {
  if (match.by === 'own') return {}
  const node = nodeOnly(match, client)
  return node === undefined
    ? { reach: { kind: 'external' } }
    : { reach: { kind: 'node', clusterId: node.clusterId, node: node.name } }
}

/**
 * The node whose endpoints alone serve the call, by externalTrafficPolicy: Local. For a pod its own node's address leads to all, as with
 * kube-proxy, which leads such a call as if it came back from outside; another node hears of it from a stranger.
 */
function nodeOnly(
  { service, by, node }: ServiceMatch,
  client: Workload | undefined,
): MeshNode | undefined {
  if (by !== 'nodePort' || service.nodePortScope !== 'node') return undefined
  const isOwn = client?.node === node?.name && client?.clusterId === node?.clusterId
  return isOwn ? undefined : node
}

/** Why there may be none for this caller though the service has endpoints. */
function onlyNear(match: ServiceMatch, client: Workload | undefined): string {
  const { service, by } = match
  const none = (setting: string, name = ''): string =>
    `, which has ${setting}: Local, and none of its endpoints is fit on node "${name}"`
  const node = nodeOnly(match, client)
  if (node !== undefined) return none('externalTrafficPolicy', node.name)
  const { mode, routingPreference } = service.loadBalancing
  if (by !== 'own' || mode !== 'strict') return ''
  // Kubernetes knows one such wish; other control planes may have more.
  return routingPreference.join() === 'node'
    ? none('internalTrafficPolicy', client?.node)
    : `, which only endpoints of the caller's own ${routingPreference.join(', ')} may serve`
}

/** The Service's own address and port: by others, a node's say, a waypoint need not know it. */
function asWaypointKnowsIt(
  { service, servicePort, by }: ServiceMatch,
  asked: SocketAddress,
): SocketAddress {
  if (by === 'own') return asked
  const own = service.addresses.filter(
    ({ address, prefixLength }) =>
      prefixLength === undefined && !service.externalAddresses.includes(address),
  )
  const [first] = own
  const near = own.find(({ address }) => familyOf(address) === familyOf(asked.address)) ?? first
  return near === undefined ? asked : { address: near.address, port: servicePort }
}

/** To the waypoint, and nowhere else: going past it would skip its policy. */
function byWaypoint(
  request: OutboundRequest,
  gateway: GatewayAddress,
  target: SocketAddress,
  { service, workload }: Destination,
): OutboundDecision {
  const by = { ...request, requested: target.address }
  const drawn = chooseWaypoint(by, gateway)
  // Where the canary cannot take its share, the waypoint that the Service is bound to does: its policy is the Service's all the same.
  const primary = workload === undefined ? service?.waypoint : undefined
  const isCanary = primary !== undefined && primary !== gateway
  const chosen = 'fault' in drawn && isCanary ? chooseWaypoint(by, primary) : drawn
  if ('fault' in chosen) {
    const what = workload === undefined ? `service ${service?.key}` : `workload ${workload.uid}`
    const message = `${what} is bound to ${chosen.fault}`
    return deny({ service, workload }, 'waypointUnavailable', message)
  }
  const { name, ...rest } = chosen
  const of = workload === undefined ? 'service' : 'workload'
  return { kind: 'hbone', target, service, waypoint: { name, of }, ...rest }
}

function decideWorkload(
  request: OutboundRequest,
  { workload: listed, address, port }: Endpoint,
  service: Service | undefined,
): OutboundDecision {
  const { source, mesh, localPods } = request
  const workload = whoIsAt(mesh, listed, address)
  const destination = {
    service,
    workload,
    ...(service === undefined ? {} : { endpoint: { endpoint: listed.uid, port } }),
  }
  const target = { address, port }
  // Row 3 needs gateways to other networks.
  const ownNetwork = mesh.workload(source.workloadUid)?.network
  if (ownNetwork !== undefined && workload.network !== ownNetwork)
    return deny(
      destination,
      'noHealthyUpstream',
      `workload ${workload.uid} is on network "${workload.network}", and other networks are not supported yet`,
    )
  // A pod that calls itself needs no tunnel to do so, and is let in by none.
  const isSelf = workload.uid === source.workloadUid && source.addresses.includes(address)
  // Row 7, and the same of an endpoint of a Service that is not bound.
  const bound = workload.waypoint
  if (bound !== undefined && !isSelf && !isWaypointItself(mesh, bound, source.workloadUid))
    return byWaypoint(request, bound, target, { service, workload })
  // Rows 5 and 9.
  if (workload.tunnelProtocol === 'none') {
    // Kubernetes: an endpoint is not the address of a Service. The node would lead it on, in plaintext, also to pods of the mesh.
    // The same of the other addresses of Services: whoever claims one must not have what others list under it.
    const other = service && mesh.findService(target, source.namespace)?.service
    if (other?.canonical === true && other.key !== service?.key)
      return deny(
        destination,
        'noHealthyUpstream',
        `endpoint ${formatSocketAddress(target)} of service ${service?.key} is an address of service ${other.key}`,
      )
    return { kind: 'passthrough', target, ...destination }
  }

  const pod = isSelf ? source : localPods.byAddress(address)
  // The uid check keeps a successor on a reused address from being taken for the workload that was meant.
  if (pod !== undefined && pod.workloadUid === workload.uid)
    return { kind: 'sameNode', pod, target, ...destination }
  // Rows 4 and 8.
  return {
    kind: 'hbone',
    peer: { address, port: MESH_PORTS.hbone },
    target,
    expectedIdentities: expectedIdentities(workload, service),
    ...destination,
    workload,
  }
}

function deny(
  destination: Destination,
  reason: EndReason,
  message: string,
): Extract<OutboundDecision, { kind: 'deny' }> {
  return { kind: 'deny', reason, message, ...destination }
}
