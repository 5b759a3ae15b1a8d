// SPDX-License-Identifier: Apache-2.0
// Reads a socket into a buffer that is used again, instead of one allocation per read: Node allocates 64 KiB for
// each, and the collector, driven by that, took a quarter of a relay's CPU in bulk (bench/hbone-relays.ts).
// Node offers this only to sockets it has not made yet (`onread`); ours are accepted or TLS, so the same
// switch is thrown afterwards. Where a Node version lacks it, reads are allocated again and all else is the same.

import type { Socket } from 'node:net'

/** Takes what was read. True: it keeps the chunk beyond the call, so the buffer must not be used again. */
export type ChunkTaker = (chunk: Buffer) => boolean

/** A TLS record holds at most 16 KiB, and Node hands over one at a time. */
export const TLS_READ_BYTES = 16 * 1024
/** What libuv reads at once. */
const TCP_READ_BYTES = 64 * 1024

let sharedBuffer: Buffer | undefined

/** One buffer for all sockets of a thread whose takers never keep a chunk. */
export function sharedReadBuffer(): Buffer {
  sharedBuffer ??= Buffer.allocUnsafeSlow(TCP_READ_BYTES)
  return sharedBuffer
}

interface ReadingHandle {
  useUserBuffer(buffer: Uint8Array): void
}

/** Starts reading `socket` into `buffer`; 'end' and 'error' come as usual. Whether buffers are indeed used again. */
export function readInPlace(socket: Socket, buffer: Buffer, take: ChunkTaker): boolean {
  const handle: unknown = Reflect.get(socket, '_handle')
  const symbols = Object.getOwnPropertySymbols(socket)
  const bufferKey = symbols.find((symbol) => symbol.description === 'kBuffer')
  const generatorKey = symbols.find((symbol) => symbol.description === 'kBufferGen')
  const callbackKey = symbols.find((symbol) => symbol.description === 'kBufferCb')
  if (!isReadingHandle(handle) || !bufferKey || !generatorKey || !callbackKey) {
    socket.on('data', (chunk: Buffer) => void take(chunk))
    return false
  }
  let isKept = false
  Reflect.set(socket, bufferKey, buffer)
  Reflect.set(socket, callbackKey, (length: number, filled: Buffer) => {
    isKept = take(filled.subarray(0, length))
    return !socket.isPaused()
  })
  Reflect.set(socket, generatorKey, () => {
    if (!isKept) return undefined
    isKept = false
    return Buffer.allocUnsafeSlow(buffer.length)
  })
  handle.useUserBuffer(buffer)
  // What came before the switch lies in the stream's own buffer.
  const early: unknown = socket.read()
  if (early instanceof Buffer) take(early)
  socket.resume()
  return true
}

function isReadingHandle(handle: unknown): handle is ReadingHandle {
  return (
    typeof handle === 'object' &&
    handle !== null &&
    typeof Reflect.get(handle, 'useUserBuffer') === 'function'
  )
}
