// SPDX-License-Identifier: Apache-2.0
// Sockets whose peer has sent its FIN, while the other direction goes on. libuv does not look at such a socket any more until
// something is written to it, so the end of a peer that is gone (a reset, keepalive without an answer) is never heard of, and
// a server that waits for ever would hold the relay for ever. The kernel is asked instead. One that exits without closing what it
// was sent leaves its kernel's FIN_WAIT2 behind, 60 s in Linux, which answers for it; soon after that it is found.

import type { Socket } from 'node:net'
import { type Listed, Roster, type RosterMember } from '../async/roster.ts'

/** What the kernel says and does of a socket; `native` in the agent. */
export interface PeerProbe {
  /** Has the kernel ask the peer often whether it is there. */
  ask(socket: Socket): void
  /** Whether the kernel has ended the connection. */
  isDead(socket: Socket): boolean
}

/** Between two looks. Most half-closed connections are over long before the first, and cost no system call. */
const LOOK_INTERVAL_MS = 5_000

class HalfClosedSocket implements RosterMember {
  readonly socket: Socket
  listed: Listed | undefined

  constructor(socket: Socket) {
    this.socket = socket
  }
}

export class HalfClosed {
  readonly #probe: PeerProbe
  readonly #intervalMs: number
  /** Since the last look. */
  readonly #fresh = new Roster<HalfClosedSocket>()
  /** Whose peers are being asked. */
  readonly #asked = new Roster<HalfClosedSocket>()
  #timer: NodeJS.Timeout | undefined
  /** One function for all sockets, which is told whose event it is: a closure for each would show in the cost of a connection. */
  readonly #onEnd: (this: Socket) => void

  constructor(probe: PeerProbe, intervalMs = LOOK_INTERVAL_MS) {
    this.#probe = probe
    this.#intervalMs = intervalMs
    const add = (socket: Socket): void => this.#add(socket)
    this.#onEnd = function () {
      add(this)
    }
  }

  /** How many are looked after. */
  get size(): number {
    return this.#fresh.size + this.#asked.size
  }

  /** Looks after a socket from its peer's FIN on, until it closes; one whose peer is gone is destroyed with ECONNRESET. */
  watch(socket: Socket): void {
    socket.on('end', this.#onEnd)
  }

  /** Looks at all of them now. */
  look(): void {
    for (const { socket } of this.#asked)
      if (this.#probe.isDead(socket)) socket.destroy(new PeerGone())
    for (const half of this.#fresh) {
      this.#probe.ask(half.socket)
      this.#fresh.delete(half)
      this.#asked.add(half)
    }
  }

  #add(socket: Socket): void {
    if (socket.destroyed) return
    const half = new HalfClosedSocket(socket)
    this.#fresh.add(half)
    socket.on('close', () => this.#forget(half))
    this.#timer ??= setInterval(() => this.look(), this.#intervalMs).unref()
  }

  #forget(half: HalfClosedSocket): void {
    if (!this.#fresh.delete(half)) this.#asked.delete(half)
    if (this.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }
}

class PeerGone extends Error {
  readonly code = 'ECONNRESET'

  constructor() {
    super('the peer of a half-closed connection is gone')
  }
}
