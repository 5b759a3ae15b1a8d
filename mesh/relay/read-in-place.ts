// SPDX-License-Identifier: Apache-2.0
// Reads a socket into a buffer that is used again, instead of one allocation per read: Node allocates 64 KiB for
// each, and the collector, driven by that, took a quarter of a relay's CPU in bulk (bench/hbone-relays.ts).
// Node offers this only to sockets it has not made yet (`onread`); ours are accepted or TLS, so the same
// switch is thrown afterwards. Where a Node version lacks it, reads are allocated again and all else is the same.

import type { Socket } from 'node:net'

/**
 * Takes what was read. True: it keeps the chunk beyond the call, so the buffer must not be used again.
 * A buffer: read into that one from now on.
 */
export type ChunkTaker = (chunk: Buffer) => boolean | Buffer

/** A TLS record holds at most 16 KiB, and Node hands over one at a time. */
export const TLS_READ_BYTES = 16 * 1024
/** What libuv reads at once. */
const TCP_READ_BYTES = 64 * 1024

/** Whether a chunk is worth the memory that is kept with it: the whole buffer that it was read into. */
function fillsItsMemory(chunk: Buffer): boolean {
  return chunk.length >= chunk.buffer.byteLength / 2
}

/** What a taker keeps instead of a chunk. */
export function keepable(chunk: Buffer): Buffer {
  if (fillsItsMemory(chunk)) return chunk
  const copy = Buffer.allocUnsafeSlow(chunk.length) // of its own: a slice of Node's pool would keep that
  chunk.copy(copy)
  return copy
}

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
  switchKeys ??= findSwitchKeys(socket)
  if (!isReadingHandle(handle) || switchKeys === undefined) {
    socket.on('data', (chunk: Buffer) => void take(chunk))
    return false
  }
  const { bufferKey, generatorKey, callbackKey } = switchKeys
  let next: Buffer | undefined
  const hand = (chunk: Buffer, size: number): void => {
    const answer = take(chunk)
    if (answer !== false) next = answer === true ? Buffer.allocUnsafeSlow(size) : answer
  }
  Reflect.set(socket, bufferKey, buffer)
  Reflect.set(socket, callbackKey, (length: number, filled: Buffer) => {
    hand(filled.subarray(0, length), filled.length)
    return !socket.isPaused()
  })
  Reflect.set(socket, generatorKey, () => {
    const replacement = next
    next = undefined
    return replacement
  })
  handle.useUserBuffer(buffer)
  // What came before the switch lies in the stream's own buffer: all of it while it is paused, so read before resume.
  const early: unknown = socket.read()
  socket.resume()
  const answer = early instanceof Buffer && take(early)
  if (answer instanceof Buffer) {
    // There is no read under way that could take the new buffer along.
    Reflect.set(socket, bufferKey, answer)
    handle.useUserBuffer(answer)
  }
  return true
}

/** Gives a chunk that was read by other means to whoever takes what is read from the socket. */
export function handOver(socket: Socket, chunk: Buffer): void {
  const take: unknown =
    switchKeys === undefined ? undefined : Reflect.get(socket, switchKeys.callbackKey)
  if (typeof take === 'function') Reflect.apply(take, socket, [chunk.length, chunk])
  else socket.emit('data', chunk)
}

/** The properties behind Node's `onread`; the same symbols on all sockets of a thread. */
interface SwitchKeys {
  readonly bufferKey: symbol
  readonly generatorKey: symbol
  readonly callbackKey: symbol
}

let switchKeys: SwitchKeys | undefined

function findSwitchKeys(socket: Socket): SwitchKeys | undefined {
  const symbols = Object.getOwnPropertySymbols(socket)
  const bufferKey = symbols.find((symbol) => symbol.description === 'kBuffer')
  const generatorKey = symbols.find((symbol) => symbol.description === 'kBufferGen')
  const callbackKey = symbols.find((symbol) => symbol.description === 'kBufferCb')
  return bufferKey && generatorKey && callbackKey && { bufferKey, generatorKey, callbackKey }
}

function isReadingHandle(handle: unknown): handle is ReadingHandle {
  return (
    typeof handle === 'object' &&
    handle !== null &&
    typeof Reflect.get(handle, 'useUserBuffer') === 'function'
  )
}
