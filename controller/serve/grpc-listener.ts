// SPDX-License-Identifier: Apache-2.0
// The front door of 15012. grpc-js would accept without end, and what it accepts may stay silent for ever; so TCP is accepted
// here, and a connection must carry a call with a good token within seconds, or make room for those that do.

import { type AddressInfo, createServer, type Server as TcpServer, type Socket } from 'node:net'
import type { ConnectionInjector, Server, ServerCredentials } from '@grpc/grpc-js'
import type { BucketSize } from '../../mesh/async/bucket.ts'
import { KeyedBuckets } from '../../mesh/async/keyed-buckets.ts'
import { AmbitError } from '../../mesh/errors.ts'
import { formatHostPort, type HostPort } from '../../mesh/model/host-port.ts'
import { Newcomers, type NewcomerLimits } from '../../mesh/program/newcomers.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import { LogBudget } from '../../mesh/telemetry/log-budget.ts'
import { CallerConnections, type CallerLimits } from './caller-connections.ts'
import type { ConnectionBudget } from './connection-budget.ts'

/** Why a connection was ended by us: a bound that it had to make room for, the time it took, or the work that it made. */
export type ConnectionCut =
  | 'address'
  | 'network'
  | 'total'
  | 'silent'
  | 'caller'
  | 'callersTotal'
  | 'calls'
  | 'flood'

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
/** Calls of a connection until one of them has a good token. Each costs a part of a millisecond, whatever becomes of it; clients make the first one count. */
const CALLS_OF_NEWCOMER = 64
/** Calls of one caller: an agent whose node is full asks for some five hundred certificates at once. */
const CALLS_OF_CALLER: BucketSize = { burst: 1_000, perSecond: 50 }
/**
 * Connections of one address that came to nothing; a handshake costs a millisecond. Beyond, its connections are reset before it, but so many a second: who
 * comes again and again pays for it, as at port 15008.
 */
const IN_VAIN_OF_ADDRESS: BucketSize = { burst: 200, perSecond: 20 }
/** What one costs that made too many calls without a token. */
const TOO_MANY_CALLS = 20
/** Knocks that the kernel keeps while we are busy. */
const BACKLOG = 1024
/** Lines about connections that are cut: any pod can cause them. */
const CUT_LINES = { burst: 20, perSecond: 1 }

interface Connection {
  readonly raw: Socket
  /** As grpc-js tells it of a call: address:port. */
  readonly peer: string
  readonly address: string
  readonly deadline: NodeJS.Timeout
  /** Until one of them had a good token. */
  calls: number
}

export class GrpcListener {
  readonly #options: GrpcListenerOptions
  readonly #tcp: TcpServer
  readonly #grpc: ConnectionInjector
  readonly #byPeer = new Map<string, Connection>()
  readonly #newcomers: Newcomers<Connection>
  readonly #callers: CallerConnections<Connection>
  readonly #lines = new LogBudget(CUT_LINES)
  readonly #inVain = new KeyedBuckets(IN_VAIN_OF_ADDRESS)
  readonly #calls = new KeyedBuckets(CALLS_OF_CALLER)

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

  /** A call came over the connection of this peer, who may be anybody; false when that was one too many, and the connection is cut. */
  called(peer: string): boolean {
    const connection = this.#byPeer.get(peer)
    if (connection === undefined) return true
    connection.calls += 1
    if (connection.calls <= CALLS_OF_NEWCOMER || !this.#newcomers.has(connection)) return true
    this.#inVain.of(connection.address).charge(TOO_MANY_CALLS)
    this.#cutForCalls(connection)
    return false
  }

  /** A call with a good token came over the connection of this peer: it is that caller's from now on. False as by called(). */
  authenticated(peer: string, caller: string): boolean {
    const connection = this.#byPeer.get(peer)
    if (connection === undefined) return true
    if (this.#newcomers.delete(connection)) {
      clearTimeout(connection.deadline)
      this.#callers.add(caller, connection)
    }
    if (this.#calls.take(caller)) return true
    // Whose it is is known: others may be behind the address.
    this.#inVain.of(connection.address).charge(1)
    this.#cutForCalls(connection)
    return false
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
    if (!this.#inVain.peek(remoteAddress)) {
      this.#options.onCut?.('flood')
      this.#tell('reset a connection to the gRPC port', CUT_REASONS.flood, remoteAddress)
      raw.resetAndDestroy()
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
    const connection: Connection = { raw, peer, address: remoteAddress, deadline, calls: 0 }
    // TLS reads and writes past this socket and reports on its own; what is left to happen here is told by 'close'.
    raw.on('error', () => undefined)
    raw.once('close', () => this.#forget(connection))
    this.#byPeer.set(peer, connection)
    this.#newcomers.add(remoteAddress, connection)
    this.#grpc.injectConnection(raw)
  }

  #cutForCalls(connection: Connection): void {
    this.#newcomers.delete(connection)
    this.#callers.delete(connection)
    this.#cut(connection, 'calls')
  }

  #cut(connection: Connection, cut: ConnectionCut): void {
    this.#options.onCut?.(cut)
    this.#tell('cut a connection to the gRPC port', CUT_REASONS[cut], connection.peer)
    connection.raw.destroy()
  }

  #forget(connection: Connection): void {
    clearTimeout(connection.deadline)
    if (this.#newcomers.delete(connection)) this.#inVain.of(connection.address).charge(1)
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
  calls: 'too many calls, or too many without a good token',
  flood: 'too many of its address came to nothing',
}
