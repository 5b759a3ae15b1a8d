// SPDX-License-Identifier: Apache-2.0
// Serves a pod's captured outbound connections (15001): reads where the app wanted to go, decides, opens the
// upstream, relays. An upstream that cannot be had is answered with a reset, never with a clean close, because the
// app's connect() has succeeded already.

import type { Socket } from 'node:net'
import { resetSocket } from '../../mesh/relay/reset-socket.ts'
import type { HboneFailure } from '../../mesh/hbone/types.ts'
import { familyOf, formatSocketAddress } from '../../mesh/model/address.ts'
import type { IpAddress, SocketAddress, WorkloadUid } from '../../mesh/model/types.ts'
import { err, ok, type Result } from '../../mesh/result.ts'
import { END_REASONS } from '../../mesh/telemetry/end-reason.ts'
import type { Connection } from './connection.ts'
import type { LocalPod } from './local-pod.ts'
import { decideOutbound, type OutboundDecision } from './decision/outbound.ts'
import {
  beginConnection,
  isOverLimit,
  type PodContext,
  relayToEnd,
  remoteAddress,
} from './pod-context.ts'
import type { ByteStream } from '../../mesh/relay/pump.ts'
import { cutReason } from '../../mesh/relay/relay.ts'
import { tunnelHeaders } from './tunnel-headers.ts'
import { connectUpstream, socketFd } from './upstream.ts'

/** How long a connection of a freshly started agent may wait for the first picture of the mesh. */
const FIRST_SYNC_TIMEOUT_MS = 5_000

/**
 * Endpoints tried for one connection to a service: a pod that has just gone fails fast, and one or two others
 * are enough to hide it; more would turn an outage of the service into a storm.
 */
const MAX_ATTEMPTS = 3

type Chosen = Exclude<OutboundDecision, { readonly kind: 'deny' }>

/** Serves one captured connection to its end; never throws for anything the network does. */
export async function handleOutbound(context: PodContext, socket: Socket): Promise<void> {
  const { pod, mesh } = context
  const fd = socketFd(socket)
  const originalDestination = fd === undefined ? undefined : context.sockets.originalDestination(fd)
  const source = sourceOf(pod, socket, originalDestination)
  const connection = beginConnection(context, {
    direction: 'outbound',
    reporters: ['source'],
    sourceAddress: source,
    source: { pod, workload: mesh.state.workload(pod.workloadUid), identity: undefined },
    destinationAddress: originalDestination,
    hboneTarget: undefined,
    destination: { pod: undefined, workload: undefined, identity: undefined },
    service: undefined,
    isMutualTls: false,
  })
  try {
    await serve(context, connection, socket, source, originalDestination)
  } finally {
    // Reached with both open only through a bug; the connection must still end and be told of.
    if (!socket.destroyed) resetSocket(socket)
    connection.fail('internal')
  }
}

/** The address the caller would have been seen with, had it not been captured. */
function sourceOf(
  pod: LocalPod,
  socket: Socket,
  originalDestination: SocketAddress | undefined,
): SocketAddress | undefined {
  const seen = remoteAddress(socket)
  if (seen === undefined || originalDestination === undefined) return seen
  const address = podAddress(pod, originalDestination, seen)
  return address === undefined ? seen : { address, port: seen.port }
}

async function serve(
  context: PodContext,
  connection: Connection,
  socket: Socket,
  source: SocketAddress | undefined,
  originalDestination: SocketAddress | undefined,
): Promise<void> {
  const { mesh } = context
  const refuse = (failure: HboneFailure): void => {
    resetSocket(socket)
    connection.fail(failure.reason, failure.message)
  }
  if (isOverLimit(context))
    return refuse({ reason: 'tooManyConnections', message: END_REASONS.tooManyConnections.text })
  if (source === undefined) return refuse({ reason: 'clientReset', message: 'gone before accept' })
  if (originalDestination === undefined)
    return refuse({ reason: 'noOriginalDestination', message: 'direct call to a mesh port' })
  if (!mesh.isSynced && !(await mesh.whenSynced(FIRST_SYNC_TIMEOUT_MS)))
    return refuse({
      reason: 'unknownLocalWorkload',
      message: `no mesh state within ${FIRST_SYNC_TIMEOUT_MS} ms of the connection`,
    })
  const upstream = await openWithRetries(context, connection, source, originalDestination)
  if (!upstream.ok)
    return refuse(
      context.signal.aborted
        ? { reason: cutReason(context.signal), message: 'cut before the upstream was open' }
        : upstream.error,
    )
  await relayToEnd(context, connection, socket, upstream.value)
}

async function openWithRetries(
  context: PodContext,
  connection: Connection,
  source: SocketAddress,
  originalDestination: SocketAddress,
): Promise<Result<ByteStream, HboneFailure>> {
  const { pod, mesh, localPods } = context
  let exclude: Set<WorkloadUid> | undefined
  let failure: HboneFailure | undefined
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt += 1) {
    const decision = decideOutbound({
      originalDestination,
      source: pod,
      mesh: mesh.state,
      localPods,
      random: Math.random,
      ...(exclude === undefined ? {} : { exclude }),
    })
    // Nothing else is left to try: what failed first says more than that.
    if (decision.kind === 'deny' && failure !== undefined) return err(failure)
    describeDestination(connection, decision)
    if (decision.kind === 'deny') return err(decision)
    const opened = await openUpstream(context, connection, decision, source)
    if (opened.ok) return opened
    failure = opened.error
    const { service, workload } = decision
    if (service === undefined || workload === undefined || context.signal.aborted) break
    if (!isWorthRetrying(failure)) break
    exclude ??= new Set()
    exclude.add(workload.uid)
  }
  return err(failure ?? { reason: 'internal', message: 'no endpoint was tried' })
}

/** Only failures before any byte of the app, and only those that another endpoint may not share. */
function isWorthRetrying({ reason, status }: HboneFailure): boolean {
  switch (reason) {
    case 'connectFailed':
    case 'connectTimeout':
    case 'h2HandshakeFailure':
      return true
    case 'hboneRefused':
      return status === 503
    default:
      return false
  }
}

function describeDestination({ facts }: Connection, decision: OutboundDecision): void {
  facts.service = decision.service
  facts.destination = { pod: undefined, workload: decision.workload, identity: undefined }
  if (decision.kind === 'hbone') {
    facts.destinationAddress = decision.peer
    facts.hboneTarget = decision.target
  } else if (decision.kind !== 'deny') {
    facts.destinationAddress = decision.target
    facts.hboneTarget = undefined
  }
}

async function openUpstream(
  context: PodContext,
  connection: Connection,
  decision: Chosen,
  source: SocketAddress,
): Promise<Result<ByteStream, HboneFailure>> {
  const { pod, sockets, mesh } = context
  const { facts, signal } = connection
  switch (decision.kind) {
    case 'passthrough':
      return connectUpstream(
        sockets,
        { netnsFd: pod.netnsFd, destination: decision.target },
        signal,
      )
    case 'sameNode': {
      // A pod that calls itself has the address already; anyone else connects from the caller's.
      const isSelf = decision.pod.uid === pod.uid
      const sourceIp = isSelf ? undefined : podAddress(pod, decision.target, source)
      // Both ends are known by their namespaces; policy of the destination is evaluated here (authorize) once it exists.
      facts.source = { ...facts.source, identity: pod.identity }
      facts.destination = {
        pod: decision.pod,
        workload: decision.workload,
        identity: decision.pod.identity,
      }
      const opened = await connectUpstream(
        sockets,
        {
          netnsFd: decision.pod.netnsFd,
          destination: decision.target,
          ...(sourceIp === undefined ? {} : { sourceIp }),
        },
        signal,
      )
      if (opened.ok) context.localPods.visit(decision.pod.uid, opened.value)
      return opened
    }
    case 'hbone': {
      facts.source = { ...facts.source, identity: pod.identity }
      const sourceIp = podAddress(pod, decision.peer, source)
      if (sourceIp === undefined)
        return err({
          reason: 'connectFailed',
          message: `the pod has no address of the family of ${decision.peer.address}`,
        })
      const opened = await context.pool.open(
        {
          sourceIdentity: pod.identity,
          sourceIp,
          destination: decision.peer,
          expectedIdentities: decision.expectedIdentities,
        },
        formatSocketAddress(decision.target),
        tunnelHeaders(pod, mesh.state.workload(pod.workloadUid), source, decision.service),
        signal,
      )
      if (!opened.ok) return opened
      facts.isMutualTls = true
      facts.destination = { ...facts.destination, identity: opened.value.peerIdentity }
      return ok(opened.value.tunnel)
    }
  }
}

/**
 * The pod's own address of the target's family. The accepted socket cannot tell it: captured connections arrive
 * over loopback, unless the app bound its socket to a pod address, which then stands.
 */
function podAddress(
  pod: LocalPod,
  target: SocketAddress,
  seen?: SocketAddress,
): IpAddress | undefined {
  const family = familyOf(target.address)
  if (
    seen !== undefined &&
    familyOf(seen.address) === family &&
    pod.addresses.includes(seen.address)
  )
    return seen.address
  return pod.addresses.find((address) => familyOf(address) === family)
}
