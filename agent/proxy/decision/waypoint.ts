// SPDX-License-Identifier: Apache-2.0
// The waypoint that a Service or a workload is bound to: who it is, and which of its endpoints takes a call. What is bound is reached by its
// waypoint or not at all, lest its policy be skipped. Pure.

import type { TrustPolicy } from '../../../mesh/identity/trust-policy.ts'
import { expectedIdentities } from '../../../mesh/identity/workload-identity.ts'
import { familyOf } from '../../../mesh/model/address.ts'
import type { MeshState } from '../../../mesh/model/mesh-state.ts'
import { type Endpoint, type Experience, pickEndpoint } from '../../../mesh/model/load-balance.ts'
import { MESH_PORTS } from '../../../mesh/model/ports.ts'
import { waypointsOf } from '../../../mesh/model/service-waypoints.ts'
import type {
  GatewayAddress,
  IpAddress,
  Service,
  ServiceKey,
  SocketAddress,
  SpiffeId,
  Workload,
  WorkloadUid,
} from '../../../mesh/model/types.ts'
import type { EndpointPort } from '../../../mesh/balance/ejections.ts'
import { whoIsAt } from '../../../mesh/model/who-is-at.ts'

/** A waypoint as the mesh knows it. */
interface KnownWaypoint {
  /** For people, `namespace/name`. */
  readonly name: string
  /** undefined where it is the address of a workload. */
  readonly service: Service | undefined
  /** All of them, fit or not. */
  readonly endpoints: readonly Workload[]
}

/** Who wants to call by it. */
export interface WaypointRequest {
  readonly mesh: MeshState
  readonly source: { readonly workloadUid: WorkloadUid }
  /** As session affinity has it. */
  readonly clientAddress: IpAddress
  /** What is called: the waypoint is called over the same family where it can be. */
  readonly requested: IpAddress
  readonly experience?: Experience | undefined
  readonly random: () => number
  readonly exclude?: ReadonlySet<WorkloadUid> | undefined
}

/** An endpoint of a waypoint that takes the call. */
export interface ChosenWaypoint {
  readonly name: string
  readonly workload: Workload
  readonly endpoint: EndpointPort
  /** Its HBONE listener. */
  readonly peer: SocketAddress
  readonly expectedIdentities: readonly SpiffeId[]
}

/** Chooses an endpoint of the waypoint; where there is none, what to say of it after "bound to". */
export function chooseWaypoint(
  request: WaypointRequest,
  gateway: GatewayAddress,
): ChosenWaypoint | { readonly fault: string } {
  const { mesh, source, exclude } = request
  const waypoint = findWaypoint(mesh, gateway)
  const { name } = waypoint
  if (waypoint.endpoints.length === 0 && waypoint.service === undefined)
    return { fault: `waypoint ${name}, which is not known` }
  const client = mesh.workload(source.workloadUid)
  const candidates = waypoint.endpoints.filter(
    ({ uid, network }) =>
      exclude?.has(uid) !== true && (client === undefined || network === client.network),
  )
  // 0 on the wire means that nobody said.
  const port = gateway.hbonePort === 0 ? MESH_PORTS.hbone : gateway.hbonePort
  const chosen = pick(waypoint.service, candidates, port, request, client)
  if (chosen === undefined) return { fault: `waypoint ${name}, which has no ready endpoint` }
  const workload = whoIsAt(mesh, chosen.workload, chosen.address)
  return {
    name,
    workload,
    endpoint: { endpoint: chosen.workload.uid, port: chosen.port },
    peer: { address: chosen.address, port: chosen.port },
    expectedIdentities: expectedIdentities(workload, waypoint.service),
  }
}

/** The waypoint's name for people, `namespace/name`. */
export function waypointName(mesh: MeshState, gateway: GatewayAddress): string {
  return findWaypoint(mesh, gateway).name
}

/** Whether the workload is an endpoint of the waypoint: its own calls never lead back to it. */
export function isWaypointItself(
  mesh: MeshState,
  gateway: GatewayAddress,
  workload: WorkloadUid,
): boolean {
  return findWaypoint(mesh, gateway).endpoints.some(({ uid }) => uid === workload)
}

/**
 * The waypoint of the workload that proves this identity: its own, or one of a Service that it belongs to. Only Services of its own
 * namespace count: anybody may list its address as an endpoint of a Service of his, and bind that to a waypoint of his.
 */
export function provenWaypoint(
  mesh: MeshState,
  workload: Workload,
  identity: SpiffeId,
  trust: Pick<TrustPolicy, 'isOneOf'>,
): string | undefined {
  const own = workload.waypoint && findWaypoint(mesh, workload.waypoint)
  if (own !== undefined && proves(mesh, own, identity, trust)) return own.name
  for (const memberships of [workload.services, workload.leaving])
    for (const key of memberships.keys()) {
      const service = mesh.service(key)
      if (service === undefined || service.namespace !== workload.namespace) continue
      for (const each of waypointsOf(service)) {
        const waypoint = findWaypoint(mesh, each)
        if (proves(mesh, waypoint, identity, trust)) return waypoint.name
      }
    }
  return undefined
}

/**
 * By those identities that chooseWaypoint expects of it. Who serves it does not turn a stranger by being unready: a waypoint without any
 * endpoint is the one that it was last.
 */
function proves(
  mesh: MeshState,
  { endpoints, service }: KnownWaypoint,
  identity: SpiffeId,
  trust: Pick<TrustPolicy, 'isOneOf'>,
): boolean {
  const last = service && mesh.lastEndpoint(service.key)
  // Not who has its address now: it may have passed to another pod.
  if (last !== undefined) return trust.isOneOf(identity, expectedIdentities(last, service))
  return endpoints.some((listed) =>
    listed.addresses.some((address) =>
      trust.isOneOf(identity, expectedIdentities(whoIsAt(mesh, listed, address), service)),
    ),
  )
}

function findWaypoint(mesh: MeshState, { destination, hbonePort }: GatewayAddress): KnownWaypoint {
  if (destination.kind === 'hostname') {
    const { namespace, hostname } = destination
    const [label = hostname] = hostname.split('.', 1)
    const service = mesh.service(`${namespace}/${hostname}` as ServiceKey)
    return known(mesh, `${namespace}/${label}`, service)
  }
  const { address, network } = destination
  const match = mesh.findService({ address, port: hbonePort }, '')
  // An address that others may claim names nobody for sure.
  if (match?.by === 'own' && match.service.addresses.some((each) => each.network === network)) {
    const { service } = match
    return known(mesh, `${service.namespace}/${service.name}`, service)
  }
  const workload = mesh.findWorkload(address)
  const name = workload === undefined ? address : `${workload.namespace}/${workload.name}`
  return workload?.network === network
    ? { name, service: undefined, endpoints: [workload] }
    : {
        name: network === '' ? address : `${network}/${address}`,
        service: undefined,
        endpoints: [],
      }
}

function known(mesh: MeshState, name: string, service: Service | undefined): KnownWaypoint {
  return { name, service, endpoints: service === undefined ? [] : mesh.endpoints(service.key) }
}

function pick(
  service: Service | undefined,
  endpoints: readonly Workload[],
  port: number,
  { clientAddress, requested, experience, random }: WaypointRequest,
  client: Workload | undefined,
): Endpoint | undefined {
  if (service !== undefined) {
    const how = { clientAddress, requested, experience, random }
    return pickEndpoint(endpoints, { service, servicePort: port, client, ...how })
  }
  const [workload] = endpoints
  const address = workload?.addresses.find((each) => familyOf(each) === familyOf(requested))
  const [first = address] = workload?.addresses ?? []
  return workload === undefined || first === undefined || workload.status !== 'healthy'
    ? undefined
    : { workload, address: address ?? first, port }
}
