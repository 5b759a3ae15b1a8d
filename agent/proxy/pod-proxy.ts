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
import { resetSocket } from '../../mesh/relay/reset-socket.ts'
import type { HeldMemory } from '../../mesh/http2/held-memory.ts'
import type { WorkloadCertificate } from '../../mesh/identity/types.ts'
import { formatSocketAddress } from '../../mesh/model/address.ts'
import type { SocketAddress, SpiffeId } from '../../mesh/model/types.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import { LogBudget } from '../../mesh/telemetry/log-budget.ts'
import { closeFd } from '../../native/libc.ts'
import type { DataPlaneSockets, PodListeners } from '../capture/types.ts'
import type { CertificateCache } from './certificate-cache.ts'
import { Connection, type ConnectionSinks, UNKNOWN_PARTY } from './connection.ts'
import { handleIncomingTunnel, handleInboundPlaintext } from './inbound.ts'
import { isFromOutside } from './decision/from-outside.ts'
import type { LocalPod, LocalPods } from './local-pod.ts'
import { MESH_PORTS } from '../../mesh/model/ports.ts'
import { handleOutbound } from './outbound.ts'
import type { PodContext, WorkerMesh } from './pod-context.ts'
import type { Relay } from '../../mesh/relay/relay.ts'
import type { TrafficCounters } from './traffic-counters.ts'
import { connectUpstream, serveListeningFd } from './upstream.ts'

export interface PodProxyOptions {
  readonly pod: LocalPod
  readonly sockets: DataPlaneSockets
  readonly mesh: WorkerMesh
  readonly localPods: LocalPods
  readonly certificates: CertificateCache
  readonly relay: Relay
  readonly counters: TrafficCounters
  /** The worker's account of what waits for receivers that do not read. */
  readonly memory: HeldMemory
  /** The worker's books of who calls its pods. */
  readonly sources: HboneSources
  readonly accessLog: Logger
  readonly log: Logger
  /** Connections the pod may have open at once. */
  readonly maxConnections: number
}

/** A connection as the admin dump shows it. */
export interface ConnectionDump {
  readonly direction: 'inbound' | 'outbound'
  readonly src: string | undefined
  readonly actualDst: string | undefined
  readonly originalDst: string | undefined
  readonly protocol: 'HBONE' | 'TCP'
}

type Handler = (context: PodContext, socket: Socket) => Promise<void>

/**
 * Access lines one pod may cause: its connections are counted by the metrics in any case, and a port scan or a retry
 * loop must neither fill the node's log nor hide the other pods in it.
 */
const ACCESS_LINES = { burst: 5_000, perSecond: 500 }
/** Lines of callers that got no tunnel: strangers must not use up the pod's own lines. */
const REFUSAL_LINES = { burst: 500, perSecond: 20 }
/** Lines of callers that are kept out after a flood: one says it, and the next how many more there were. */
const FLOOD_LINES = { burst: 3, perSecond: 0.1 }

/** Time for the resets of cut tunnels to leave before their HTTP/2 connections are closed under them. */
const RESET_FLUSH_MS = 200

/**
 * What the kernel had accepted before capture ended waits in the listeners' queues, and closing a listener resets it.
 * A handshake under way at that moment is over after this.
 */
const HANDSHAKE_MS = 50
/** The event loop accepts one connection a turn: this many turns without one mean that the queue is empty. */
const IDLE_TURNS = 3
/** Where capture goes on (the agent stops), connections may never cease to come. */
const ACCEPT_DEADLINE_MS = 1_000

/** How often a drain looks whether all is over: soon at first, then four times a second. */
const FIRST_LOOK_MS = 10
const LAST_LOOK_MS = 250

/** Tunnels of listeners that were replaced go on this long; their clients move to the new ones by GOAWAY. */
const RETIRED_TUNNELS_DEADLINE_MS = 3_600_000

export class PodProxy {
  readonly pod: LocalPod
  readonly #options: PodProxyOptions
  readonly #cut = new AbortController()
  readonly #context: PodContext
  readonly #refusalSinks: ConnectionSinks
  readonly #floodSinks: ConnectionSinks
  readonly #pool: HbonePool
  #servers: Server[] = []
  /** HBONE listening fds that wait for the first certificate; the kernel's queue holds the clients meanwhile. */
  #waitingFds: readonly number[] = []
  #hboneServers: HboneServer[] = []
  #isRemoved = false
  /** Connections that the listeners have accepted. */
  #accepted = 0

  constructor(options: PodProxyOptions) {
    this.#options = options
    this.pod = options.pod
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
      owner: options.pod.uid,
      memory: options.memory,
    })
    this.#context = {
      pod: options.pod,
      sockets: options.sockets,
      mesh: options.mesh,
      localPods: options.localPods,
      pool: this.#pool,
      relay: options.relay,
      accessLog: options.accessLog,
      counters: options.counters,
      open: new Set(),
      maxConnections: options.maxConnections,
      accessBudget: new LogBudget(ACCESS_LINES),
      signal: this.#cut.signal,
    }
    this.#refusalSinks = { ...this.#context, accessBudget: new LogBudget(REFUSAL_LINES) }
    this.#floodSinks = { ...this.#context, accessBudget: new LogBudget(FLOOD_LINES) }
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
      for (const server of oldHbone)
        server.drain(RETIRED_TUNNELS_DEADLINE_MS).catch((thrown: unknown) => {
          this.#options.log.error({ error: errorMessage(thrown) }, 'retired HBONE listener failed')
        })
    }
  }

  /** Takes the first or a renewed certificate of the pod's identity. */
  async setCertificate(certificate: WorkloadCertificate): Promise<void> {
    if (this.#isRemoved) return
    for (const server of this.#hboneServers) server.setCertificate(certificate)
    const fds = this.#waitingFds
    this.#waitingFds = []
    await Promise.all(fds.map((fd) => this.#serveHbone(fd, certificate)))
  }

  async #open(listeners: PodListeners): Promise<void> {
    const serve = async (fd: number, handler: Handler): Promise<void> => {
      const server = await serveListeningFd(fd, (socket) => this.#run(handler, socket))
      // An error of accept (out of fds, say) must not take the worker down; the listener goes on.
      server.on('error', (error) =>
        this.#options.log.error({ error: errorMessage(error) }, 'accept failed'),
      )
      this.#servers.push(server)
    }
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

  /** Takes no new connections and lets the running ones end; says how many the deadline cut. */
  async drain(deadlineMs: number): Promise<{ readonly cut: number }> {
    await this.#acceptWhatWaits()
    this.#closeListeners()
    const emptied = this.#whenEmpty(deadlineMs)
    // The deadline is ours alone: were it theirs, too, they might cut first, and what they cut would be neither counted
    // nor told as drained.
    const drained = [
      this.#pool.drain(deadlineMs + RESET_FLUSH_MS),
      ...this.#hboneServers.map((server) => server.drain(deadlineMs + RESET_FLUSH_MS)),
    ]
    await emptied
    const cut = this.#context.open.size
    this.#cutAll('drained')
    await Promise.all(drained)
    return { cut }
  }

  /** GOAWAY to pooled peers only: the pod is going, but what arrives is served until its namespace goes. */
  drainOutboundPool(deadlineMs: number): Promise<{ readonly cut: number }> {
    return this.#pool.drain(deadlineMs)
  }

  /** Cuts everything and closes every fd. */
  async remove(): Promise<void> {
    this.#isRemoved = true
    this.#closeListeners()
    this.#cutAll('podRemoved')
    await Promise.all([
      this.#pool.drain(RESET_FLUSH_MS),
      ...this.#hboneServers.map((server) => server.drain(RESET_FLUSH_MS)),
    ])
  }

  connections(): readonly ConnectionDump[] {
    return [...this.#context.open].map(({ facts }) => ({
      direction: facts.direction,
      src: show(facts.sourceAddress),
      actualDst: show(facts.destinationAddress),
      originalDst: show(facts.hboneTarget ?? facts.destinationAddress),
      protocol: facts.isMutualTls ? 'HBONE' : 'TCP',
    }))
  }

  /** Tells the metrics what the open connections have carried so far. */
  reportTraffic(): void {
    for (const connection of this.#context.open) connection.reportTraffic()
  }

  connectionCount(): number {
    return this.#context.open.size
  }

  #run(handler: Handler, socket: Socket): void {
    this.#accepted += 1
    handler(this.#context, socket).catch((thrown: unknown) => {
      resetSocket(socket)
      this.#options.log.error(
        { error: errorMessage(thrown), pod: this.pod.uid },
        'connection handler failed',
      )
    })
  }

  #refused(event: {
    readonly peer: SocketAddress | undefined
    readonly reason: EndReason
    readonly message: string
  }): void {
    const [address] = this.pod.addresses
    const connection = new Connection(
      {
        direction: 'inbound',
        reporters: ['destination'],
        sourceAddress: event.peer,
        source: UNKNOWN_PARTY,
        destinationAddress: address === undefined ? undefined : { address, port: MESH_PORTS.hbone },
        hboneTarget: undefined,
        destination: { pod: this.pod, workload: undefined, identity: undefined },
        service: undefined,
        isMutualTls: false,
      },
      event.reason === 'floodRefused' ? this.#floodSinks : this.#refusalSinks,
    )
    connection.fail(event.reason, event.message)
  }

  #cutAll(reason: EndReason): void {
    this.#cut.abort(reason)
    for (const connection of [...this.#context.open]) connection.cut(reason)
  }

  async #acceptWhatWaits(): Promise<void> {
    const deadline = Date.now() + ACCEPT_DEADLINE_MS
    await delay(HANDSHAKE_MS)
    let seen = this.#accepted
    for (let idle = 0; idle < IDLE_TURNS && Date.now() < deadline; idle += 1) {
      await eventLoopTurn()
      if (this.#accepted !== seen) idle = -1
      seen = this.#accepted
    }
  }

  #closeListeners(): void {
    for (const server of this.#servers.splice(0)) server.close()
    for (const fd of this.#waitingFds) closeFd(fd)
    this.#waitingFds = []
  }

  async #whenEmpty(deadlineMs: number): Promise<void> {
    const { open } = this.#context
    if (open.size === 0) return
    const deadline = Date.now() + deadlineMs
    // Looking now and then is simpler than an event on every connection, and seldom enough for a long drain.
    for (
      let pauseMs = FIRST_LOOK_MS;
      open.size > 0;
      pauseMs = Math.min(2 * pauseMs, LAST_LOOK_MS)
    ) {
      const leftMs = deadline - Date.now()
      if (leftMs <= 0) return
      await delay(Math.min(pauseMs, leftMs))
    }
  }
}

function show(address: SocketAddress | undefined): string | undefined {
  return address === undefined ? undefined : formatSocketAddress(address)
}
