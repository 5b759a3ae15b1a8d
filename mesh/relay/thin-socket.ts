// SPDX-License-Identifier: Apache-2.0
// A TCP connection of an app that a socket engine serves: a descriptor, until it is decided what becomes of it. Then it is half of a pair
// that the engine joins (thin-relay.ts), or spliced to a tunnel (thin-splice.ts). Hot: one or two for each connection.

import type { Socket } from 'node:net'
import { socketAddressOf } from '../model/address.ts'
import type { SocketAddress } from '../model/types.ts'
import type { SocketEngine, SocketListener } from './socket-engine.ts'

/** A connection of an app, whoever serves it. */
export type PlainSocket = Socket | ThinSocket

/** Who carries a socket's bytes, and can be asked to end it. */
export interface ThinOwner {
  reset(isNow: boolean): void
}

export class ThinSocket {
  readonly engine: SocketEngine
  #fd: number
  /** The engine's, while it connects and when it is connected; -1 of an accepted socket. */
  #id: number
  #owner: ThinOwner | undefined
  #isOwned = false
  #onClosed: (() => void) | undefined

  constructor(engine: SocketEngine, fd: number, id = -1) {
    this.engine = engine
    this.#fd = fd
    this.#id = id
  }

  /** Undefined once it is closed. */
  get fd(): number | undefined {
    return this.#fd < 0 ? undefined : this.#fd
  }

  get destroyed(): boolean {
    return this.#fd < 0
  }

  /** Of the near or the far end; undefined when it is gone. */
  address(end: 'local' | 'remote'): SocketAddress | undefined {
    const text = this.#fd < 0 ? undefined : this.engine.address(this.#fd, end)
    if (text === undefined) return undefined
    const space = text.indexOf(' ')
    return socketAddressOf(text.slice(space + 1), Number(text.slice(0, space)))
  }

  /** Calls it once, when the socket is closed. */
  onceClosed(listener: () => void): void {
    const before = this.#onClosed
    this.#onClosed =
      before === undefined
        ? listener
        : () => {
            before()
            listener()
          }
  }

  /** Resets the connection, after bytes that wait unless `isNow`. */
  reset(isNow = false): void {
    if (this.#fd < 0) return
    if (this.#owner !== undefined) this.#owner.reset(isNow)
    else this.close(true)
  }

  /** Closes what no relay has; at once. */
  close(isReset = false): void {
    if (this.#fd < 0) return
    if (this.#id >= 0) this.engine.close(this.#id, isReset)
    else this.engine.closeFd(this.#fd, isReset)
    this.wasClosed()
  }

  /** Gives the descriptor to whoever carries the bytes, which says when it is closed. */
  own(owner: ThinOwner): { readonly fd: number; readonly id: number } {
    if (this.#isOwned || this.#fd < 0) throw new Error('a socket that is closed or carried already')
    this.#isOwned = true
    this.#owner = owner
    return { fd: this.#fd, id: this.#id }
  }

  /** Its descriptor is closed. */
  wasClosed(): void {
    this.#fd = -1
    this.#id = -1
    this.#owner = undefined
    const listener = this.#onClosed
    this.#onClosed = undefined
    listener?.()
  }
}

/** Hears nothing that it was not asked for: what those that hear of sockets have in common. */
export class DeafListener implements SocketListener {
  connected(_errno: number): void {}
  read(_chunk: Buffer): void {}
  ended(): void {}
  writable(): void {}
  broken(_errno: number): void {}
  over(_end: number): void {}
}
