// SPDX-License-Identifier: Apache-2.0
// Backpressure of a connection that carries channels.

import type { Duplex } from 'node:stream'

/** Resolves when buffered messages have left, or the connection has ended. */
export function drained(socket: Duplex): Promise<void> {
  return new Promise((resolve) => {
    if (!socket.writableNeedDrain || socket.destroyed) return resolve()
    const done = (): void => {
      socket.off('drain', done)
      socket.off('close', done)
      resolve()
    }
    socket.on('drain', done)
    socket.on('close', done)
  })
}
