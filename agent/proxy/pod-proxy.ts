// SPDX-License-Identifier: Apache-2.0
// The proxy of one pod inside its worker: owns the pod's listeners, its HBONE server and client pool, and every
// connection of the pod, from `start` until `remove`.

import type { Server, Socket } from 'node:net'
import { setImmediate as eventLoopTurn, setTimeout as delay } from 'node:timers/promises'
import { errorMessage } from '../../mesh/errors.ts'
import { createHbonePool } from '../../mesh/hbone/pool.ts'
import { createHboneServer } from '../../mesh/hbone/server.ts'
import type { HboneSources } from '../../mesh/hbone/sources.ts'
import type { HbonePool, HboneServer } from '../../mesh/hbone/types.ts'
import { hasLastDescriptor } from '../../mesh/relay/last-descriptors.ts'
import { TrustChange } from './trust-change.ts'
import type { HalfClosed } from '../../mesh/relay/half-closed.ts'
import { resetSocket } from '../../mesh/relay/reset-socket.ts'
import type { HeldMemory } from '../../mesh/http2/held-memory.ts'
import { ownDomainOnly, type TrustPolicy } from '../../mesh/identity/trust-policy.ts'
import type { WorkloadCertificate } from '../../mesh/identity/types.ts'
import type { SocketAddress, SpiffeId } from '../../mesh/model/types.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import { UNKNOWN_PARTY } from '../../mesh/telemetry/connection-record.ts'
import { LogBudget } from '../../mesh/telemetry/log-budget.ts'
import { closeFd } from '../../native/libc.ts'
import { waitingConnections } from '../../native/tcp-state.ts'
import type { DataPlaneSockets, PodListeners } from '../capture/types.ts'
import type { CertificateCache } from './certificate-cache.ts'
import { Connection, type Folder } from './connection.ts'
import type { Gate } from './admission.ts'
import { handleIncomingTunnel, handleInboundPlaintext } from './inbound.ts'
import { isFromOutside } from './decision/from-outside.ts'
import { type LocalPod, type LocalPods, podParty } from './local-pod.ts'
import { MESH_PORTS } from '../../mesh/model/ports.ts'
import { handleOutbound } from './outbound.ts'
import { localAddress, type PodContext, remoteAddress, type WorkerMesh } from './pod-context.ts'
import type { OpenConnections, PodConnections } from './open-connections.ts'
import { StreamCarrier } from './stream-carrier.ts'
import { connectUpstream, serveListeningFd } from './upstream.ts'

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
  readonly log: Logger
  /** Whom to take for one of the mesh's own; the pod's own trust domain alone when left out. */
  readonly trust?: TrustPolicy | undefined
}

type Handler = (context: PodContext, socket: Socket) => Promise<void>

/** Lines of callers that got no tunnel: strangers must not use up the pod's own lines. */
const REFUSAL_LINES = { burst: 500, perSecond: 20 }
/** Lines of connections that are refused in crowds, all for one cause: one says it, and the next how many more there were. */
const FLOOD_LINES = { burst: 3, perSecond: 0.1 }

/** Time for the resets of cut tunnels to leave before their HTTP/2 connections are closed under them. */
const RESET_FLUSH_MS = 200

/**
 * What the kernel had accepted before capture ended waits in the listeners' queues, and closing a listener resets it, as
 * it does handshakes under way. A connect() that was led here before and had not sent its SYN yet has sent it after this.
 */
const CONNECT_MS = 50
/** Between two looks at handshakes under way. Their clients' answers are out for as long as a round trip takes. */
const HANDSHAKE_LOOK_MS = 10
/** A client may never answer, and where capture goes on (the agent stops) connections may never cease to come. */
const ACCEPT_DEADLINE_MS = 1_000

/** Tunnels of listeners that were replaced go on this long; their clients move to the new ones by GOAWAY. */
const RETIRED_TUNNELS_DEADLINE_MS = 3_600_000

const NO_LISTENERS: PodListeners = { outbound: [], inbound: [], hbone: [] }

export class PodProxy {
  readonly pod: LocalPod
  readonly #options: PodProxyOptions
  /** Of this stay of the pod. */
  readonly connections: PodConnections
  readonly #context: PodContext
  /** Where callers are filed that got no tunnel. */
  readonly #refusals: Folder
  readonly #floods: Folder
  readonly #pool: HbonePool
  /** What is listened on now; the fds are the servers'. */
  #listeners: PodListeners = NO_LISTENERS
  #servers: Server[] = []
  /** HBONE listening fds that wait for the first certificate; the kernel's queue holds the clients meanwhile. */
  #waitingFds: readonly number[] = []
  #hboneServers: HboneServer[] = []
  /** Of listeners that were replaced, while tunnels go on there. */
  readonly #retired = new Set<HboneServer>()
  readonly #trustChange: TrustChange
  #isRemoved = false
  /** Whether its listeners are closed, those too that are still being opened. */
  #isClosed = false

  constructor(options: PodProxyOptions) {
    this.#options = options
    this.pod = options.pod
    const trust = options.trust ?? ownDomainOnly(options.pod.identity)
    this.#pool = createHbonePool({
      dial: (target, signal) =>
        connectUpstream(
          options.sockets,
          {
            netnsFd: options.pod.netnsFd,
            destination: target.destination,
            timeoutReason: 'connectTimeout',
          },
          signal,
        ),
      certificate: (identity, signal) => options.certificates.get(identity, signal),
      trust,
      owner: options.pod.uid,
      memory: options.memory,
    })
    this.connections = options.open.of(options.pod)
    this.#context = {
      pod: options.pod,
      sockets: options.sockets,
      mesh: options.mesh,
      localPods: options.localPods,
      trust,
      gate: options.gate,
      carrier: new StreamCarrier(options.sockets, this.#pool, options.halfClosed),
      connections: this.connections,
      open: options.open,
    }
    this.#trustChange = new TrustChange({
      pool: this.#pool,
      servers: () => [...this.#hboneServers, ...this.#retired],
      onCut: (connections) =>
        options.log.warn(
          { pod: options.pod.uid, connections },
          'HBONE connections were cut: the roots of the mesh have changed, and those of their peers are gone',
        ),
    })
    const { sinks, drain } = this.connections
    this.#refusals = { sinks, drain, accessBudget: new LogBudget(REFUSAL_LINES) }
    this.#floods = { sinks, drain, accessBudget: new LogBudget(FLOOD_LINES) }
  }

  /**
   * Serves these listeners, in place of those before when the pod was enrolled again; running connections are not
   * touched. Resolves when captured traffic is served; HBONE follows with the first certificate.
   */
  async serve(listeners: PodListeners): Promise<void> {
    const oldServers = this.#servers
    const oldHbone = this.#hboneServers
    const oldFds = this.#waitingFds
    this.#servers = []
    this.#hboneServers = []
    try {
      await this.#open(listeners)
    } finally {
      for (const server of oldServers) server.close()
      for (const fd of oldFds) closeFd(fd)
      for (const server of oldHbone) void this.#retire(server)
    }
  }

  async #retire(server: HboneServer): Promise<void> {
    this.#retired.add(server)
    try {
      await server.drain(RETIRED_TUNNELS_DEADLINE_MS)
    } catch (thrown) {
      this.#options.log.error({ error: errorMessage(thrown) }, 'retired HBONE listener failed')
    } finally {
      this.#retired.delete(server)
    }
  }

  /** Takes the first or a renewed certificate of the pod's identity. */
  async setCertificate(certificate: WorkloadCertificate): Promise<void> {
    if (this.#isRemoved) return
    for (const server of this.#hboneServers) server.setCertificate(certificate)
    this.#trustChange.certificate(certificate)
    const fds = this.#waitingFds
    this.#waitingFds = []
    await Promise.all(fds.map((fd) => this.#serveHbone(fd, certificate)))
  }

  async #open(listeners: PodListeners): Promise<void> {
    const serve = async (fd: number, handler: Handler): Promise<void> => {
      const server = await serveListeningFd(fd, (socket) => this.#run(handler, socket))
      // An error of accept must not take the worker down; the listener goes on.
      server.on('error', (error) =>
        this.#options.log.error({ error: errorMessage(error) }, 'accept failed'),
      )
      // The pod may have been removed meanwhile.
      if (this.#isClosed) server.close()
      else this.#servers.push(server)
    }
    this.#listeners = listeners
    this.#waitingFds = listeners.hbone
    // All, though one fail: who closes this proxy must know of every server that was opened.
    const opened = await Promise.allSettled([
      ...listeners.outbound.map((fd) => serve(fd, handleOutbound)),
      ...listeners.inbound.map((fd) => serve(fd, handleInboundPlaintext)),
    ])
    for (const each of opened) if (each.status === 'rejected') throw each.reason
    const certificate = this.#options.certificates.current(this.pod.identity)
    if (certificate !== undefined) await this.setCertificate(certificate)
  }

  async #serveHbone(fd: number, certificate: WorkloadCertificate): Promise<void> {
    const { mesh, localPods } = this.#options
    const server = createHboneServer({
      certificate,
      trust: this.#context.trust,
      owner: this.pod.uid,
      isFromOutside: (peer, local) => isFromOutside(this.pod, peer, local),
      memory: this.#options.memory,
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
    this.#hboneServers.push(server)
    await server.listen(fd)
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
    await this.#acceptWhatWaits(isCaptured)
    this.#closeListeners()
    const ended = this.connections.end(deadlineMs)
    // The deadline is ours alone: were it theirs, too, they might cut first, and what they cut would be neither counted
    // nor told as drained.
    const drained = this.#drainHbone(deadlineMs + RESET_FLUSH_MS)
    const { cut } = await ended
    await drained
    return { cut }
  }

  /**
   * The pod is being deleted: peers are told to send nothing new over the HBONE connections they have into it. What runs
   * there goes on, who calls it all the same is served on a new one, and its own calls are its own affair: it may call
   * and be called until its namespace goes.
   */
  turnPeersAway(): void {
    for (const server of [...this.#hboneServers, ...this.#retired]) server.leaveWhere(() => true)
  }

  /** Cuts everything and closes every fd; says how many connections that were. */
  async remove(): Promise<{ readonly cut: number }> {
    this.#isRemoved = true
    this.#trustChange.close()
    this.#closeListeners()
    const cut = this.connections.close('podRemoved')
    await this.#drainHbone(RESET_FLUSH_MS)
    return { cut }
  }

  async #drainHbone(deadlineMs: number): Promise<void> {
    const servers = [...this.#hboneServers, ...this.#retired]
    await Promise.all([this.#pool, ...servers].map((each) => each.drain(deadlineMs)))
  }

  #run(handler: Handler, socket: Socket): void {
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
  #shed(handler: Handler, socket: Socket): void {
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

  async #acceptWhatWaits(isCaptured: boolean): Promise<void> {
    const deadline = performance.now() + ACCEPT_DEADLINE_MS
    // Where capture goes on handshakes do, too, at a successor; and all the node's pods at once would ask for them.
    const handshakes = isCaptured ? undefined : this.#handshakesEnd(deadline)
    await Promise.all([delay(CONNECT_MS), handshakes])
    const isLate = (): boolean => performance.now() > deadline
    // The event loop accepts one connection of each listener a turn.
    while (this.#acceptingFds().some((fd) => waitingConnections(fd) > 0) && !isLate())
      await eventLoopTurn()
  }

  /** Of those under way now, which may be the listeners'; what begins later is not led to them any more. */
  async #handshakesEnd(deadline: number): Promise<void> {
    const { sockets } = this.#options
    const { netnsFd } = this.pod
    let underWay = sockets.handshakesIn(netnsFd)
    while (underWay !== undefined && underWay.size > 0 && performance.now() < deadline) {
      await delay(HANDSHAKE_LOOK_MS)
      const still: ReadonlySet<string> = sockets.handshakesIn(netnsFd) ?? new Set()
      underWay = underWay.intersection(still)
    }
  }

  /** Without those that nobody accepts from yet. */
  #acceptingFds(): readonly number[] {
    const { outbound, inbound, hbone } = this.#listeners
    return [...outbound, ...inbound, ...(this.#waitingFds.length > 0 ? [] : hbone)]
  }

  #closeListeners(): void {
    this.#isClosed = true
    for (const server of this.#servers.splice(0)) server.close()
    for (const fd of this.#waitingFds) closeFd(fd)
    this.#waitingFds = []
    this.#listeners = NO_LISTENERS
  }
}
