// SPDX-License-Identifier: Apache-2.0
// What a peer said before it reset the connection. Node destroys a socket at its first failed write, and what lies unread in the
// kernel goes with it: the answer of a server that does not wait for the end of a request (413, a protocol error) and closes. Without
// an agent in between the app reads that answer, so it is read here before the socket is destroyed.

import type { Socket } from 'node:net'
import { socketFd } from './last-descriptors.ts'
import { handOver } from './read-in-place.ts'

/** Reads what there is without waiting: bytes read, 0 at the end, negative when there is nothing. */
export type ReadNow = (fd: number, into: Buffer) => number

/** An answer is short; a peer cannot make us hold more than this for each connection that it resets. */
const MOST_BYTES = 64 * 1024
const READ_BYTES = 16 * 1024

export class LastWords {
  /** One function for all sockets: a closure for each would show in the cost of a connection. */
  readonly #destroy: (this: Socket, error?: Error) => Socket

  constructor(readNow: ReadNow) {
    this.#destroy = function (error) {
      if (isFailedWrite(this, error)) handOverUnread(this, readNow)
      const { destroy }: Pick<Socket, 'destroy'> = Object.getPrototypeOf(this)
      return destroy.call(this, error)
    }
  }

  /** From now on whoever takes what is read from the socket gets all that came before a reset, and then the error. */
  heed(socket: Socket): void {
    socket.destroy = this.#destroy
  }
}

function isFailedWrite(socket: Socket, error: NodeJS.ErrnoException | undefined): boolean {
  // Not before the stream itself knows of the error: until then it would hand over what it holds once more.
  return error?.syscall === 'write' && !socket.destroyed && socket.errored === error
}

function handOverUnread(socket: Socket, readNow: ReadNow): void {
  // First what was read while the socket was paused.
  const held: unknown = socket.read()
  if (held instanceof Buffer) handOver(socket, held)
  const fd = socketFd(socket)
  if (fd === undefined) return
  for (let bytes = 0; bytes < MOST_BYTES; ) {
    const chunk = Buffer.allocUnsafeSlow(READ_BYTES) // the taker may keep it
    const length = readNow(fd, chunk)
    if (length <= 0) return
    bytes += length
    handOver(socket, chunk.subarray(0, length))
  }
}
