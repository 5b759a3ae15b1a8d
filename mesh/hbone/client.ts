// SPDX-License-Identifier: Apache-2.0
// The client half of one HBONE connection: opens tunnels on an authenticated TLS connection.

import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from 'node:http2'
import type { SpiffeId } from '../model/types.ts'
import { type Result, err, ok } from '../result.ts'
import { abandoned, type SecuredConnection } from './connect.ts'
import {
  CLIENT_HEADER_LIST_BYTES,
  CONNECTION_WINDOW_BYTES,
  HANDSHAKE_DEADLINE_MS,
  MAX_FRAME_BYTES,
  POOL_MAX_STREAMS,
  STREAM_WINDOW_BYTES,
} from './limits.ts'
import { tunnelOf } from './tunnel.ts'
import type { HboneFailure, OpenedTunnel, TunnelHeaders } from './types.ts'

export interface OpenFailure extends HboneFailure {
  /** The peer did not act on the request: it may be sent again on another connection. */
  readonly isUnprocessed: boolean
}

export interface ClientConnection {
  readonly peerIdentity: SpiffeId
  readonly openTunnels: number
  /** Tunnels it may carry at once; 0 once it takes no new ones (GOAWAY, closed). */
  readonly capacity: number
  open(
    authority: string,
    headers: TunnelHeaders,
    signal: AbortSignal,
  ): Promise<Result<OpenedTunnel, OpenFailure>>
  /** Takes no new tunnels, says so to the peer, closes after the last one. */
  goAway(): void
  destroy(): void
}

export interface ClientConnectionEvents {
  readonly onTunnelClosed: () => void
  readonly onClosed: () => void
}

/** Resolves when the peer's SETTINGS came, so that its stream limit is known before the first request. */
export function establishClient(
  secured: SecuredConnection,
  events: ClientConnectionEvents,
): Promise<Result<ClientConnection, HboneFailure>> {
  return new Promise((resolve) => {
    const session = connect('https://hbone', {
      createConnection: () => secured.socket,
      settings: {
        enablePush: false,
        initialWindowSize: STREAM_WINDOW_BYTES,
        maxFrameSize: MAX_FRAME_BYTES,
        maxHeaderListSize: CLIENT_HEADER_LIST_BYTES,
      },
    })
    const deadline = setTimeout(() => session.destroy(), HANDSHAKE_DEADLINE_MS)
    session.on('error', () => undefined)
    session.once('close', () => {
      clearTimeout(deadline)
      resolve(
        err({ reason: 'h2HandshakeFailure', message: 'no HTTP/2 SETTINGS came from the server' }),
      )
      events.onClosed()
    })
    session.once('connect', () => session.setLocalWindowSize(CONNECTION_WINDOW_BYTES))
    session.once('remoteSettings', () => {
      clearTimeout(deadline)
      resolve(ok(wrapSession(session, secured.peerIdentity, events)))
    })
  })
}

function wrapSession(
  session: ClientHttp2Session,
  peerIdentity: SpiffeId,
  events: ClientConnectionEvents,
): ClientConnection {
  let openTunnels = 0
  let isLeaving = false
  session.once('goaway', () => {
    isLeaving = true
  })
  return {
    peerIdentity,
    get openTunnels() {
      return openTunnels
    },
    get capacity() {
      if (isLeaving || session.closed || session.destroyed) return 0
      return Math.min(
        POOL_MAX_STREAMS,
        session.remoteSettings.maxConcurrentStreams ?? POOL_MAX_STREAMS,
      )
    },
    open(authority, headers, signal) {
      openTunnels += 1
      const stream = session.request(
        { ':method': 'CONNECT', ':authority': authority, ...headers },
        { endStream: false },
      )
      stream.once('close', () => {
        openTunnels -= 1
        events.onTunnelClosed()
      })
      return awaitAnswer(stream, peerIdentity, signal)
    },
    goAway() {
      isLeaving = true
      session.close()
    },
    destroy() {
      session.destroy()
    },
  }
}

function awaitAnswer(
  stream: ClientHttp2Stream,
  peerIdentity: SpiffeId,
  signal: AbortSignal,
): Promise<Result<OpenedTunnel, OpenFailure>> {
  return new Promise((resolve) => {
    const fail = (failure: OpenFailure): void => {
      signal.removeEventListener('abort', onAbort)
      resolve(err(failure))
    }
    const onAbort = (): void => {
      stream.close(constants.NGHTTP2_CANCEL)
      fail({ ...abandoned(), isUnprocessed: false })
    }
    signal.addEventListener('abort', onAbort, { once: true })
    stream.on('error', () => undefined)
    stream.once('close', () =>
      fail({
        reason: 'hboneRefused',
        message: 'the peer closed the request without an answer',
        isUnprocessed: stream.rstCode === constants.NGHTTP2_REFUSED_STREAM || stream.rstCode === 0,
      }),
    )
    stream.once('response', (response) => {
      const status = response[':status'] ?? 0
      if (status !== 200) {
        stream.close(constants.NGHTTP2_CANCEL)
        fail({
          reason: 'hboneRefused',
          message: `http status: ${status}`,
          status,
          isUnprocessed: false,
        })
        return
      }
      signal.removeEventListener('abort', onAbort)
      const baggage = response['baggage']
      resolve(
        ok({
          tunnel: tunnelOf(stream),
          responseBaggage: typeof baggage === 'string' ? baggage : undefined,
          peerIdentity,
        }),
      )
    })
  })
}
