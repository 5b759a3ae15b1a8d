// SPDX-License-Identifier: Apache-2.0
// Serves what arrives at a pod: HBONE tunnels (15008) and captured plaintext (15006). Both end at the app, dialled
// from the client's own address, so that the app sees who called.

import type { Socket } from 'node:net'
import { errorMessage } from '../../mesh/errors.ts'
import { CONNECT_DEADLINE_MS } from '../../mesh/hbone/limits.ts'
import type { HboneFailure, IncomingTunnel } from '../../mesh/hbone/types.ts'
import type { Service } from '../../mesh/model/types.ts'
import { resetSocket } from '../../mesh/relay/reset-socket.ts'
import { type Party, partyOf, UNKNOWN_PARTY } from '../../mesh/telemetry/connection-record.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import type { InboundCall, Permit } from './admission.ts'
import type { Downstream } from './carrier.ts'
import { Connection } from './connection.ts'
import { clientAddress, decideInboundHbone } from './decision/inbound.ts'
import { enter } from './entering.ts'
import { podParty } from './local-pod.ts'
import { CarriedCall, localAddress, type PodContext, remoteAddress } from './pod-context.ts'
import { baggageOf, calledHost } from './tunnel-headers.ts'
import { provenWorkload } from './workload-identity.ts'

/** Serves one CONNECT to its end. */
export async function handleIncomingTunnel(
  context: PodContext,
  incoming: IncomingTunnel,
): Promise<void> {
  const { pod, mesh, trust, connections, gate } = context
  const { authority, peer, local, peerIdentity } = incoming
  const decision = decideInboundHbone({ authority, local, pod })
  const connection = new Connection(
    {
      direction: 'inbound',
      source: partyOf(provenWorkload(mesh.state, peer.address, peerIdentity, trust), peerIdentity),
      sourceAddress: peer,
      destination: ownParty(context, true),
      destinationAddress: local,
      hboneTarget: decision.kind === 'connect' ? decision.target : undefined,
      service: calledService(context, incoming.headers.forwarded),
      security: 'mutual_tls',
    },
    connections,
  )
  if (decision.kind === 'reject') {
    incoming.reject(decision.status)
    connection.fail(decision.reason, decision.message)
    return
  }
  const { target } = decision
  const call: InboundCall = { peer, peerIdentity, destination: pod.uid, target, via: 'hbone' }
  const entry = await enter(connection, call, pod, connections, gate, incoming.signal)
  if (entry.kind === 'refuse') {
    if (!incoming.signal.aborted) incoming.reject(statusOf(entry.reason))
    connection.fail(entry.reason, entry.message, entry.by)
    return
  }
  const baggage = baggageOf(pod, mesh.state.workload(pod.workloadUid))
  const downstream = { kind: 'tunnel', incoming, baggage } as const
  const failure = await carryToApp(context, connection, downstream, call, entry.permit)
  if (failure === undefined) return
  if (!incoming.signal.aborted) incoming.reject(statusOf(failure.reason))
  connection.fail(failure.reason, failure.message)
}

/** Serves one captured plaintext connection to its end. */
export async function handleInboundPlaintext(context: PodContext, socket: Socket): Promise<void> {
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
  const failure = await carryToApp(context, connection, downstream, call, entry.permit)
  if (failure !== undefined) refuse(failure.reason, failure.message)
}

/** Carries an admitted call to its end and finishes its record; gives back why the app could not be reached. */
async function carryToApp(
  { carrier, pod }: PodContext,
  connection: Connection,
  downstream: Downstream,
  { peer, target, via }: InboundCall,
  permit: Permit,
): Promise<HboneFailure | undefined> {
  const address = clientAddress(peer, target)
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
  try {
    const end = await carrier.carry(new CarriedCall(downstream, connection), way, permit)
    if (end.kind === 'unopened') return end.failure
    connection.finish(end.reason, end)
    return undefined
  } catch (thrown) {
    // Only a bug throws; the connection must still end and be told of.
    connection.fail('internal', errorMessage(thrown))
    throw thrown
  }
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
