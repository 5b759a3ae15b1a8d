// SPDX-License-Identifier: Apache-2.0
// The last file descriptors of the process. When they run out, libuv takes whoever waits to be accepted and closes them, and
// nobody hears of it: so an accepted socket that got one of the last is reset by ourselves, and can be counted and told.

import { descriptorLimit } from '../program/descriptor-limit.ts'
import { type PlainSocket, ThinSocket } from './thin-socket.ts'

/** Left for what cannot be refused: files, the API server, a dump. Of a tiny limit an eighth. */
const LAST = 64

let firstOfTheLast: number | undefined

/** The fd under a socket, while it is open. Of its own Node offers no public way; capture keys its records by fd. */
export function socketFd(socket: PlainSocket): number | undefined {
  if (socket instanceof ThinSocket) return socket.fd
  // The handle of a TCP socket has had a numeric `fd` on POSIX in every Node release; checked here, not trusted.
  const handle: unknown = Reflect.get(socket, '_handle')
  const fd: unknown = typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'fd') : -1
  return typeof fd === 'number' && fd >= 0 ? fd : undefined
}

/** Whether all descriptors but the last are in use: the kernel gives the lowest free number. Hot: once per accepted connection. */
export function hasLastDescriptor(socket: PlainSocket): boolean {
  if (firstOfTheLast === undefined) {
    const limit = descriptorLimit()
    firstOfTheLast = limit - Math.min(LAST, Math.floor(limit / 8))
  }
  return (socketFd(socket) ?? 0) >= firstOfTheLast
}
