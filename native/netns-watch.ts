// SPDX-License-Identifier: Apache-2.0
// Hears when addresses, devices, routes or rules of namespaces change: one thread and a stream for all of them, one
// netlink socket for each (native/src/watch.c).

import { Socket } from 'node:net'
import { closeFd } from './libc.ts'
import type { NetnsThread } from './netns.ts'
import { CALL_NAME_SIZE, loadShim, shimError } from './shim.ts'

const KEY_SIZE = 4
/** One less than what the thread's own stream goes by. */
const MOST_KEYS = 0xfffffffe

/** The watch over one namespace. */
export interface WatchedNetns {
  /**
   * Lets the namespace speak again. Whoever looks calls it first: what changes from here on is told, what has been told
   * before is not told again. Throws NativeError.
   */
  rearm(): void
  close(): void
}

/** Watches namespaces; one a process. */
export class NetnsWatch {
  readonly #epollFd: number
  readonly #stream: Socket
  readonly #listeners = new Map<number, () => void>()
  #nextKey = 0
  #rest: Buffer = Buffer.alloc(0)

  /** Throws NativeError. */
  constructor() {
    const call = Buffer.alloc(CALL_NAME_SIZE)
    const readFd = new Int32Array(1)
    this.#epollFd = loadShim().watchStart(readFd, call)
    if (this.#epollFd < 0) throw shimError(this.#epollFd, call, 'watch over namespaces')
    this.#stream = new Socket({ fd: readFd[0] ?? -1, readable: true, writable: false })
    this.#stream.on('data', (data: Buffer) => this.#read(data))
    // Watching alone keeps no process alive.
    this.#stream.unref()
  }

  /**
   * Watches a namespace. `changed` is called once when something does, and not again before rearm(). Rejects with
   * NativeError.
   */
  async open(thread: NetnsThread, netnsFd: number, changed: () => void): Promise<WatchedNetns> {
    const fd = await thread.netlinkSocket(netnsFd)
    const call = Buffer.alloc(CALL_NAME_SIZE)
    const key = this.#freeKey()
    const added = loadShim().watchAdd(this.#epollFd, fd, key, call)
    if (added < 0) {
      closeFd(fd)
      throw shimError(added, call, 'watch over a namespace')
    }
    this.#listeners.set(key, changed)
    return {
      rearm: () => {
        const result = loadShim().watchRearm(this.#epollFd, fd, key, call)
        if (result < 0) throw shimError(result, call, 'watch over a namespace')
      },
      close: () => {
        this.#listeners.delete(key)
        closeFd(fd)
      },
    }
  }

  /** Ends the thread. Namespaces that are still watched must have been closed. */
  close(): void {
    this.#stream.destroy()
  }

  #freeKey(): number {
    do this.#nextKey = (this.#nextKey + 1) % MOST_KEYS
    while (this.#listeners.has(this.#nextKey))
    return this.#nextKey
  }

  #read(data: Buffer): void {
    const all = this.#rest.length === 0 ? data : Buffer.concat([this.#rest, data])
    let at = 0
    for (; at + KEY_SIZE <= all.length; at += KEY_SIZE)
      this.#listeners.get(all.readUInt32LE(at))?.()
    this.#rest = all.subarray(at)
  }
}
