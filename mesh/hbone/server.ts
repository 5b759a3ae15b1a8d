// SPDX-License-Identifier: Apache-2.0
// The HBONE server of one pod: authenticated connections in, CONNECT requests out to the caller.

import {
  type ServerHttp2Session,
  type ServerHttp2Stream,
  constants,
  performServerHandshake,
} from 'node:http2'
import { type AcceptLimits, type AuthenticatedConnection, createAcceptor } from './acceptor.ts'
import {
  CONNECTION_WINDOW_BYTES,
  MAX_FRAME_BYTES,
  SERVER_HEADER_LIST_BYTES,
  SERVER_MAX_STREAMS,
  STREAM_WINDOW_BYTES,
} from './limits.ts'
import { tunnelOf } from './tunnel.ts'
import type { HboneServer, HboneServerOptions, TunnelHeaders } from './types.ts'

/** Makes the server of one pod's port 15008; call listen() with the pod's listening fd. */
export function createHboneServer(
  options: HboneServerOptions & { readonly limits?: Partial<AcceptLimits> },
): HboneServer {
  const sessions = new Set<ServerHttp2Session>()
  let tunnels = 0

  const serve = (connection: AuthenticatedConnection): void => {
    const session = performServerHandshake(connection.socket, {
      settings: {
        initialWindowSize: STREAM_WINDOW_BYTES,
        maxFrameSize: MAX_FRAME_BYTES,
        maxHeaderListSize: SERVER_HEADER_LIST_BYTES,
        maxConcurrentStreams: SERVER_MAX_STREAMS,
      },
    })
    session.setLocalWindowSize(CONNECTION_WINDOW_BYTES)
    sessions.add(session)
    session.on('error', () => undefined)
    session.once('close', () => sessions.delete(session))
    session.on('stream', (stream: ServerHttp2Stream, headers) => {
      stream.on('error', () => undefined)
      const authority = headers[':authority']
      if (headers[':method'] !== 'CONNECT' || authority === undefined) {
        stream.respond({ ':status': 400 }, { endStream: true })
        options.onRefused({
          peer: connection.peer,
          reason: 'hboneBadRequest',
          message: 'not a CONNECT request',
        })
        return
      }
      const abort = new AbortController()
      stream.once('close', () => abort.abort())
      tunnels += 1
      stream.once('close', () => {
        tunnels -= 1
      })
      options.onTunnel({
        authority,
        headers: tunnelHeaders(headers),
        peerIdentity: connection.peerIdentity,
        peer: connection.peer,
        local: connection.local,
        signal: abort.signal,
        accept(answer) {
          stream.respond({ ':status': 200, ...answer })
          return tunnelOf(stream)
        },
        reject(status) {
          if (!stream.closed) stream.respond({ ':status': status }, { endStream: true })
        },
      })
    })
  }

  const acceptor = createAcceptor({ ...options, onConnection: serve })
  return {
    listen: acceptor.listen,
    setCertificate: acceptor.setCertificate,
    connectionCount: () => sessions.size,
    async drain(deadlineMs) {
      acceptor.close()
      const ended = [...sessions].map(
        (session) => new Promise((resolve) => session.close(() => resolve(undefined))),
      )
      const deadline = new Promise((resolve) => setTimeout(resolve, deadlineMs).unref())
      await Promise.race([Promise.all(ended), deadline])
      const cut = tunnels
      for (const session of sessions) session.destroy(undefined, constants.NGHTTP2_NO_ERROR)
      return { cut }
    },
  }
}

function tunnelHeaders(
  headers: Readonly<Record<string, string | readonly string[] | number | undefined>>,
): TunnelHeaders {
  const { baggage, forwarded, traceparent } = headers
  return {
    ...(typeof baggage === 'string' && { baggage }),
    ...(typeof forwarded === 'string' && { forwarded }),
    ...(typeof traceparent === 'string' && { traceparent }),
  }
}
