// SPDX-License-Identifier: Apache-2.0
// TLS that the waypoint speaks to a pod, as a pipe.

import type { TLSSocket } from 'node:tls'
import { FLUSH_BEFORE_RESET_MS } from '../../mesh/relay/reset-socket.ts'
import { SocketPipe, type SocketWays } from '../../mesh/relay/socket-pipe.ts'

const NOTHING = Buffer.alloc(0)

const TLS_WAYS: SocketWays = {
  windowBytes: 128 * 1024,
  read(socket, receive) {
    socket.on('data', receive)
  },
  /** Without close_notify: the pod can tell it from an end (RFC 8446 6.1). */
  cut(socket, reason) {
    if (socket.writableLength === 0 || reason === 'tooManyUnreadBytes') return void socket.destroy()
    // What was written before goes first, unless the pod does not read.
    const deadline = setTimeout(() => socket.destroy(), FLUSH_BEFORE_RESET_MS)
    socket.once('close', () => clearTimeout(deadline))
    if (socket.writableEnded) socket.once('finish', () => socket.destroy())
    else socket.write(NOTHING, () => socket.destroy())
  },
}

/** Of a socket whose handshake is done, that nobody has used yet, and that is the pipe's from now on. */
export function tlsPipe(socket: TLSSocket): SocketPipe {
  return new SocketPipe(socket, 'server', TLS_WAYS)
}
