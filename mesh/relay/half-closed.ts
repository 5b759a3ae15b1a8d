// SPDX-License-Identifier: Apache-2.0
// Sockets whose peer has sent its FIN, while the other direction goes on. libuv does not look at such a socket any more until
// something is written to it, so the end of a peer that is gone (its reset, or keepalive that got no answer) is never heard of, and
// a server that waits for ever would hold the relay for ever. They are looked at in turn, by asking the kernel.

import type { Socket } from 'node:net'

/** Whether the kernel has ended the connection of this socket. */
export type IsDead = (socket: Socket) => boolean

/** Between two looks: a dead peer is worth a line in a list for so long. */
const LOOK_INTERVAL_MS = 15_000

export class HalfClosed {
  readonly #isDead: IsDead
  readonly #intervalMs: number
  readonly #sockets = new Set<Socket>()
  #timer: NodeJS.Timeout | undefined

  constructor(isDead: IsDead, intervalMs = LOOK_INTERVAL_MS) {
    this.#isDead = isDead
    this.#intervalMs = intervalMs
  }

  /** How many are being looked at. */
  get size(): number {
    return this.#sockets.size
  }

  /** Looks after a socket from its peer's FIN on, until it closes; one that is dead is destroyed with ECONNRESET. */
  watch(socket: Socket): void {
    if (socket.destroyed) return
    this.#sockets.add(socket)
    socket.once('close', () => this.#forget(socket))
    this.#timer ??= setInterval(() => this.look(), this.#intervalMs).unref()
  }

  /** Looks at all of them now. */
  look(): void {
    for (const socket of this.#sockets)
      if (this.#isDead(socket))
        socket.destroy(new PeerGone('the peer of a half-closed connection is gone'))
  }

  #forget(socket: Socket): void {
    this.#sockets.delete(socket)
    if (this.#sockets.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }
}

class PeerGone extends Error {
  readonly code = 'ECONNRESET'
}
