// SPDX-License-Identifier: Apache-2.0
// The proxy of one pod inside its worker: owns the pod's listeners, its HBONE server and client pool, and every
// connection of the pod, from `start` until `remove`.

import type { Socket } from 'node:net'
import { errorMessage } from '../../mesh/errors.ts'
import { CONNECT_DEADLINE_MS } from '../../mesh/hbone/limits.ts'
import { createHbonePool } from '../../mesh/hbone/pool.ts'
import { createHboneServer } from '../../mesh/hbone/server.ts'
import type { HboneSources } from '../../mesh/hbone/sources.ts'
import type { HbonePool, HboneServer } from '../../mesh/hbone/types.ts'
import { hasLastDescriptor } from '../../mesh/relay/last-descriptors.ts'
import { TrustChange } from '../../mesh/hbone/trust-change.ts'
import type { HalfClosed } from '../../mesh/relay/half-closed.ts'
import { resetSocket } from '../../mesh/relay/reset-socket.ts'
import type { HeldMemory } from '../../mesh/http2/held-memory.ts'
import type { TrustPolicy } from '../../mesh/identity/trust-policy.ts'
import type { WorkloadCertificate } from '../../mesh/identity/types.ts'
import { socketAddressOf } from '../../mesh/model/address.ts'
import type { SocketAddress, SpiffeId } from '../../mesh/model/types.ts'
import { END_REASONS, type EndReason } from '../../mesh/telemetry/end-reason.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import { UNKNOWN_PARTY } from '../../mesh/telemetry/connection-record.ts'
import { LogBudget } from '../../mesh/telemetry/log-budget.ts'
import type { DataPlaneSockets, PodListeners } from '../capture/types.ts'
import { AskedLater } from './asked-later.ts'
import { type EjectionChange, ejectionLines } from './ejection-lines.ts'
import { EndpointExperience } from '../../mesh/balance/endpoint-experience.ts'
import type { CertificateCache } from './certificate-cache.ts'
import { Connection, type Folder } from './connection.ts'
import type { Gate } from './admission.ts'
import { handleIncomingTunnel, handleInboundPlaintext } from './inbound.ts'
import { isFromOutside } from './decision/from-outside.ts'
import { wayToPeer } from './peer-probe.ts'
import { Listening } from './listening.ts'
import { type LocalPod, type LocalPods, podParty, sourceFor } from './local-pod.ts'
import { MESH_PORTS } from '../../mesh/model/ports.ts'
import type { SocketEngine } from '../../mesh/relay/socket-engine.ts'
import type { PlainSocket } from '../../mesh/relay/thin-socket.ts'
import { handleOutbound } from './outbound.ts'
import { localAddress, type PodContext, remoteAddress, type WorkerMesh } from './pod-context.ts'
import type { OpenConnections, PodConnections } from './open-connections.ts'
import { StreamCarrier } from './stream-carrier.ts'
import { connectUpstream } from './upstream.ts'

export interface PodProxyOptions {
  readonly pod: LocalPod
  readonly sockets: DataPlaneSockets
  readonly mesh: WorkerMesh
  readonly localPods: LocalPods
  readonly certificates: CertificateCache
  /** The worker's account of what waits for receivers that do not read. */
  readonly memory: HeldMemory
  /** The worker's books of who calls its pods. */
  readonly sources: HboneSources
  readonly gate: Gate
  readonly open: OpenConnections
  readonly halfClosed: HalfClosed
  /** Serves apps' sockets; undefined: Node does. */
  readonly engine: SocketEngine | undefined
  readonly log: Logger
  /** An endpoint of a Service is ejected for the pod, or has recovered. */
  readonly onEjection: (change: EjectionChange) => void
  /** Whom to take for one of the mesh's own. */
  readonly trust: TrustPolicy
}

type Handler = (context: PodContext, socket: PlainSocket) => Promise<void>

/** Lines of callers that got no tunnel: strangers must not use up the pod's own lines. */
const REFUSAL_LINES = { burst: 500, perSecond: 20 }
/** Lines of connections that are refused in crowds, all for one cause: one says it, and the next how many more there were. */
const FLOOD_LINES = { burst: 3, perSecond: 0.1 }

/** Time for the resets of cut tunnels to leave before their HTTP/2 connections are closed under them. */
const RESET_FLUSH_MS = 200

export class PodProxy {
  readonly pod: LocalPod
  readonly #options: PodProxyOptions
  /** Of this stay of the pod. */
  readonly connections: PodConnections
  readonly #context: PodContext
  readonly #experience: EndpointExperience
  readonly #forgetsEndpoints: () => void
  /** Where callers are filed that got no tunnel. */
  readonly #refusals: Folder
  readonly #floods: Folder
  readonly #pool: HbonePool
  /** What is listened on now. */
  #listening: Listening | undefined
  /** What was before, while something of it goes on. */
  readonly #former = new Set<Listening>()
  readonly #trustChange: TrustChange
  #isRemoved = false

  constructor(options: PodProxyOptions) {
    this.#options = options
    this.pod = options.pod
    const { trust } = options
    this.#pool = createHbonePool({
      dial: (target, signal) =>
        connectUpstream(
          options.sockets,
          {
            netnsFd: options.pod.netnsFd,
            destination: target.destination,
            from: target.sourceIp && sourceFor(options.pod, target.sourceIp),
            timeoutReason: 'connectTimeout',
            timeoutMs: CONNECT_DEADLINE_MS,
          },
          signal,
        ),
      certificate: (identity, signal) => options.certificates.get(identity, signal),
      trust,
      owner: options.pod.uid,
      memory: options.memory,
      engine: options.engine,
      wayToPeer,
    })
    this.connections = options.open.of(options.pod)
    this.#experience = new EndpointExperience(
      options.mesh.state,
      ejectionLines(options.pod, options.log, options.onEjection),
    )
    this.#context = {
      pod: options.pod,
      sockets: options.sockets,
      mesh: options.mesh,
      localPods: options.localPods,
      trust,
      gate: options.gate,
      carrier: new StreamCarrier(
        options.sockets,
        this.#pool,
        options.halfClosed,
        options.engine,
        new AskedLater(options.sockets, (thrown) =>
          options.log.warn(
            { pod: options.pod.uid, error: errorMessage(thrown) },
            'cannot set what an app asked of its connection',
          ),
        ),
      ),
      connections: this.connections,
      open: options.open,
      experience: this.#experience,
    }
    this.#forgetsEndpoints = options.mesh.state.subscribe((changes) => {
      for (const change of changes)
        if (change.kind === 'workloadRemoved') this.#experience.forget(change.uid)
    })
    this.#trustChange = new TrustChange({
      pool: this.#pool,
      servers: () => this.#hboneServers(),
      onCut: (connections, reason) =>
        options.log.warn(
          { pod: options.pod.uid, connections },
          `HBONE connections were cut: ${END_REASONS[reason].text}`,
        ),
    })
    const { sinks, drain, audit } = this.connections
    this.#refusals = { sinks, drain, audit, accessBudget: new LogBudget(REFUSAL_LINES) }
    this.#floods = { sinks, drain, audit, accessBudget: new LogBudget(FLOOD_LINES) }
  }

  /**
   * Serves these listeners, in place of those before when the pod was enrolled again or leaves the mesh; running
   * connections are not touched. Resolves when captured traffic is served; HBONE follows with the first certificate, and where that is long
   * in coming those who call are turned away meanwhile, for they may have others to call.
   */
  async serve(listeners: PodListeners): Promise<void> {
    const former = this.#listening
    const { log, certificates } = this.#options
    const listening = new Listening(listeners, {
      onOutbound: (socket) => this.#run(handleOutbound, socket),
      onInbound: (socket) => this.#run(handleInboundPlaintext, socket),
      engine: this.#options.engine,
      makeHboneServer: (certificate) => this.#makeHboneServer(certificate),
      certificateWaitMs: certificates.waitMs,
      onUncertified: (socket) => this.#turnAway(socket),
      log,
    })
    this.#listening = listening
    try {
      await listening.open()
      const certificate = certificates.current(this.pod.identity)
      if (certificate !== undefined) await this.setCertificate(certificate)
    } finally {
      if (former !== undefined)
        this.#replace(former, listening).catch((thrown: unknown) =>
          log.error({ error: errorMessage(thrown) }, 'replaced listeners failed'),
        )
    }
  }

  /** What waits in a listener that closes moves to the next one on its port; where there is none it is accepted first. */
  async #replace(former: Listening, next: Listening): Promise<void> {
    this.#former.add(former)
    try {
      if (former.isCapturing && !next.isCapturing)
        await former.acceptWhatWaits(() => this.#handshakes())
      former.close()
      await former.ended()
    } finally {
      this.#former.delete(former)
    }
  }

  /** Takes the first or a renewed certificate of the pod's identity. */
  async setCertificate(certificate: WorkloadCertificate): Promise<void> {
    if (this.#isRemoved) return
    this.#trustChange.certificate(certificate)
    await this.#listening?.setCertificate(certificate)
  }

  /** Cuts what is open to peers that are revoked by now. */
  reviewRevoked(): void {
    this.#trustChange.revoked(this.#context.trust)
  }

  #makeHboneServer(certificate: WorkloadCertificate): HboneServer {
    const { mesh, localPods } = this.#options
    return createHboneServer({
      certificate,
      trust: this.#context.trust,
      owner: this.pod.uid,
      isFromOutside: (peer, local) => isFromOutside(this.pod, peer, local),
      memory: this.#options.memory,
      engine: this.#options.engine,
      sources: this.#options.sources,
      isKnownSource: (address) =>
        localPods.byAddress(address) !== undefined ||
        mesh.state.findWorkload(address) !== undefined,
      onTunnel: (incoming) => {
        handleIncomingTunnel(this.#context, incoming).catch((thrown: unknown) =>
          this.#options.log.error({ error: errorMessage(thrown) }, 'tunnel handler failed'),
        )
      },
      onRefused: (event) => this.#refused(event),
    })
  }

  #turnAway(socket: Socket): void {
    const { identity } = this.pod
    const peer = socketAddressOf(socket.remoteAddress, socket.remotePort)
    resetSocket(socket)
    this.#refused({ peer, reason: 'identityError', message: `no certificate for ${identity} yet` })
  }

  get identity(): SpiffeId {
    return this.pod.identity
  }

  /**
   * Takes no new connections and lets the running ones end; says how many the deadline cut. `isCaptured`: the agent goes,
   * and the pod's capture stays for the next.
   */
  async drain(
    deadlineMs: number,
    { isCaptured = false }: { readonly isCaptured?: boolean } = {},
  ): Promise<{ readonly cut: number }> {
    const listening = this.#sets()
    const handshakes = isCaptured ? undefined : () => this.#handshakes()
    await Promise.all(listening.map((each) => each.acceptWhatWaits(handshakes)))
    for (const each of listening) each.close()
    const ended = this.connections.end(deadlineMs)
    // The deadline is ours alone: were it theirs, too, they might cut first, and what they cut would be neither counted
    // nor told as drained.
    const peers = this.#drainPeers(deadlineMs + RESET_FLUSH_MS)
    const { cut } = await ended
    // Not before: what was accepted a moment ago may still have to open its tunnel.
    await Promise.all([peers, this.#pool.drain(RESET_FLUSH_MS)])
    return { cut }
  }

  /**
   * The pod is being deleted: peers are told to send nothing new over the HBONE connections they have into it. What runs
   * there goes on, who calls it all the same is served on a new one, and its own calls are its own affair: it may call
   * and be called until its namespace goes.
   */
  turnPeersAway(): void {
    for (const server of this.#hboneServers()) server.leaveWhere(() => true)
  }

  /** Cuts everything and closes every fd; says how many connections that were. */
  async remove(): Promise<{ readonly cut: number }> {
    this.#isRemoved = true
    this.#forgetsEndpoints()
    for (const each of this.#sets()) each.close()
    const cut = this.connections.close('podRemoved')
    await Promise.all([this.#drainPeers(RESET_FLUSH_MS), this.#pool.drain(RESET_FLUSH_MS)])
    return { cut }
  }

  async #drainPeers(deadlineMs: number): Promise<void> {
    await Promise.all(this.#hboneServers().map((server) => server.drain(deadlineMs)))
  }

  #sets(): readonly Listening[] {
    return this.#listening === undefined ? [...this.#former] : [...this.#former, this.#listening]
  }

  #hboneServers(): readonly HboneServer[] {
    return this.#sets().flatMap(({ hboneServers }) => hboneServers)
  }

  /** The TCP handshakes under way in the pod. */
  #handshakes(): ReadonlySet<string> | undefined {
    return this.#options.sockets.handshakesIn(this.pod.netnsFd)
  }

  #run(handler: Handler, socket: PlainSocket): void {
    if (hasLastDescriptor(socket)) return this.#shed(handler, socket)
    handler(this.#context, socket).catch((thrown: unknown) => {
      resetSocket(socket)
      this.#options.log.error(
        { error: errorMessage(thrown), pod: this.pod.uid },
        'connection handler failed',
      )
    })
  }

  /** The agent is almost out of descriptors: this connection gets none. */
  #shed(handler: Handler, socket: PlainSocket): void {
    const own = podParty(this.pod, undefined, undefined)
    const isOutbound = handler === handleOutbound
    const connection = new Connection(
      {
        direction: isOutbound ? 'outbound' : 'inbound',
        source: isOutbound ? own : UNKNOWN_PARTY,
        sourceAddress: remoteAddress(socket),
        destination: isOutbound ? UNKNOWN_PARTY : own,
        destinationAddress: isOutbound ? undefined : localAddress(socket),
        hboneTarget: undefined,
        service: undefined,
        security: 'unknown',
      },
      this.#floods,
    )
    resetSocket(socket)
    connection.fail('outOfDescriptors')
  }

  #refused(event: {
    readonly peer: SocketAddress | undefined
    readonly reason: EndReason
    readonly message: string
  }): void {
    const [address] = this.pod.addresses
    const isFlood = event.reason === 'floodRefused' || event.reason === 'outOfDescriptors'
    const connection = new Connection(
      {
        direction: 'inbound',
        source: UNKNOWN_PARTY,
        sourceAddress: event.peer,
        destination: podParty(this.pod, undefined, undefined),
        destinationAddress: address === undefined ? undefined : { address, port: MESH_PORTS.hbone },
        hboneTarget: undefined,
        service: undefined,
        security: 'unknown',
      },
      isFlood ? this.#floods : this.#refusals,
    )
    connection.fail(event.reason, event.message)
  }
}
