// SPDX-License-Identifier: Apache-2.0
// The front door of 15012. grpc-js would accept without end, and what it accepts may stay silent for ever; so TCP is accepted
// here, and a connection must carry a call with a good token within seconds, or make room for those that do.

import { type AddressInfo, createServer, type Server as TcpServer, type Socket } from 'node:net'
import type { ConnectionInjector, Server, ServerCredentials } from '@grpc/grpc-js'
import { AmbitError } from '../../mesh/errors.ts'
import { formatHostPort, type HostPort } from '../../mesh/model/host-port.ts'
import { Newcomers, type NewcomerLimits } from '../../mesh/program/newcomers.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import { LogBudget } from '../../mesh/telemetry/log-budget.ts'
import { CallerConnections, type CallerLimits } from './caller-connections.ts'
import type { ConnectionBudget } from './connection-budget.ts'

/** Why a connection was ended by us: a bound that it had to make room for, or the time it took. */
export type ConnectionCut = 'address' | 'network' | 'total' | 'silent' | 'caller' | 'callersTotal'

export interface GrpcListenerOptions {
  readonly server: Server
  readonly credentials: ServerCredentials
  readonly budget: ConnectionBudget
  readonly log: Logger
  /** Told of each connection that is cut, for metrics. */
  readonly onCut?: (cut: ConnectionCut) => void
  /** For tests. */
  readonly firstCallDeadlineMs?: number
}

/** From TCP to the first call with a good token: TLS, HTTP/2 and a token review, for which alone there are 5 s. */
const FIRST_CALL_DEADLINE_MS = 10_000
/** An agent has two connections; those of a node may be behind one address. */
const NEWCOMERS_PER_ADDRESS = 16
/** Of an IPv6 /64: all nodes of a cluster may be in one, and all their agents come back at once after a restart of ours. */
const NEWCOMERS_PER_NETWORK = 512
/** An agent has two, and for a moment four, while it reads new roots. */
const CONNECTIONS_PER_CALLER = 16
/** Knocks that the kernel keeps while we are busy. */
const BACKLOG = 1024
/** Lines about connections that are cut: any pod can cause them. */
const CUT_LINES = { burst: 20, perSecond: 1 }

interface Connection {
  readonly raw: Socket
  /** As grpc-js tells it of a call: address:port. */
  readonly peer: string
  readonly deadline: NodeJS.Timeout
}

export class GrpcListener {
  readonly #options: GrpcListenerOptions
  readonly #tcp: TcpServer
  readonly #grpc: ConnectionInjector
  readonly #byPeer = new Map<string, Connection>()
  readonly #newcomers: Newcomers<Connection>
  readonly #callers: CallerConnections<Connection>
  readonly #lines = new LogBudget(CUT_LINES)

  constructor(options: GrpcListenerOptions) {
    this.#options = options
    const { budget, server, credentials } = options
    const newcomers: NewcomerLimits = {
      perAddress: NEWCOMERS_PER_ADDRESS,
      perNetwork: NEWCOMERS_PER_NETWORK,
      total: budget.newcomers,
    }
    const callers: CallerLimits = { perCaller: CONNECTIONS_PER_CALLER, total: budget.callers }
    this.#newcomers = new Newcomers(newcomers, (connection, bound) => this.#cut(connection, bound))
    this.#callers = new CallerConnections(callers, (connection, bound) =>
      this.#cut(connection, bound === 'total' ? 'callersTotal' : bound),
    )
    this.#grpc = server.createConnectionInjector(credentials)
    this.#tcp = createServer({ noDelay: true }, (raw) => this.#accept(raw))
  }

  /** Listens and gives the port; throws AMB_LISTEN when the address cannot be had. */
  listen(address: HostPort): Promise<number> {
    const { host, port } = address
    const where = formatHostPort(address)
    return new Promise((resolve, reject) => {
      const onError = (error: Error): void =>
        reject(new AmbitError('AMB_LISTEN', `Cannot listen on ${where}: ${error.message}`))
      this.#tcp.once('error', onError)
      this.#tcp.listen({ host, port, backlog: BACKLOG }, () => {
        this.#tcp.off('error', onError)
        // accept() fails when the process is out of file descriptors: no reason to end it.
        this.#tcp.on('error', (error) => this.#tell('cannot accept a connection', error.message))
        resolve((this.#tcp.address() as AddressInfo).port)
      })
    })
  }

  /** A call with a good token came over the connection of this peer: it is that caller's from now on. */
  authenticated(peer: string, caller: string): void {
    const connection = this.#byPeer.get(peer)
    if (connection === undefined || !this.#newcomers.delete(connection)) return
    clearTimeout(connection.deadline)
    this.#callers.add(caller, connection)
  }

  get connections(): { readonly newcomers: number; readonly callers: number } {
    return { newcomers: this.#newcomers.size, callers: this.#callers.size }
  }

  /** Accepts no more, and lets go of newcomers, of whom the gRPC server may not know; callers are its to end. */
  close(): void {
    this.#tcp.close()
    for (const connection of this.#byPeer.values())
      if (this.#newcomers.delete(connection)) connection.raw.destroy()
  }

  #accept(raw: Socket): void {
    const { remoteAddress, remotePort } = raw
    if (remoteAddress === undefined || remotePort === undefined) {
      raw.destroy() // gone before we looked
      return
    }
    const peer = `${remoteAddress}:${remotePort}`
    if (this.#byPeer.has(peer)) {
      // From one port to two of our addresses: a call could not be told to be of one or the other. No client does it.
      raw.destroy()
      return
    }
    const deadline = setTimeout(() => {
      if (this.#newcomers.delete(connection)) this.#cut(connection, 'silent')
    }, this.#options.firstCallDeadlineMs ?? FIRST_CALL_DEADLINE_MS)
    deadline.unref()
    const connection: Connection = { raw, peer, deadline }
    // TLS reads and writes past this socket and reports on its own; what is left to happen here is told by 'close'.
    raw.on('error', () => undefined)
    raw.once('close', () => this.#forget(connection))
    this.#byPeer.set(peer, connection)
    this.#newcomers.add(remoteAddress, connection)
    this.#grpc.injectConnection(raw)
  }

  #cut(connection: Connection, cut: ConnectionCut): void {
    this.#options.onCut?.(cut)
    this.#tell('cut a connection to the gRPC port', CUT_REASONS[cut], connection.peer)
    connection.raw.destroy()
  }

  #forget(connection: Connection): void {
    clearTimeout(connection.deadline)
    this.#newcomers.delete(connection)
    this.#callers.delete(connection)
    this.#byPeer.delete(connection.peer)
  }

  #tell(what: string, reason: string, peer?: string): void {
    const keptBack = this.#lines.take()
    if (keptBack === undefined) return
    this.#options.log.warn({ reason, peer, keptBack, ...this.connections }, what)
  }
}

const CUT_REASONS: Readonly<Record<ConnectionCut, string>> = {
  address: 'its address has too many that never made a call with a good token',
  network: 'its network has too many that never made a call with a good token',
  total: 'too many that never made a call with a good token',
  silent: 'no call with a good token came in time',
  caller: 'its caller has too many',
  callersTotal: 'too many in all, and its caller has the most',
}
