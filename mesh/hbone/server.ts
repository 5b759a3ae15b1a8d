// SPDX-License-Identifier: Apache-2.0
// The HBONE server of one pod: authenticated connections in, CONNECT requests out to the caller.

import { type AuthenticatedConnection, createAcceptor } from './acceptor.ts'
import { type ConnectionClosed, H2Connection } from '../http2/connection.ts'
import type { HeaderList } from '../http2/hpack.ts'
import { H2_CODE } from '../http2/protocol.ts'
import { type H2Stream, IGNORING_SINK } from '../http2/stream.ts'
import { Incoming, rejectStream } from './incoming.ts'
import {
  MAX_CONNECTIONS_PER_SOURCE,
  PING_INTERVAL_MS,
  PING_TIMEOUT_MS,
  SERVER_HEADER_LIST_BYTES,
  SERVER_SETTINGS,
} from './limits.ts'
import type { KnockLimits } from './knocking.ts'
import { readConnect } from './request.ts'
import type { HboneServer, HboneServerOptions } from './types.ts'

/** What tests make smaller; defaults to limits.ts. */
export interface HboneServerTuning {
  readonly limits?: Partial<KnockLimits>
  readonly pingIntervalMs?: number
  readonly pingTimeoutMs?: number
  readonly maxStreams?: number
  readonly maxConnectionsPerSource?: number
}

/** RFC 6585 5: header fields too large. */
const STATUS_HEADERS_TOO_LARGE = 431
const STATUS_BAD_REQUEST = 400

/** Makes the server of one pod's port 15008; call listen() with the pod's listening fd. */
export function createHboneServer(options: HboneServerOptions & HboneServerTuning): HboneServer {
  const connections = new Set<H2Connection>()
  const bySource = new Map<string, number>()
  const maxPerSource = options.maxConnectionsPerSource ?? MAX_CONNECTIONS_PER_SOURCE
  let onEmpty: (() => void) | undefined

  const serve = (authenticated: AuthenticatedConnection): void => {
    const { peer } = authenticated
    const others = bySource.get(peer.address) ?? 0
    if (others >= maxPerSource) {
      authenticated.socket.destroy()
      const message = `${peer.address} has ${others} HBONE connections to this pod already`
      return options.onRefused({ peer, reason: 'tooManyConnections', message })
    }
    bySource.set(peer.address, others + 1)
    const connection: H2Connection = new H2Connection({
      role: 'server',
      socket: authenticated.socket,
      settings:
        options.maxStreams === undefined
          ? SERVER_SETTINGS
          : { ...SERVER_SETTINGS, maxStreams: options.maxStreams },
      settingsDeadlineMs: authenticated.deadlineAt - performance.now(),
      pingIntervalMs: options.pingIntervalMs ?? PING_INTERVAL_MS,
      pingTimeoutMs: options.pingTimeoutMs ?? PING_TIMEOUT_MS,
      ...(options.owner !== undefined && { owner: options.owner }),
      memory: options.memory,
      onReady: () => undefined,
      onRequest: (stream, headers, isTooLarge) =>
        onRequest(authenticated, stream, headers, isTooLarge),
      onStreamClosed: () => undefined,
      onClosed: (closed) => {
        connections.delete(connection)
        const left = (bySource.get(peer.address) ?? 1) - 1
        if (left > 0) bySource.set(peer.address, left)
        else bySource.delete(peer.address)
        reportFault(authenticated, closed)
        if (connections.size === 0) onEmpty?.()
      },
    })
    connections.add(connection)
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
    onConnection: serve,
    onRefused: options.onRefused,
    isFromOutside: options.isFromOutside,
    isKnownSource: options.isKnownSource,
    ...(options.limits && { limits: options.limits }),
  })
  return {
    listen: acceptor.listen,
    setCertificate: acceptor.setCertificate,
    connectionCount: () => connections.size,
    async drain(deadlineMs) {
      acceptor.close()
      for (const connection of [...connections]) connection.leave()
      if (connections.size === 0) return { cut: 0 }
      const empty = Promise.withResolvers<undefined>()
      onEmpty = () => empty.resolve(undefined)
      let cut = 0
      const deadline = setTimeout(() => {
        for (const connection of [...connections]) {
          cut += connection.streamCount
          connection.destroy()
        }
      }, deadlineMs)
      await empty.promise
      clearTimeout(deadline)
      return { cut }
    },
  }
}
