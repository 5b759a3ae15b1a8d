// SPDX-License-Identifier: Apache-2.0
// Serves a pod's captured outbound connections (15001): reads where the app wanted to go, decides, has it carried there.
// An upstream that cannot be had is answered with a reset, never with a clean close, because the app's connect() has
// succeeded already.

import type { CutSignal } from '../../mesh/async/cut.ts'
import { CONNECT_DEADLINE_MS } from '../../mesh/hbone/limits.ts'
import type { HboneFailure } from '../../mesh/hbone/types.ts'
import { formatSocketAddress } from '../../mesh/model/address.ts'
import type { SocketAddress, WorkloadUid } from '../../mesh/model/types.ts'
import { MESH_PORTS } from '../../mesh/model/ports.ts'
import type { OriginalDestination } from '../capture/types.ts'
import { cutReason } from '../../mesh/relay/relay-result.ts'
import { cutSocket, resetSocket } from '../../mesh/relay/reset-socket.ts'
import { UNKNOWN_PARTY } from '../../mesh/telemetry/connection-record.ts'
import { END_REASONS } from '../../mesh/telemetry/end-reason.ts'
import { admitOutbound, type Permit, type Refusal } from './admission.ts'
import { isWorthRetrying } from '../../mesh/balance/endpoints-fault.ts'
import type { Attempt } from '../../mesh/balance/endpoint-experience.ts'
import type { Carriage } from './carrier.ts'
import { Connection } from './connection.ts'
import { described } from './decision/described.ts'
import { lastKnown } from './decision/forgotten.ts'
import { decideOutbound, type OutboundDecision } from './decision/outbound.ts'
import { trueTargets } from './decision/true-targets.ts'
import { callerAddress, type LocalPod, podParty, sourceFor } from './local-pod.ts'
import { CarriedCall, type PodContext, remoteAddress, type WorkerMesh } from './pod-context.ts'
import { carrySameNode } from './same-node.ts'
import { tryOne } from './try-one.ts'
import { tunnelHeaders } from './tunnel-headers.ts'
import { socketFd } from '../../mesh/relay/last-descriptors.ts'
import type { PlainSocket } from '../../mesh/relay/thin-socket.ts'

/** How long a connection of a freshly started agent may wait for the first picture of the mesh. */
const FIRST_SYNC_TIMEOUT_MS = 5_000

/**
 * Endpoints tried for one connection to a service: a pod that has just gone fails fast, and one or two others
 * are enough to hide it; more would turn an outage of the service into a storm.
 */
const MAX_ATTEMPTS = 3

/** What came of a call, or what forbade it. */
type Outcome = Carriage | { readonly kind: 'forbidden'; readonly refusal: Refusal }

type Chosen = Exclude<OutboundDecision, { readonly kind: 'deny' }>

/** A captured connection, with all that is known before it is decided. */
interface Captured {
  readonly socket: PlainSocket
  readonly connection: Connection
  readonly permit: Permit
  readonly source: SocketAddress
  /** Where it is one endpoint of a Service that is tried. */
  readonly attempt?: Attempt
  readonly originalDestination: OriginalDestination
}

/** Serves one captured connection; resolves when it is carried, or refused; never throws for anything the network does. */
export async function handleOutbound(context: PodContext, socket: PlainSocket): Promise<void> {
  const { pod, mesh, connections } = context
  const fd = socketFd(socket)
  const originalDestination = fd === undefined ? undefined : context.sockets.originalDestination(fd)
  const source = sourceOf(pod, socket, originalDestination)
  const connection = new Connection(
    {
      direction: 'outbound',
      source: podParty(pod, mesh.state.workload(pod.workloadUid), undefined),
      sourceAddress: source,
      destination: UNKNOWN_PARTY,
      destinationAddress: originalDestination,
      hboneTarget: undefined,
      service: undefined,
      security: 'unknown',
    },
    connections,
  )
  let isCarried = false
  try {
    isCarried = await serve(context, connection, socket, source, originalDestination)
  } finally {
    if (!isCarried) {
      // Reached with both open only through a bug; the connection must still end and be told of.
      if (!socket.destroyed) resetSocket(socket)
      connection.fail('internal')
    }
  }
}

/** The address the caller would have been seen with, had it not been captured. */
function sourceOf(
  pod: LocalPod,
  socket: PlainSocket,
  originalDestination: SocketAddress | undefined,
): SocketAddress | undefined {
  const seen = remoteAddress(socket)
  if (seen === undefined || originalDestination === undefined) return seen
  // Where nobody named one of that family, by the name that the mesh has for it.
  const address = callerAddress(pod, originalDestination, seen) ?? pod.addresses[0]
  return address === undefined ? seen : { address, port: seen.port }
}

/** Whether it is carried; else it was refused. */
async function serve(
  context: PodContext,
  connection: Connection,
  socket: PlainSocket,
  source: SocketAddress | undefined,
  originalDestination: OriginalDestination | undefined,
): Promise<boolean> {
  const { mesh } = context
  const refuse = (failure: HboneFailure): false => {
    resetSocket(socket)
    connection.fail(failure.reason, failure.message)
    return false
  }
  const admission = admitOutbound(context.pod, context.connections, context.gate)
  if (admission.kind === 'refuse') return refuse(admission)
  const { permit } = admission
  connection.admitted(permit)
  if (source === undefined) return refuse({ reason: 'clientReset', message: 'gone before accept' })
  if (originalDestination === undefined)
    return refuse({
      reason: 'noOriginalDestination',
      message: END_REASONS.noOriginalDestination.text,
    })
  if (!mesh.isSynced && !(await firstSync(mesh, socket, connection.signal)))
    return refuse({
      reason: 'unknownLocalWorkload',
      message: `no mesh state within ${FIRST_SYNC_TIMEOUT_MS} ms of the connection`,
    })
  // Meanwhile its place may have been given to another, or its pod have left.
  if (connection.signal.aborted) return refuse(cutWhileWaiting(connection.signal))
  const captured = { socket, connection, permit, source, originalDestination }
  const outcome = await carryWithRetries(context, captured)
  if (outcome.kind === 'carried') return true
  if (outcome.kind === 'unopened') return refuse(outcome.failure)
  const { reason, message, by } = outcome.refusal
  resetSocket(socket)
  connection.fail(reason, message, by)
  return false
}

/** Waits for the first picture of the mesh; a connection that is cut meanwhile is reset at once. True when it came, or needs not. */
async function firstSync(
  mesh: WorkerMesh,
  socket: PlainSocket,
  signal: CutSignal,
): Promise<boolean> {
  const cut = Promise.withResolvers<true>()
  const onAbort = (): void => {
    cutSocket(socket, signal.reason)
    cut.resolve(true)
  }
  signal.addEventListener('abort', onAbort)
  const isSynced = await Promise.race([mesh.whenSynced(FIRST_SYNC_TIMEOUT_MS), cut.promise])
  signal.removeEventListener('abort', onAbort)
  return isSynced
}

function cutWhileWaiting(signal: CutSignal): HboneFailure {
  const reason = cutReason(signal)
  return { reason, message: END_REASONS[reason].text }
}

async function carryWithRetries(context: PodContext, captured: Captured): Promise<Outcome> {
  const { pod, mesh, localPods, experience } = context
  const { connection, originalDestination } = captured
  let exclude: Set<WorkloadUid> | undefined
  let failed: (Carriage & { readonly kind: 'unopened' }) | undefined
  for (let attempt = 0; attempt < MAX_ATTEMPTS; ) {
    const decision = decideOutbound({
      originalDestination,
      source: pod,
      mesh: mesh.state,
      localPods,
      clientAddress: captured.source.address,
      experience,
      random: Math.random,
      ...(exclude === undefined ? {} : { exclude }),
    })
    // Nothing else is left to try: what failed first says more than that.
    if (decision.kind === 'deny' && failed !== undefined) return failed
    connection.decided(described(decision, pod, connection.about))
    if (decision.kind === 'deny') return { kind: 'unopened', failure: decision }
    const call = { targets: trueTargets(mesh.state, decision, originalDestination) }
    const refusal = context.gate.judgeOutbound(call, pod)
    if (refusal !== undefined) {
      const { pendingUntilMs } = refusal
      if (pendingUntilMs === undefined) return { kind: 'forbidden', refusal }
      // What it leads to may have changed when the policies are there: it is decided anew.
      await context.gate.policies.changed(pod.uid, pendingUntilMs, [connection.signal])
      if (connection.signal.aborted)
        return { kind: 'unopened', failure: cutWhileWaiting(connection.signal) }
      continue
    }
    connection.allowedOut(call)
    attempt += 1
    const carriage = await tryEndpoint(context, captured, decision)
    if (carriage.kind === 'carried') return carriage
    const { endpoint, workload } = decision
    const message = `${carriage.failure.message}${lastKnown(workload, mesh.state)}`
    failed = { ...carriage, failure: { ...carriage.failure, message } }
    if (endpoint === undefined || workload === undefined || connection.signal.aborted) break
    if (!isWorthRetrying(carriage.failure)) break
    exclude ??= new Set()
    exclude.add(workload.uid)
  }
  return (
    failed ?? {
      kind: 'unopened',
      failure: { reason: 'internal', message: 'no endpoint was tried' },
    }
  )
}

/** As carry; what comes of it is remembered of the endpoint, where one was chosen. */
function tryEndpoint(context: PodContext, captured: Captured, decision: Chosen): Promise<Carriage> {
  const { endpoint } = decision
  if (endpoint === undefined) return carry(context, captured, decision)
  const attempt = context.experience.begin(endpoint)
  return tryOne(attempt, () => carry(context, { ...captured, attempt }, decision))
}

function carry(context: PodContext, captured: Captured, decision: Chosen): Promise<Carriage> {
  const { pod, carrier } = context
  const { socket, connection, permit, source, originalDestination, attempt } = captured
  // Where the mesh chose the endpoint another may be tried; what only passes through has the kernel's own patience.
  const isChosen = decision.service !== undefined && decision.workload !== undefined
  const timeoutMs = isChosen ? CONNECT_DEADLINE_MS : undefined
  switch (decision.kind) {
    case 'passthrough': {
      const { target } = decision
      const address = callerAddress(pod, target, source)
      const port = originalDestination.hasOwnPort === true ? source.port : 0
      const from = address && sourceFor(pod, address, port)
      return carrier.carry(
        new CarriedCall({ kind: 'socket', socket }, connection, { attempt }),
        {
          kind: 'passthrough',
          netnsFd: pod.netnsFd,
          target,
          app: originalDestination,
          from,
          timeoutMs,
        },
        permit,
      )
    }
    case 'sameNode': {
      const { target } = decision
      const address = callerAddress(pod, target, source)
      if (address === undefined || !pod.addresses.includes(address))
        return asStranger(context, captured, decision)
      const peer = { address, port: source.port }
      const call = { peer, pod: decision.pod, target, timeoutMs, attempt }
      return carrySameNode(context, connection, socket, call)
    }
    case 'hbone':
      return carryByTunnel(context, captured, decision)
  }
}

/**
 * A call within the node from an address that is not the pod's, or that only its routes know. That the pod has a right to it shows only
 * where answers find the way back: so the call goes out and in again, by HBONE, as one between nodes would.
 */
function asStranger(
  context: PodContext,
  captured: Captured,
  { pod, target, service }: Extract<Chosen, { readonly kind: 'sameNode' }>,
): Promise<Carriage> {
  if (pod.uid === context.pod.uid)
    return Promise.resolve({
      kind: 'unopened',
      failure: { reason: 'connectFailed', message: 'the pod calls itself from another address' },
    })
  return carryByTunnel(context, captured, {
    peer: { address: target.address, port: MESH_PORTS.hbone },
    target,
    expectedIdentities: [pod.identity],
    service,
  })
}

function carryByTunnel(
  { pod, mesh, carrier }: PodContext,
  { socket, connection, permit, source, originalDestination, attempt }: Captured,
  {
    peer,
    target,
    expectedIdentities,
    service,
  }: Pick<
    Extract<Chosen, { readonly kind: 'hbone' }>,
    'peer' | 'target' | 'expectedIdentities' | 'service'
  >,
): Promise<Carriage> {
  // undefined where nobody named an address of the peer's family: the namespace may have one all the same, and its routes choose.
  const sourceIp = callerAddress(pod, peer, source)
  return carrier.carry(
    new CarriedCall({ kind: 'socket', socket }, connection, { attempt }),
    {
      kind: 'hbone',
      peer: { sourceIdentity: pod.identity, sourceIp, destination: peer, expectedIdentities },
      authority: formatSocketAddress(target),
      app: originalDestination,
      headers: tunnelHeaders(pod, mesh.state.workload(pod.workloadUid), source, service),
    },
    permit,
  )
}
