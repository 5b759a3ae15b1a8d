// SPDX-License-Identifier: Apache-2.0
// The HBONE server of one pod: authenticated connections in, CONNECT requests out to the caller.

import { Drain } from '../async/drain.ts'
import { PerSource } from '../async/per-source.ts'
import type { RosterMember } from '../async/roster.ts'
import { type AuthenticatedConnection, createAcceptor } from './acceptor.ts'
import { type ConnectionClosed, H2Connection } from '../http2/connection.ts'
import type { HeaderList } from '../http2/hpack.ts'
import { H2_CODE } from '../http2/protocol.ts'
import { type H2Stream, IGNORING_SINK } from '../http2/stream.ts'
import { tlsWire } from '../http2/adopted-wire.ts'
import { CUT_CODE } from './cut-code.ts'
import { Incoming, rejectStream } from './incoming.ts'
import {
  CONNECT_UNITS,
  MAX_CONNECTIONS_PER_SOURCE,
  PING_INTERVAL_MS,
  PING_TIMEOUT_MS,
  SERVER_HEADER_LIST_BYTES,
  SERVER_SETTINGS,
} from './limits.ts'
import {
  Lifetime,
  type LifetimeTuning,
  type LiveConnection,
  SERVER_LEAD,
  certificatesEndAt,
} from './lifetime.ts'
import { readConnect } from './request.ts'
import type { Seat, TurnedAway } from './sources.ts'
import type { HboneServer, HboneServerOptions } from './types.ts'

/** What tests make smaller; defaults to limits.ts. */
export interface HboneServerTuning {
  readonly pingIntervalMs?: number
  readonly pingTimeoutMs?: number
  readonly maxStreams?: number
  readonly maxConnectionsPerSource?: number
  readonly lifetime?: LifetimeTuning
}

interface Live extends LiveConnection, RosterMember {
  readonly connection: H2Connection
  /** Why it is being cut, for its tunnels. */
  cutCode: number | undefined
}

/** RFC 6585 5: header fields too large. */
const STATUS_HEADERS_TOO_LARGE = 431
const STATUS_BAD_REQUEST = 400

/** Makes the server of one pod's port 15008; call listen() with the pod's listening fd. */
export function createHboneServer(options: HboneServerOptions & HboneServerTuning): HboneServer {
  const connections = new Drain<Live>()
  const pod = options.owner ?? ''
  const toThisPod = new PerSource({
    perSource: options.maxConnectionsPerSource ?? MAX_CONNECTIONS_PER_SOURCE,
    total: Number.POSITIVE_INFINITY,
  })

  const serve = (authenticated: AuthenticatedConnection): void => {
    const { peer, isKnown, peerIdentity, isOvertaken } = authenticated
    // That one must be made anew is not the client's doing.
    if (!isOvertaken) options.sources.handshakeDone(pod, peer.address, isKnown)
    const others = toThisPod.of(peer.address)
    const seat: Seat | TurnedAway = toThisPod.hasRoom(peer.address)
      ? options.sources.enter(pod, peer.address, isKnown, peerIdentity)
      : {
          reason: 'tooManyConnections',
          message: `${peer.address} has ${others} HBONE connections to this pod already`,
        }
    if ('reason' in seat) {
      authenticated.socket.destroy()
      options.sources.handshakeWasted(peer.address, isKnown)
      return options.onRefused({ peer, ...seat })
    }
    toThisPod.enter(peer.address)
    let hasAsked = false
    const lifetime = new Lifetime({
      ...options.lifetime,
      endsAt: certificatesEndAt(authenticated.socket),
      lead: SERVER_LEAD,
      onEnding: () => connection.leave(),
      onEnd: () => connection.destroy(),
    })
    const connection: H2Connection = new H2Connection({
      role: 'server',
      wire: tlsWire(authenticated, options.engine),
      settings:
        options.maxStreams === undefined
          ? SERVER_SETTINGS
          : { ...SERVER_SETTINGS, maxStreams: options.maxStreams },
      settingsDeadlineMs: authenticated.deadlineAt - performance.now(),
      pingIntervalMs: options.pingIntervalMs ?? PING_INTERVAL_MS,
      pingTimeoutMs: options.pingTimeoutMs ?? PING_TIMEOUT_MS,
      ...(options.owner !== undefined && { owner: options.owner }),
      caller: seat.caller,
      memory: options.memory,
      requestUnits: CONNECT_UNITS,
      onReady: () => undefined,
      accounts: seat.accounts,
      onRequest: (stream, headers, isTooLarge) => {
        hasAsked = true
        onRequest(authenticated, stream, headers, isTooLarge)
      },
      onStreamClosed: () => undefined,
      resetCode: () =>
        live.cutCode ?? (lifetime.isOver ? CUT_CODE.certificateExpired : H2_CODE.cancel),
      onClosed: (closed) => {
        lifetime.stop()
        connections.leave(live)
        toThisPod.leave(peer.address)
        seat.leave()
        if (closed.isPeerFault && closed.code === H2_CODE.enhanceYourCalm) seat.flooded()
        if (!hasAsked && !isOvertaken) options.sources.handshakeWasted(peer.address, isKnown)
        reportFault(authenticated, closed)
      },
    })
    const live: Live = {
      peerIdentity,
      socket: authenticated.socket,
      connection,
      cutCode: undefined,
    }
    connections.enter(live)
    // Whoever follows changes of trust saw no connection yet. This one stands on a certificate of before, which the next change may
    // take the ground from: its client is to make another before it puts tunnels on it.
    if (isOvertaken) connection.leave()
  }

  const onRequest = (
    connection: AuthenticatedConnection,
    stream: H2Stream,
    headers: HeaderList,
    isTooLarge: boolean,
  ): void => {
    const refuse = (message: string): void =>
      options.onRefused({ peer: connection.peer, reason: 'hboneBadRequest', message })
    if (isTooLarge) {
      rejectStream(stream, STATUS_HEADERS_TOO_LARGE)
      return refuse(`headers are over ${SERVER_HEADER_LIST_BYTES} bytes`)
    }
    const request = readConnect(headers)
    if (request.ok) return options.onTunnel(new Incoming(stream, request.value, connection))
    if (request.error.kind === 'malformed') {
      stream.sink = IGNORING_SINK
      stream.reset(H2_CODE.protocolError)
      stream.wasted('malformed requests')
    } else rejectStream(stream, STATUS_BAD_REQUEST)
    refuse(request.error.message)
  }

  const reportFault = ({ peer }: AuthenticatedConnection, closed: ConnectionClosed): void => {
    if (!closed.isPeerFault) return
    const reason = closed.wasReady ? 'hboneBadRequest' : 'h2HandshakeFailure'
    options.onRefused({ peer, reason, message: closed.message })
  }

  const acceptor = createAcceptor({
    certificate: options.certificate,
    trust: options.trust,
    onConnection: serve,
    onRefused: options.onRefused,
    isFromOutside: options.isFromOutside,
    isKnownSource: options.isKnownSource,
    sources: options.sources,
    engine: options.engine,
    pod,
  })
  return {
    listen: acceptor.listen,
    setCertificate: acceptor.setCertificate,
    stopListening: acceptor.stopListening,
    connectionCount: () => connections.size,
    closeWhere(isDistrusted, reason = 'peerDistrusted') {
      let closed = 0
      for (const live of connections) {
        if (!isDistrusted(live)) continue
        closed += 1
        live.cutCode = CUT_CODE[reason]
        live.connection.destroy()
      }
      return closed
    },
    leaveWhere(isOutdated) {
      for (const live of connections) if (isOutdated(live)) live.connection.leave()
    },
    async drain(deadlineMs) {
      acceptor.close()
      for (const { connection } of connections) connection.leave()
      const drained = await connections.drain(deadlineMs, ({ connection }) => {
        const { streamCount } = connection
        connection.destroy()
        return streamCount
      })
      await connections.whenEmpty()
      return drained
    },
  }
}
