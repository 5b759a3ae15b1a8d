// SPDX-License-Identifier: Apache-2.0
// Ends a TCP connection by RST, after what was already accepted for it went out.

import type { Socket } from 'node:net'
import type { EndReason } from '../telemetry/end-reason.ts'
import { type PlainSocket, ThinSocket } from './thin-socket.ts'

/**
 * Bytes accepted before a reset arrived are still delivered, as the kernel would have done, but a peer that does not read must not hold
 * the connection: one second is ample on a path that is not stuck.
 */
export const FLUSH_BEFORE_RESET_MS = 1_000
const NOTHING = Buffer.alloc(0)

/**
 * Resets the connection. Bytes that came before the reset are delivered first, as the kernel would have done.
 * While a shutdown is under way the reset waits for it: libuv refuses one then, and Node loses the handle over it.
 */
export function resetSocket(socket: PlainSocket): void {
  if (socket instanceof ThinSocket) return socket.reset()
  if (socket.destroyed) return
  if (socket.writableLength === 0 && !isShuttingDown(socket)) {
    socket.resetAndDestroy()
    return
  }
  const reset = (): void => resetSocketNow(socket)
  const deadline = setTimeout(reset, FLUSH_BEFORE_RESET_MS)
  socket.once('close', () => clearTimeout(deadline))
  if (socket.writableEnded) socket.once('finish', reset)
  else socket.write(NOTHING, reset)
}

/**
 * Resets the connection and drops what waits. A shutdown under way becomes a plain close, which libuv allows: the kernel
 * has everything then, so the peer misses nothing by it.
 */
export function resetSocketNow(socket: Socket): void {
  if (socket.destroyed) return
  if (isShuttingDown(socket)) socket.destroy()
  else socket.resetAndDestroy()
}

/**
 * Ends a connection that its owner cuts for this reason, the one of an AbortSignal. For want of descriptors nobody waits until a peer
 * that does not read has read: it would hold what its place was taken for.
 */
export function cutSocket(socket: PlainSocket, reason: unknown): void {
  const isNow = reason === ('tooManyConnections' satisfies EndReason)
  if (socket instanceof ThinSocket) socket.reset(isNow)
  else if (isNow) resetSocketNow(socket)
  else resetSocket(socket)
}

/** Node asks for the shutdown only when the kernel has taken every byte; before that an end() is no more than a wish. */
function isShuttingDown(socket: Socket): boolean {
  return socket.writableEnded && socket.writableLength === 0 && !socket.writableFinished
}
