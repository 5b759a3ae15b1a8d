// SPDX-License-Identifier: Apache-2.0
// Serves what arrives at a pod: HBONE tunnels (15008) and captured plaintext (15006). Both end at the app, dialled
// from the client's own address, so that the app sees who called.

import { errorMessage } from '../../mesh/errors.ts'
import { CONNECT_DEADLINE_MS } from '../../mesh/hbone/limits.ts'
import type { IncomingTunnel } from '../../mesh/hbone/types.ts'
import type { Service, SocketAddress } from '../../mesh/model/types.ts'
import { resetSocket } from '../../mesh/relay/reset-socket.ts'
import { type Party, partyOf, UNKNOWN_PARTY } from '../../mesh/telemetry/connection-record.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import type { InboundCall, Permit } from './admission.ts'
import type { Carriage, Downstream } from './carrier.ts'
import { Connection } from './connection.ts'
import { type Arrival, type Client, decideArrival, decideDirect } from './decision/arrival.ts'
import { clientAddress, decideInboundHbone } from './decision/inbound.ts'
import { enter } from './entering.ts'
import { leadBack } from './lead-back.ts'
import { podParty } from './local-pod.ts'
import { CarriedCall, localAddress, type PodContext, remoteAddress } from './pod-context.ts'
import { baggageOf, calledHost } from './tunnel-headers.ts'
import { provenWorkload } from '../../mesh/identity/workload-identity.ts'
import type { PlainSocket } from '../../mesh/relay/thin-socket.ts'

/** As of what the pod calls itself (outbound.ts). */
const FIRST_SYNC_TIMEOUT_MS = 5_000

/** Serves one CONNECT; resolves when it is carried, or refused. */
export async function handleIncomingTunnel(
  context: PodContext,
  incoming: IncomingTunnel,
): Promise<void> {
  const { pod, mesh, trust, connections, gate } = context
  const { authority, peer, local, peerIdentity, headers } = incoming
  // Who calls for another is refused unless it is known as a waypoint: of a freshly started agent nobody is known yet.
  if (headers.originalClient !== undefined && !mesh.isSynced)
    await mesh.whenSynced(FIRST_SYNC_TIMEOUT_MS)
  // As long as it runs it is bound as it was, though discovery knows it no more.
  const workload = gate.policies.lastSaid(pod)
  const decision = decideInboundHbone({ authority, local, pod })
  const arrival =
    decision.kind === 'reject'
      ? decision
      : decideArrival(mesh.state, workload, incoming, decision.target, trust)
  const client =
    arrival.kind === 'reject' ? { address: peer, identity: peerIdentity } : arrival.client
  const connection = new Connection(
    {
      direction: 'inbound',
      source: sourceOf(context, client),
      sourceAddress: client.address,
      destination: ownParty(context, true),
      destinationAddress: local,
      hboneTarget: arrival.kind === 'reject' ? undefined : arrival.target,
      service: calledService(context, headers.forwarded),
      // Where a waypoint calls for somebody in plaintext, nobody has proven who that is.
      security: client.identity === undefined ? 'unknown' : 'mutual_tls',
      via: arrival.kind === 'enter' ? arrival.via : undefined,
    },
    connections,
  )
  if (arrival.kind === 'reject') {
    if (!incoming.signal.aborted) incoming.reject(arrival.status)
    connection.fail(arrival.reason, arrival.message)
    return
  }
  const { target } = arrival
  const call: InboundCall = {
    peer: client.address,
    peerIdentity: client.identity,
    destination: pod.uid,
    target,
    via: 'hbone',
  }
  const entry = await enter(connection, call, pod, connections, gate, incoming.signal)
  if (entry.kind === 'refuse') {
    if (!incoming.signal.aborted) incoming.reject(statusOf(entry.reason))
    connection.fail(entry.reason, entry.message, entry.by)
    return
  }
  const downstream = { kind: 'tunnel', incoming, baggage: baggageOf(pod, workload) } as const
  const onward = afterEntry(context, arrival)
  const admitted = { call, permit: entry.permit, arrival: onward, caller: peer }
  const carriage = await carryOn(context, connection, downstream, admitted)
  if (carriage.kind === 'carried') return
  const { failure } = carriage
  if (!incoming.signal.aborted) incoming.reject(statusOf(failure.reason))
  connection.fail(failure.reason, failure.message)
}

/** Serves one captured plaintext connection; resolves when it is carried, or refused. */
export async function handleInboundPlaintext(
  context: PodContext,
  socket: PlainSocket,
): Promise<void> {
  const { mesh, pod, connections, gate } = context
  const peer = remoteAddress(socket)
  const target = localAddress(socket)
  const connection = new Connection(
    {
      direction: 'inbound',
      source: peer === undefined ? UNKNOWN_PARTY : partyOf(mesh.state.findWorkload(peer.address)),
      sourceAddress: peer,
      destination: ownParty(context, false),
      destinationAddress: target,
      hboneTarget: undefined,
      service: undefined,
      security: 'unknown',
    },
    connections,
  )
  const refuse = (...failure: Parameters<Connection['fail']>): void => {
    // A reset leaves no TIME_WAIT on the app's port, which would keep a restarting app from binding it.
    resetSocket(socket)
    connection.fail(...failure)
  }
  if (peer === undefined || target === undefined) return refuse('clientReset', 'gone before accept')
  const call: InboundCall = {
    peer,
    peerIdentity: undefined,
    destination: pod.uid,
    target,
    via: 'plaintext',
  }
  const entry = await enter(connection, call, pod, connections, gate)
  if (entry.kind === 'refuse') return refuse(entry.reason, entry.message, entry.by)
  const downstream = { kind: 'socket', socket } as const
  const workload = gate.policies.lastSaid(pod)
  const arrival = decideDirect(workload, { address: peer, identity: undefined }, target)
  const admitted = { call, permit: entry.permit, arrival, caller: peer }
  const carriage = await carryOn(context, connection, downstream, admitted)
  if (carriage.kind === 'carried') return
  refuse(carriage.failure.reason, carriage.failure.message)
}

/** While it waited to be let in, discovery may have told that the pod is bound: what has passed no waypoint is looked at again. */
function afterEntry({ pod, gate }: PodContext, arrival: Onward): Onward {
  return arrival.kind === 'enter' && arrival.via !== undefined
    ? arrival
    : decideDirect(gate.policies.lastSaid(pod), arrival.client, arrival.target)
}

type Onward = Exclude<Arrival, { readonly kind: 'reject' }>

/** A call that was let in. */
interface Admitted {
  readonly call: InboundCall
  readonly permit: Permit
  readonly arrival: Onward
  /** Who has made the connection: of one that came by a waypoint, that. */
  readonly caller: SocketAddress
}

/** Carries an admitted call to its end, or says why the app, or the waypoint, could not be reached. */
async function carryOn(
  context: PodContext,
  connection: Connection,
  downstream: Downstream,
  admitted: Admitted,
): Promise<Carriage> {
  const { call, permit, arrival } = admitted
  try {
    return arrival.kind === 'enter'
      ? await carryToApp(context, connection, downstream, admitted)
      : await leadBack(context, connection, downstream, { call, permit, ...arrival })
  } catch (thrown) {
    // Only a bug throws; the connection must still end and be told of.
    connection.fail('internal', errorMessage(thrown))
    throw thrown
  }
}

function carryToApp(
  { carrier, pod }: PodContext,
  connection: Connection,
  downstream: Downstream,
  { call: { peer, target, via }, permit, caller }: Admitted,
): Promise<Carriage> {
  const address = clientAddress(peer, target, caller)
  const isTunnel = via === 'hbone'
  const way = {
    kind: 'app',
    pod: pod.uid,
    netnsFd: pod.netnsFd,
    target,
    client: address && { address, port: isTunnel ? undefined : peer.port },
    // The far agent waits for the answer to its CONNECT so long; who calls in plaintext has the kernel's patience, as without a mesh.
    timeoutMs: isTunnel ? CONNECT_DEADLINE_MS : undefined,
  } as const
  return carrier.carry(new CarriedCall(downstream, connection), way, permit)
}

/** The workload at the client's address: where it has an identity, only one that proves it. */
function sourceOf({ mesh: { state }, trust }: PodContext, { address, identity }: Client): Party {
  if (identity === undefined) return partyOf(state.findWorkload(address.address))
  return partyOf(provenWorkload(state, address.address, identity, trust), identity)
}

/** What a CONNECT is answered that is not carried: a policy denies by 401, all else another endpoint may do better. */
function statusOf(reason: EndReason): 401 | 503 {
  return reason === 'policyDenied' || reason === 'policyChanged' ? 401 : 503
}

function ownParty({ pod, mesh }: PodContext, isProven: boolean): Party {
  return podParty(pod, mesh.state.workload(pod.workloadUid), isProven ? pod.identity : undefined)
}

function calledService(context: PodContext, forwarded: string | undefined): Service | undefined {
  const host = calledHost(forwarded)
  return host === undefined
    ? undefined
    : context.mesh.state.findServiceByHostname(host, context.pod.namespace)
}
