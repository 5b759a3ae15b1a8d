// SPDX-License-Identifier: Apache-2.0
// Serves what arrives at a pod: HBONE tunnels (15008) and captured plaintext (15006). Both end at the app, dialled
// from the client's own address, so that the app sees who called.

import type { Socket } from 'node:net'
import { resetSocket } from '../../mesh/relay/reset-socket.ts'
import type { IncomingTunnel } from '../../mesh/hbone/types.ts'
import type { Service, SocketAddress } from '../../mesh/model/types.ts'
import { type Connection, type Party, UNKNOWN_PARTY } from './connection.ts'
import { decideInboundHbone, decideInboundPlaintext } from './decision/inbound.ts'
import {
  beginConnection,
  isOverLimit,
  localAddress,
  type PodContext,
  relayToEnd,
  remoteAddress,
} from './pod-context.ts'
import { baggageOf, calledHost } from './tunnel-headers.ts'
import { connectUpstream } from './upstream.ts'
import { provenWorkload } from './workload-identity.ts'

/** Serves one CONNECT to its end. */
export async function handleIncomingTunnel(
  context: PodContext,
  incoming: IncomingTunnel,
): Promise<void> {
  const { pod, mesh } = context
  const { authority, peer, local } = incoming
  const decision = decideInboundHbone({ authority, peer, local, pod })
  const connection = beginConnection(context, {
    direction: 'inbound',
    reporters: ['destination'],
    sourceAddress: peer,
    source: {
      pod: undefined,
      workload: provenWorkload(mesh.state, peer.address, incoming.peerIdentity),
      identity: incoming.peerIdentity,
    },
    destinationAddress: local,
    hboneTarget: decision.kind === 'connect' ? decision.target : undefined,
    destination: ownParty(context, true),
    service: calledService(context, incoming.headers.forwarded),
    isMutualTls: true,
  })
  if (isOverLimit(context)) {
    incoming.reject(503)
    connection.fail('tooManyConnections')
    return
  }
  if (decision.kind === 'reject') {
    incoming.reject(decision.status)
    connection.fail(decision.reason, decision.message)
    return
  }
  // Row 8, policy: authorize(peer identity, peer address, decision.target) is called here, before the app hears of it.
  const abort = new AbortController()
  const onAbort = (): void => abort.abort()
  connection.signal.addEventListener('abort', onAbort)
  incoming.signal.addEventListener('abort', onAbort)
  const upstream = await connectToApp(context, decision.target, decision.sourceIp, abort.signal)
  connection.signal.removeEventListener('abort', onAbort)
  incoming.signal.removeEventListener('abort', onAbort)
  if (!upstream.ok) {
    const isClientGone = incoming.signal.aborted
    if (!isClientGone) incoming.reject(503)
    connection.fail(isClientGone ? 'clientReset' : upstream.error.reason, upstream.error.message)
    return
  }
  if (incoming.signal.aborted) {
    resetSocket(upstream.value)
    connection.fail('clientReset', 'gone before the answer')
    return
  }
  const tunnel = incoming.accept({
    baggage: baggageOf(pod, mesh.state.workload(pod.workloadUid)),
  })
  await relayToEnd(context, connection, tunnel, upstream.value)
}

/** Serves one captured plaintext connection to its end. */
export async function handleInboundPlaintext(context: PodContext, socket: Socket): Promise<void> {
  const { mesh } = context
  const peer = remoteAddress(socket)
  const local = localAddress(socket)
  const connection = beginConnection(context, {
    direction: 'inbound',
    reporters: ['destination'],
    sourceAddress: peer,
    source:
      peer === undefined
        ? UNKNOWN_PARTY
        : { pod: undefined, workload: mesh.state.findWorkload(peer.address), identity: undefined },
    destinationAddress: local,
    hboneTarget: undefined,
    destination: ownParty(context, false),
    service: undefined,
    isMutualTls: false,
  })
  const refuse = (...failure: Parameters<Connection['fail']>): void => {
    // A reset leaves no TIME_WAIT on the app's port, which would keep a restarting app from binding it.
    resetSocket(socket)
    connection.fail(...failure)
  }
  if (isOverLimit(context)) return refuse('tooManyConnections')
  if (peer === undefined || local === undefined) return refuse('clientReset', 'gone before accept')
  const decision = decideInboundPlaintext({ peer, local })
  if (decision.kind === 'drop') return refuse(decision.reason, decision.message)
  // Policy: authorize(no identity, peer address, decision.target) is called here; STRICT is a denial of no identity.
  const upstream = await connectToApp(
    context,
    decision.target,
    decision.sourceIp,
    connection.signal,
  )
  if (!upstream.ok) return refuse(upstream.error.reason, upstream.error.message)
  await relayToEnd(context, connection, socket, upstream.value)
}

function ownParty({ pod, mesh }: PodContext, isProven: boolean): Party {
  return {
    pod,
    workload: mesh.state.workload(pod.workloadUid),
    identity: isProven ? pod.identity : undefined,
  }
}

function calledService(context: PodContext, forwarded: string | undefined): Service | undefined {
  const host = calledHost(forwarded)
  return host === undefined
    ? undefined
    : context.mesh.state.findServiceByHostname(host, context.pod.namespace)
}

/** Dials the app in its own namespace, from the client's address. */
function connectToApp(
  { pod, sockets }: PodContext,
  destination: SocketAddress,
  sourceIp: SocketAddress['address'] | undefined,
  signal: AbortSignal,
): ReturnType<typeof connectUpstream> {
  return connectUpstream(
    sockets,
    { netnsFd: pod.netnsFd, destination, ...(sourceIp === undefined ? {} : { sourceIp }) },
    signal,
  )
}
