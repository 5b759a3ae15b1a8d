// SPDX-License-Identifier: Apache-2.0
// Where a call goes on to: an endpoint of a Service, or the workload that was called, and how it is reached. Pure.

import type { EndpointPort } from '../../mesh/balance/ejections.ts'
import { expectedIdentities } from '../../mesh/identity/workload-identity.ts'
import { formatSocketAddress } from '../../mesh/model/address.ts'
import {
  type Endpoint,
  type Experience,
  pickEndpoint,
  type PickRequest,
} from '../../mesh/model/load-balance.ts'
import type { MeshState } from '../../mesh/model/mesh-state.ts'
import { isMeshPort, MESH_PORTS } from '../../mesh/model/ports.ts'
import type {
  IpAddress,
  Service,
  ServiceKey,
  SocketAddress,
  SpiffeId,
  Workload,
  WorkloadUid,
} from '../../mesh/model/types.ts'
import { whoIsAt } from '../../mesh/model/who-is-at.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import type { Backend, RequestSource } from '../exchange/types.ts'

export interface UpstreamRequest {
  readonly mesh: MeshState
  /** Of the waypoint and of all that it reaches. */
  readonly network: string
  readonly backend: Backend
  /** Who called the waypoint: what is near is near to it, and it is whom a Service with affinity knows again. */
  readonly source: RequestSource
  /** The address that was called, whose family goes first. */
  readonly called: IpAddress
  /** The endpoint to choose if it is fit. */
  readonly preferred?: SocketAddress | undefined
  readonly experience?: Experience
  readonly random: () => number
  /** Endpoints that have just failed this call. */
  readonly exclude?: ReadonlySet<WorkloadUid> | undefined
}

interface Reached {
  readonly service: Service | undefined
  readonly workload: Workload
  /** The app. */
  readonly target: SocketAddress
  /** As the service's list has it, or the workload itself. */
  readonly endpoint: EndpointPort
}

export type UpstreamChoice =
  | (Reached & {
      readonly kind: 'hbone'
      readonly peer: SocketAddress
      readonly expectedIdentities: readonly SpiffeId[]
    })
  /** Outside the mesh: a plain connection. */
  | (Reached & { readonly kind: 'plain' })
  | { readonly kind: 'none'; readonly reason: EndReason; readonly message: string }

/** Chooses; never throws. */
export function chooseUpstream(request: UpstreamRequest): UpstreamChoice {
  const { backend } = request
  return backend.kind === 'service'
    ? chooseOfService(request, backend.service as ServiceKey, backend.port)
    : chooseWorkload(request, backend.target)
}

function chooseOfService(
  request: UpstreamRequest,
  key: ServiceKey,
  servicePort: number,
): UpstreamChoice {
  const { mesh, source, called, experience, random, exclude } = request
  const service = mesh.service(key)
  if (service === undefined) return none(`service ${key} is not known`)
  if (service.loadBalancing.mode === 'passthrough')
    return none(`service ${key} has no endpoints of its own: its calls are not for a waypoint`)
  const all = mesh.endpoints(key)
  const candidates = exclude === undefined ? all : all.filter(({ uid }) => !exclude.has(uid))
  const asked: PickRequest = {
    service,
    servicePort,
    client: source.workload,
    clientAddress: source.address?.address ?? called,
    requested: called,
    experience,
    random,
  }
  const endpoint = preferredOf(request, candidates, asked) ?? pickEndpoint(candidates, asked)
  return endpoint === undefined
    ? none(`no healthy upstream: service ${key} port ${servicePort}`)
    : reach(request, endpoint, service)
}

/** The endpoint that a session is at, while it is ready and takes connections: one that leaves is as good as gone. */
function preferredOf(
  { preferred, experience }: UpstreamRequest,
  candidates: readonly Workload[],
  asked: PickRequest,
): Endpoint | undefined {
  if (preferred === undefined) return undefined
  const { address, port } = preferred
  const found = pickEndpoint(
    candidates.filter(({ addresses }) => addresses.includes(address)),
    asked,
  )
  if (found?.port !== port || !found.workload.services.has(asked.service.key)) return undefined
  return experience?.isEjected(found.workload.uid, port) === true ? undefined : found
}

function chooseWorkload(
  request: UpstreamRequest,
  { address, port }: SocketAddress,
): UpstreamChoice {
  const workload = request.mesh.findWorkload(address)
  return workload === undefined
    ? none(`no workload is at ${address} any more`)
    : reach(request, { workload, address, port }, undefined)
}

function reach(
  { mesh, network }: UpstreamRequest,
  { workload: listed, address, port }: Endpoint,
  service: Service | undefined,
): UpstreamChoice {
  const workload = whoIsAt(mesh, listed, address)
  const target = { address, port }
  if (workload.network !== network)
    return none(
      `workload ${workload.uid} is on network "${workload.network}", and other networks are not supported yet`,
    )
  if (isMeshPort(port))
    return {
      kind: 'none',
      reason: 'selfCall',
      message: `endpoint ${formatSocketAddress(target)} is a port of the mesh`,
    }
  const endpoint = { endpoint: listed.uid, port }
  return workload.tunnelProtocol === 'none'
    ? { kind: 'plain', service, workload, target, endpoint }
    : {
        kind: 'hbone',
        service,
        workload,
        target,
        endpoint,
        peer: { address, port: MESH_PORTS.hbone },
        expectedIdentities: expectedIdentities(workload, service),
      }
}

function none(message: string): UpstreamChoice {
  return { kind: 'none', reason: 'noHealthyUpstream', message }
}
