// SPDX-License-Identifier: Apache-2.0
// One set of a pod's listeners, as an enrolment gave it to the data plane: captured connections are served at once, HBONE
// with the first certificate; while that does not come, nobody waits for it for long. The next set takes its place while this one goes on with what it has.

import { createServer, type Server, type Socket } from 'node:net'
import { setImmediate as eventLoopTurn, setTimeout as delay } from 'node:timers/promises'
import { errorMessage } from '../../mesh/errors.ts'
import type { HboneServer } from '../../mesh/hbone/types.ts'
import type { WorkloadCertificate } from '../../mesh/identity/types.ts'
import type { SocketEngine } from '../../mesh/relay/socket-engine.ts'
import type { PlainSocket } from '../../mesh/relay/thin-socket.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import { closeFd } from '../../native/libc.ts'
import { waitingConnections } from '../../native/tcp-state.ts'
import type { PodListeners } from '../capture/types.ts'
import { type PlainServer, serveThin } from './thin-sockets.ts'
import { serveListeningFd } from './upstream.ts'

/**
 * What the kernel had accepted before capture ended waits in the listeners' queues, and closing a listener resets it, as
 * it does handshakes under way. A connect() that was led here before and had not sent its SYN yet has sent it after this.
 */
const CONNECT_MS = 50
/** Between two looks at handshakes under way. Their clients' answers are out for as long as a round trip takes. */
const HANDSHAKE_LOOK_MS = 10
/**
 * A pod may be ready before an authority that is busy has certified it, and a client that is sent away may have nobody else to call: it waits for
 * as long as its own deadlines let it. A pod that has no certificate for so many times the wait of its own connections will not have one soon.
 */
const CLIENTS_PATIENCE = 6
/** A client may never answer, and where capture goes on (the agent stops) connections may never cease to come. */
const ACCEPT_DEADLINE_MS = 1_000

export interface ListeningOptions {
  readonly onOutbound: (socket: PlainSocket) => void
  readonly onInbound: (socket: PlainSocket) => void
  /** Accepts what is captured; undefined: Node does. */
  readonly engine: SocketEngine | undefined
  readonly makeHboneServer: (certificate: WorkloadCertificate) => HboneServer
  /** How long the pod's own connections wait for a certificate. */
  readonly certificateWaitMs: number
  /** One comes, or has waited, for whom there is none: he is to be sent away. */
  readonly onUncertified: (socket: Socket) => void
  readonly log: Logger
}

export class Listening {
  readonly #listeners: PodListeners
  readonly #options: ListeningOptions
  readonly #servers: PlainServer[] = []
  readonly #hbone: HboneServer[] = []
  /** HBONE listening fds that wait for the first certificate; the kernel's queue holds the clients meanwhile. */
  #waitingFds: readonly number[]
  /** Those who send clients away while there is no certificate. */
  #porters: readonly Server[] = []
  #patience: NodeJS.Timeout | undefined
  /** Also for what is still being opened. */
  #isClosed = false

  /** The fds are this set's from now on. */
  constructor(listeners: PodListeners, options: ListeningOptions) {
    this.#listeners = listeners
    this.#options = options
    this.#waitingFds = listeners.hbone
  }

  /** Those that serve, and those that have stopped listening and still have connections. */
  get hboneServers(): readonly HboneServer[] {
    return this.#hbone
  }

  /** Whether connections of the pod's app come here, or of those who call it in plaintext. */
  get isCapturing(): boolean {
    return this.#listeners.outbound.length > 0 || this.#listeners.inbound.length > 0
  }

  /** Resolves when captured connections are served. After a rejection it wants to be closed, as ever. */
  async open(): Promise<void> {
    const serve = async (fd: number, onSocket: (socket: PlainSocket) => void): Promise<void> => {
      const server = await this.#serve(fd, onSocket)
      // The pod may have been removed meanwhile.
      if (this.#isClosed) server.close()
      else this.#servers.push(server)
    }
    const { outbound, inbound } = this.#listeners
    // All, though one fail: who closes this set must know of every server that was opened.
    const opened = await Promise.allSettled([
      ...outbound.map((fd) => serve(fd, this.#options.onOutbound)),
      ...inbound.map((fd) => serve(fd, this.#options.onInbound)),
    ])
    for (const each of opened) if (each.status === 'rejected') throw each.reason
    if (this.#waitingFds.length > 0 && !this.#isClosed)
      this.#patience = setTimeout(
        () => this.#sendAway(),
        CLIENTS_PATIENCE * this.#options.certificateWaitMs,
      )
  }

  #sendAway(): void {
    const { log, onUncertified } = this.#options
    const fds = this.#waitingFds
    this.#waitingFds = []
    this.#porters = fds.map((fd) =>
      createServer({ pauseOnConnect: true }, (socket) => {
        socket.on('error', () => undefined)
        onUncertified(socket)
      })
        .on('error', (error) => log.error({ error: errorMessage(error) }, 'accept failed'))
        .listen({ fd }),
    )
  }

  /** An error of accept must not take the worker down; the listener goes on. */
  async #serve(fd: number, onSocket: (socket: PlainSocket) => void): Promise<PlainServer> {
    const { engine, log } = this.#options
    const onFailure = (error: string): void => log.error({ error }, 'accept failed')
    if (engine !== undefined) return serveThin(engine, fd, onSocket, onFailure)
    const server = await serveListeningFd(fd, onSocket)
    return server.on('error', (error) => onFailure(errorMessage(error)))
  }

  /** Serves HBONE with the first certificate, or the next handshakes with a renewed one. */
  async setCertificate(certificate: WorkloadCertificate): Promise<void> {
    if (this.#isClosed) return
    for (const server of this.#hbone) server.setCertificate(certificate)
    clearTimeout(this.#patience)
    const places = [...this.#waitingFds.map((fd) => ({ fd })), ...this.#porters]
    this.#waitingFds = []
    this.#porters = []
    await Promise.all(
      places.map((place) => {
        const server = this.#options.makeHboneServer(certificate)
        this.#hbone.push(server)
        return server.listen(place)
      }),
    )
  }

  /**
   * Accepts what waits in the kernel for listeners that nobody follows. `handshakes` gives those under way in the pod;
   * undefined where capture goes on: then they do, too, at a successor, and all the node's pods at once would ask for them.
   */
  async acceptWhatWaits(
    handshakes: (() => ReadonlySet<string> | undefined) | undefined,
  ): Promise<void> {
    if (this.#isClosed) return
    const deadline = performance.now() + ACCEPT_DEADLINE_MS
    await Promise.all([delay(CONNECT_MS), handshakes && handshakesEnd(handshakes, deadline)])
    const isLate = (): boolean => performance.now() > deadline
    // The event loop accepts one connection of each listener a turn.
    while (this.#acceptingFds().some((fd) => waitingConnections(fd) > 0) && !isLate())
      await eventLoopTurn()
  }

  /** Takes no new connections. HBONE handshakes under way, and the connections of before, go on. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    for (const server of this.#servers) server.close()
    clearTimeout(this.#patience)
    for (const fd of this.#waitingFds) closeFd(fd)
    this.#waitingFds = []
    for (const porter of this.#porters) porter.close()
    this.#porters = []
    for (const server of this.#hbone) void server.stopListening()
  }

  /** Resolves when it is closed and none of its HBONE connections is left. */
  async ended(): Promise<void> {
    await Promise.all(this.#hbone.map((server) => server.stopListening()))
  }

  /** Without those that nobody accepts from: closed, or without a certificate yet. */
  #acceptingFds(): readonly number[] {
    if (this.#isClosed) return []
    const { outbound, inbound, hbone } = this.#listeners
    return [...outbound, ...inbound, ...(this.#waitingFds.length > 0 ? [] : hbone)]
  }
}

/** Of those under way now, which may be the listeners'; what begins later is not led to them any more. */
async function handshakesEnd(
  handshakes: () => ReadonlySet<string> | undefined,
  deadline: number,
): Promise<void> {
  let underWay = handshakes()
  while (underWay !== undefined && underWay.size > 0 && performance.now() < deadline) {
    await delay(HANDSHAKE_LOOK_MS)
    underWay = underWay.intersection(handshakes() ?? new Set())
  }
}
