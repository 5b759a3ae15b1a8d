// SPDX-License-Identifier: Apache-2.0
// Work in other network namespaces, as promises: sockets, sysctls, mark rules. The work is done by one dedicated
// thread (netns-worker.ts). `listenInNetns` is the short way for those who only want a listening socket.

import { closeSync, openSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { NativeError } from './error.ts'
import { addressBytes } from './libc.ts'
import type { Road, Wiring } from './links.ts'
import type {
  MarkRoute,
  NetnsReplies,
  NetnsReply,
  NetnsRequest,
  SysctlValue,
} from './netns-messages.ts'
import type { KeptNetns } from './rtnetlink.ts'
import type { SocketOption, SocketSpec } from './socket-spec.ts'

export type { MarkRoute, SysctlValue } from './netns-messages.ts'

/** Accept queue of listeners; the kernel cuts it to net.core.somaxconn. */
const DEFAULT_BACKLOG = 4096

interface Waiting {
  readonly resolve: (value: unknown) => void
  readonly reject: (reason: Error) => void
}

/** A thread that works in network namespaces. All methods reject with NativeError. */
export class NetnsThread {
  readonly #worker: Worker
  readonly #waiting = new Map<number, Waiting>()
  #nextId = 0
  #closed = false

  constructor() {
    this.#worker = new Worker(new URL('./netns-worker.ts', import.meta.url), { name: 'netns' })
    this.#worker.on('message', (reply: NetnsReply) => this.#settle(reply))
    this.#worker.on('error', (error: Error) => this.#fail(error.message))
    this.#worker.on('exit', () => this.#fail('the namespace thread has ended'))
    // An idle thread keeps no process alive; a request does (see #ask).
    this.#worker.unref()
  }

  /** Makes a socket in the namespace; the caller owns the fd. */
  openSocket(netnsFd: number, spec: Omit<SocketSpec, 'netns'>): Promise<number> {
    return this.#ask({ op: 'socket', netnsFd, spec })
  }

  /** Opens an rtnetlink socket that speaks for the namespace; the caller owns the fd. */
  netlinkSocket(netnsFd: number): Promise<number> {
    return this.#ask({ op: 'netlinkSocket', netnsFd })
  }

  /** The identity of the namespace, never reused while the kernel runs. */
  cookie(netnsFd: number): Promise<bigint> {
    return this.#ask({ op: 'cookie', netnsFd })
  }

  /** Makes an empty namespace that lives as long as the fd, which the caller owns. */
  create(): Promise<number> {
    return this.#ask({ op: 'create' })
  }

  /** How the namespace hangs together with this process's own. */
  wiring(netnsFd: number): Promise<Wiring> {
    return this.#ask({ op: 'wiring', netnsFd })
  }

  /** Where this process's namespace sends what is for an address (4 or 16 bytes). */
  road(address: Uint8Array): Promise<Road> {
    return this.#ask({ op: 'road', address })
  }

  /** Writes sysctls in the namespace; gives the former values in the same order. */
  writeSysctls(netnsFd: number, values: readonly SysctlValue[]): Promise<readonly SysctlValue[]> {
    return this.#ask({ op: 'sysctl', netnsFd, values })
  }

  /** Puts up, or up again, what keeps packets with a mark in the namespace; says how it was found (keepNetns). */
  keep(netnsFd: number, families: readonly (4 | 6)[], route: MarkRoute): Promise<KeptNetns> {
    return this.#ask({ op: 'keep', netnsFd, families, route })
  }

  /** Takes it away again. Idempotent. */
  deleteMarkRoute(
    netnsFd: number,
    families: readonly (4 | 6)[],
    route: MarkRoute,
  ): Promise<undefined> {
    return this.#ask({ op: 'deleteMarkRoute', netnsFd, families, route })
  }

  /** Ends the thread; waiting requests are rejected. */
  async close(): Promise<void> {
    this.#closed = true
    await this.#worker.terminate()
  }

  #ask<Op extends NetnsRequest['op']>(
    request: Extract<NetnsRequest, { readonly op: Op }>,
  ): Promise<NetnsReplies[Op]> {
    if (this.#closed)
      return Promise.reject(
        new NativeError(request.op, undefined, 'the namespace thread is closed'),
      )
    const id = this.#nextId
    this.#nextId += 1
    return new Promise<NetnsReplies[Op]>((resolve, reject) => {
      this.#waiting.set(id, { resolve: (value) => resolve(value as NetnsReplies[Op]), reject })
      this.#worker.ref()
      this.#worker.postMessage({ id, request })
    })
  }

  #settle(reply: NetnsReply): void {
    const waiting = this.#waiting.get(reply.id)
    if (waiting === undefined) return
    this.#waiting.delete(reply.id)
    if (this.#waiting.size === 0) this.#worker.unref()
    if (reply.ok) waiting.resolve(reply.value)
    else
      waiting.reject(new NativeError(reply.failure.call, reply.failure.errno, reply.failure.detail))
  }

  #fail(reason: string): void {
    this.#closed = true
    for (const { reject } of this.#waiting.values())
      reject(new NativeError('netns thread', undefined, reason))
    this.#waiting.clear()
  }
}

/** A listening (TCP) or bound (UDP) socket to make in a namespace. */
export interface ListenRequest {
  /** A path that opens the namespace, or an fd of it. */
  readonly netns: string | number
  readonly address: string
  readonly port: number
  /** Default tcp. */
  readonly kind?: 'tcp' | 'udp'
  /** Default reuseAddress. */
  readonly options?: readonly SocketOption[]
  readonly backlog?: number
  /** Flags the socket in this socket storage map before it is bound, as SocketSpec does. */
  readonly exemptInMapFd?: number
}

let sharedThread: NetnsThread | undefined

/**
 * Makes a listening socket in a network namespace and gives its fd, which the caller owns; hand it to
 * `server.listen({ fd })`. IPv6 sockets are IPv6 only. Rejects with NativeError.
 *
 * @example const fd = await listenInNetns({ netns: '/run/netns/blue', address: '0.0.0.0', port: 80 })
 */
export async function listenInNetns(
  request: ListenRequest,
  thread: NetnsThread = (sharedThread ??=
    new NetnsThread()),
): Promise<number> {
  const { netns, kind = 'tcp' } = request
  const netnsFd = typeof netns === 'number' ? netns : openSync(netns, 'r')
  try {
    const address = addressBytes(request.address)
    return await thread.openSocket(netnsFd, {
      family: address.length === 4 ? 4 : 6,
      kind,
      options: request.options ?? ['reuseAddress'],
      bind: { address, port: request.port },
      ...(request.exemptInMapFd !== undefined && { exemptInMapFd: request.exemptInMapFd }),
      ...(kind === 'tcp' && { backlog: request.backlog ?? DEFAULT_BACKLOG }),
    })
  } finally {
    if (typeof netns !== 'number') closeSync(netnsFd)
  }
}
