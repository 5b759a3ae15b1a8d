// SPDX-License-Identifier: Apache-2.0
// The engine of apps' sockets over the native addon: tells those who listen what its one call a turn says. Hot: every connection of an app
// passes here, and every one under TLS.

import type { SocketEngine, SocketListener, SocketServer } from './socket-engine.ts'

/** enum told of native/sockets/sockets.h. */
const TOLD = {
  accepted: 1,
  acceptFailed: 2,
  connected: 3,
  read: 4,
  ended: 5,
  writable: 6,
  broken: 7,
  over: 8,
} as const

/** What is told, the id that it is told of, and two values. */
const RECORD_NUMBERS = 4

/** What native/sockets/addon.c defines, and says of each: results are >= 0, or a negative errno. */
export interface SocketAddon {
  /** Once a thread. From then on `tell` is called with how many records there are; they and the arena are free again after it. */
  start(tell: (count: number) => void): { readonly arena: Buffer; readonly records: Float64Array }
  listen(fd: number): number
  stream(fd: number): number
  connect(fd: number, address: string, port: number): number
  join(id: number, fd: number): number
  take(id: number): number
  bytes(id: number, side: number): number
  cut(id: number, isNow: number): number
  write(id: number, bytes: Buffer, from: number, to: number): number
  end(id: number): number
  pause(id: number, isPaused: number): void
  close(id: number, isReset: number): void
  closeFd(fd: number, isReset: number): void
  address(fd: number, isRemote: number): string | undefined
  takeMade(): number
  adopt(fd: number, made: number, finished: Buffer): number
  fault(id: number): string
}

const SIDES = { upstream: 0, downstream: 1 } as const

/** Of the thread that has loaded the addon. */
export class AddonEngine implements SocketEngine {
  readonly #addon: SocketAddon
  readonly #arena: Buffer
  readonly #records: Float64Array
  /** By id. */
  readonly #listeners: (SocketListener | undefined)[] = []
  readonly #servers = new Map<number, SocketServer>()
  #scheduled: (() => void)[] = []
  #isTelling = false

  constructor(addon: SocketAddon) {
    this.#addon = addon
    const { arena, records } = addon.start((count) => this.#tell(count))
    this.#arena = arena
    this.#records = records
  }

  schedule(act: () => void): void {
    if (this.#isTelling) this.#scheduled.push(act)
    else setImmediate(act)
  }

  #tell(count: number): void {
    this.#isTelling = true
    this.#tellAll(count)
    this.#isTelling = false
    const scheduled = this.#scheduled
    if (scheduled.length === 0) return
    this.#scheduled = []
    for (const act of scheduled)
      try {
        act()
      } catch (thrown) {
        rethrowLater(thrown)
      }
  }

  #tellAll(count: number): void {
    for (let at = 0; at < count * RECORD_NUMBERS; at += RECORD_NUMBERS)
      try {
        this.#tellOne(at)
      } catch (thrown) {
        rethrowLater(thrown)
      }
  }

  #tellOne(at: number): void {
    const records = this.#records
    const told = records[at]
    const id = records[at + 1] ?? 0
    const value = records[at + 2] ?? 0
    if (told === TOLD.accepted || told === TOLD.acceptFailed)
      return this.#tellServer(id, told === TOLD.accepted, value)
    // Forgotten by an earlier one of the turn, or by itself.
    const listener = this.#listeners[id]
    switch (told) {
      case TOLD.read:
        return listener?.read(this.#arena.subarray(value, value + (records[at + 3] ?? 0)))
      case TOLD.connected:
        return listener?.connected(value)
      case TOLD.ended:
        return listener?.ended()
      case TOLD.writable:
        return listener?.writable()
      case TOLD.broken:
        return listener?.broken(value)
      case TOLD.over:
        this.#listeners[id] = undefined
        return listener?.over(value)
      default:
    }
  }

  #tellServer(id: number, isAccepted: boolean, value: number): void {
    const server = this.#servers.get(id)
    if (!isAccepted) server?.failed(value)
    else if (server === undefined) this.closeFd(value, true)
    else server.accepted(value)
  }

  listen(fd: number, server: SocketServer): number {
    const id = this.#addon.listen(fd)
    if (id < 0) throw new Error(`Cannot listen by fd ${fd}: epoll_ctl fails (errno ${-id})`)
    this.#servers.set(id, server)
    return id
  }

  connect(fd: number, address: string, port: number, listener: SocketListener): number {
    return this.#listen(this.#addon.connect(fd, address, port), listener)
  }

  stream(fd: number, listener: SocketListener): number {
    return this.#listen(this.#addon.stream(fd), listener)
  }

  take(id: number, listener: SocketListener): number {
    this.#listeners[id] = listener
    return this.#addon.take(id)
  }

  join(id: number, fd: number, listener: SocketListener): number {
    this.#listeners[id] = listener
    return this.#addon.join(id, fd)
  }

  #listen(id: number, listener: SocketListener): number {
    if (id >= 0) this.#listeners[id] = listener
    return id
  }

  bytes(id: number, side: keyof typeof SIDES): number {
    return this.#addon.bytes(id, SIDES[side])
  }

  cut(id: number, isNow: boolean): boolean {
    const isOver = this.#addon.cut(id, isNow ? 1 : 0) === 1
    if (isOver) this.#listeners[id] = undefined
    return isOver
  }

  write(id: number, bytes: Buffer, from: number, to: number): number {
    return this.#addon.write(id, bytes, from, to)
  }

  end(id: number): void {
    this.#addon.end(id)
  }

  pause(id: number, isPaused: boolean): void {
    this.#addon.pause(id, isPaused ? 1 : 0)
  }

  close(id: number, isReset: boolean): void {
    this.#listeners[id] = undefined
    this.#servers.delete(id)
    this.#addon.close(id, isReset ? 1 : 0)
  }

  closeFd(fd: number, isReset: boolean): void {
    this.#addon.closeFd(fd, isReset ? 1 : 0)
  }

  takeMade(): number {
    return this.#addon.takeMade()
  }

  adopt(fd: number, made: number, finished: Buffer, listener: SocketListener): number {
    return this.#listen(this.#addon.adopt(fd, made, finished), listener)
  }

  fault(id: number): string {
    return this.#addon.fault(id)
  }

  address(fd: number, end: 'local' | 'remote'): string | undefined {
    return this.#addon.address(fd, end === 'remote' ? 1 : 0)
  }
}

/** A bug of one listener ends the thread as ever, and not before the others have heard. */
function rethrowLater(thrown: unknown): void {
  queueMicrotask(() => {
    throw thrown
  })
}
