// SPDX-License-Identifier: Apache-2.0
// Ends a TCP connection by RST, after what was already accepted for it went out.

import type { Socket } from 'node:net'

/** A peer that does not read must not hold the connection: ample on a path that is not stuck. */
const FLUSH_BEFORE_RESET_MS = 1_000
const NOTHING = Buffer.alloc(0)

/**
 * Resets the connection. Bytes that came before the reset are delivered first, as the kernel would have done.
 * While a shutdown is under way the reset waits for it: libuv refuses one then, and Node loses the handle over it.
 */
export function resetSocket(socket: Socket): void {
  if (socket.destroyed) return
  const isShuttingDown = socket.writableEnded && !socket.writableFinished
  if (socket.writableLength === 0 && !isShuttingDown) {
    socket.resetAndDestroy()
    return
  }
  const deadline = setTimeout(() => socket.destroy(), FLUSH_BEFORE_RESET_MS)
  socket.once('close', () => clearTimeout(deadline))
  const reset = (): void => {
    if (!socket.destroyed) socket.resetAndDestroy()
  }
  if (socket.writableEnded) socket.once('finish', reset)
  else socket.write(NOTHING, reset)
}
