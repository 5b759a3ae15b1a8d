// SPDX-License-Identifier: Apache-2.0
// build/ambit-sockets.node (native/sockets): sockets in Node's event loop, without an object of Node's for each.

import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

const ADDON = fileURLToPath(new URL('./build/ambit-sockets.node', import.meta.url))

/** enum told of native/sockets/sockets.h. */
export const TOLD = {
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
export const RECORD_NUMBERS = 4

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
}

/** The thread's own; undefined where it was not built, for want of Node's headers. */
export function loadSocketAddon(): SocketAddon | undefined {
  // What an addon exports is untyped by nature.
  return existsSync(ADDON) ? (createRequire(import.meta.url)(ADDON) as SocketAddon) : undefined
}
