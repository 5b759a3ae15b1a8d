// SPDX-License-Identifier: Apache-2.0
// Whom a call that arrives at a pod is really of, and whether it has passed the waypoint that the pod is bound to. Pure. The table is in
// docs/compatibility.md, "By a waypoint".

import {
  type OriginalClient,
  parseOriginalClient,
} from '../../../mesh/telemetry/original-client.ts'
import type { TrustPolicy } from '../../../mesh/identity/trust-policy.ts'
import { isLoopback, isSpecial } from '../../../mesh/model/address.ts'
import type { MeshState } from '../../../mesh/model/mesh-state.ts'
import type {
  GatewayAddress,
  SocketAddress,
  SpiffeId,
  Workload,
} from '../../../mesh/model/types.ts'
import { parseForwarded } from '../../../mesh/telemetry/forwarded.ts'
import type { PassedWaypoint } from '../../../mesh/telemetry/connection-record.ts'
import { END_REASONS } from '../../../mesh/telemetry/end-reason.ts'
import { type InboundHboneDecision, reject } from './inbound.ts'
import { provenWaypoint } from './waypoint.ts'

/** Whom policy is asked about, and whom the app sees. */
export interface Client {
  readonly address: SocketAddress
  /** undefined: nobody has proven one. */
  readonly identity: SpiffeId | undefined
}

interface Arrived {
  readonly client: Client
  /** Where in the pod it is to lead. */
  readonly target: SocketAddress
}

export type Arrival =
  /** Into the pod, if policy lets it in. */
  | (Arrived & { readonly kind: 'enter'; readonly via: PassedWaypoint | undefined })
  /** It has come past the waypoint: to be led there, if policy would let it in. */
  | (Arrived & { readonly kind: 'leadBack'; readonly gateway: GatewayAddress })
  | Extract<InboundHboneDecision, { readonly kind: 'reject' }>

/** A CONNECT, as far as it says who calls. */
interface ArrivingTunnel {
  readonly peer: SocketAddress
  readonly peerIdentity: SpiffeId
  readonly headers: { readonly originalClient?: string; readonly forwarded?: string }
}

/** Decides one CONNECT; `workload` is the called pod's, undefined where discovery has not told of it. */
export function decideArrival(
  mesh: MeshState,
  workload: Workload | undefined,
  { peer, peerIdentity, headers }: ArrivingTunnel,
  target: SocketAddress,
  trust: Pick<TrustPolicy, 'isOneOf'>,
): Arrival {
  const { originalClient, forwarded } = headers
  const name = workload && provenWaypoint(mesh, workload, peerIdentity, trust)
  if (name === undefined)
    return originalClient === undefined
      ? decideDirect(workload, { address: peer, identity: peerIdentity }, target)
      : NOT_BELIEVED
  const via = { name, identity: peerIdentity, address: peer }
  // A waypoint that says nothing calls for itself, as Istio's does.
  if (originalClient === undefined)
    return { kind: 'enter', client: { address: peer, identity: peerIdentity }, target, via }
  const said = parseOriginalClient(originalClient)
  if (said === undefined || !mayCall(said, target))
    return reject(`waypoint ${name} names no client that could call`)
  const client = { address: withPort(said, forwarded), identity: said.identity }
  return { kind: 'enter', client, target, via }
}

/** The same of one that no waypoint has made, by HBONE or in plaintext. */
export function decideDirect(
  workload: Workload | undefined,
  client: Client,
  target: SocketAddress,
): Exclude<Arrival, { readonly kind: 'reject' }> {
  const gateway = workload?.waypoint
  return gateway === undefined
    ? { kind: 'enter', client, target, via: undefined }
    : { kind: 'leadBack', client, target, gateway }
}

/**
 * It calls for somebody, and may not. Were it taken for a caller of its own, a waypoint that is not known as such (any more, or yet) would
 * lend its identity to clients that policy refuses. 503: another endpoint may know it already.
 */
const NOT_BELIEVED: Arrival = {
  kind: 'reject',
  status: 503,
  reason: 'notTheWaypoint',
  message: END_REASONS.notTheWaypoint.text,
}

/** Nobody calls from such addresses; a pod that lives on loopback is a test's. */
function mayCall({ address }: OriginalClient, target: SocketAddress): boolean {
  return !isSpecial(address) || (isLoopback(address) && isLoopback(target.address))
}

/** The port is told for people alone. */
function withPort({ address }: OriginalClient, forwarded: string | undefined): SocketAddress {
  const told = forwarded === undefined ? undefined : parseForwarded(forwarded).for
  return told?.address === address ? told : { address, port: 0 }
}
