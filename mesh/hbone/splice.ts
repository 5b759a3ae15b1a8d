// SPDX-License-Identifier: Apache-2.0
// Joins a captured TCP connection to an HBONE tunnel: bytes, half-close, RST and backpressure both ways.

import type { Socket } from 'node:net'
import type { EndReason } from '../telemetry/end-reason.ts'
import type { HboneTunnel } from './types.ts'

export interface SpliceOptions {
  /** Which end of the user's connection the socket is: `client` at the outbound side, `server` at the inbound side. */
  readonly socketRole: 'client' | 'server'
  /** Hears of bytes as they pass; hot, so it must only count. */
  readonly onBytes?: (sent: number, received: number) => void
  /** Aborting cuts both sides with a reset. */
  readonly signal?: AbortSignal
}

export interface SpliceOutcome {
  /** Bytes from the socket into the tunnel. */
  readonly sent: number
  /** Bytes from the tunnel into the socket. */
  readonly received: number
  readonly end: EndReason
}

/**
 * Relays until both directions ended or either side was reset; never rejects and owns both from now on.
 * The socket must have been made with allowHalfOpen and must not have been read from.
 */
export function splice(
  socket: Socket,
  tunnel: HboneTunnel,
  options: SpliceOptions,
): Promise<SpliceOutcome> {
  return new Promise((resolve) => {
    let sent = 0
    let received = 0
    let socketFailed = false
    let closing = 2
    const done = (): void => {
      closing -= 1
      if (closing > 0) return
      options.signal?.removeEventListener('abort', abort)
      const { socketRole } = options
      const end: EndReason = options.signal?.aborted
        ? 'drained'
        : socketFailed
          ? socketRole === 'client'
            ? 'clientReset'
            : 'serverReset'
          : tunnel.wasReset
            ? socketRole === 'client'
              ? 'serverReset'
              : 'clientReset'
            : 'ok'
      resolve({ sent, received, end })
    }
    const abort = (): void => {
      tunnel.reset()
      socket.resetAndDestroy()
    }
    socket.setNoDelay(true)
    socket.on('data', (chunk: Buffer) => {
      sent += chunk.length
      options.onBytes?.(chunk.length, 0)
      if (!tunnel.write(chunk)) socket.pause()
    })
    socket.on('drain', () => tunnel.resume())
    socket.once('end', () => tunnel.end())
    socket.once('error', () => {
      socketFailed = true
      tunnel.reset()
    })
    socket.once('close', () => {
      if (!tunnel.readableEnded) tunnel.reset()
      done()
    })
    tunnel.on('data', (chunk: Buffer) => {
      received += chunk.length
      options.onBytes?.(0, chunk.length)
      if (!socket.write(chunk)) tunnel.pause()
    })
    tunnel.on('drain', () => socket.resume())
    tunnel.once('end', () => socket.end())
    tunnel.on('error', () => socket.resetAndDestroy())
    tunnel.once('close', () => {
      if (tunnel.wasReset) socket.resetAndDestroy()
      done()
    })
    if (options.signal?.aborted) abort()
    else options.signal?.addEventListener('abort', abort, { once: true })
  })
}
