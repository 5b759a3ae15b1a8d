// SPDX-License-Identifier: Apache-2.0
// The server side of WebSocket, RFC 6455: the handshake, and binary messages with backpressure.

import { drained } from './drained.ts'
import { createHash } from 'node:crypto'
import type { Socket } from 'node:net'
import type { ChannelConnection } from './channel-connection.ts'

const MAGIC = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
const OPCODE = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const
const FIN = 0x80
const MASKED = 0x80
const LENGTH_16 = 126
const LENGTH_64 = 127
const MASK_BYTES = 4
/** kubectl sends 32 KiB pieces; this only bounds what a hostile client can make us hold. */
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024

/** Sec-WebSocket-Accept for a client's key. */
function acceptKey(key: string): string {
  return createHash('sha1')
    .update(key + MAGIC)
    .digest('base64')
}

interface Frame {
  readonly isFinal: boolean
  readonly opcode: number
  readonly payload: Buffer
  readonly consumed: number
}

/** Reads one frame from the start of a buffer: undefined when it is not whole yet. */
function readFrame(buffer: Buffer): Frame | 'invalid' | undefined {
  if (buffer.length < 2) return undefined
  const first = buffer.readUInt8(0)
  const second = buffer.readUInt8(1)
  // RFC 6455 5.1: frames of a client are always masked.
  if ((second & MASKED) === 0) return 'invalid'
  let length = second & ~MASKED
  let offset = 2
  if (length === LENGTH_16) {
    if (buffer.length < offset + 2) return undefined
    length = buffer.readUInt16BE(offset)
    offset += 2
  } else if (length === LENGTH_64) {
    if (buffer.length < offset + 8) return undefined
    const long = buffer.readBigUInt64BE(offset)
    if (long > BigInt(MAX_MESSAGE_BYTES)) return 'invalid'
    length = Number(long)
    offset += 8
  }
  if (length > MAX_MESSAGE_BYTES) return 'invalid'
  if (buffer.length < offset + MASK_BYTES + length) return undefined
  const mask = buffer.subarray(offset, offset + MASK_BYTES)
  offset += MASK_BYTES
  const payload = Buffer.from(buffer.subarray(offset, offset + length))
  for (let index = 0; index < payload.length; index += 1)
    payload[index] = (payload[index] ?? 0) ^ (mask[index % MASK_BYTES] ?? 0)
  return { isFinal: (first & FIN) !== 0, opcode: first & 0x0f, payload, consumed: offset + length }
}

function frame(opcode: number, payload: Buffer): Buffer {
  const { length } = payload
  const header =
    length < LENGTH_16
      ? Buffer.from([FIN | opcode, length])
      : length <= 0xffff
        ? Buffer.from([FIN | opcode, LENGTH_16, length >> 8, length & 0xff])
        : Buffer.concat([Buffer.from([FIN | opcode, LENGTH_64]), bigEndian64(length)])
  return Buffer.concat([header, payload])
}

function bigEndian64(value: number): Buffer {
  const buffer = Buffer.alloc(8)
  buffer.writeBigUInt64BE(BigInt(value))
  return buffer
}

/** An accepted WebSocket. */
export class WebSocketConnection implements ChannelConnection {
  onMessage: (payload: Buffer) => void = () => undefined
  /** Called once, however the connection ends. */
  onClose: () => void = () => undefined
  readonly #socket: Socket
  #buffer: Buffer = Buffer.alloc(0)
  #fragments: Buffer[] = []
  #fragmentBytes = 0
  #isClosing = false

  constructor(socket: Socket, key: string, protocol: string) {
    this.#socket = socket
    socket.setNoDelay(true)
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${acceptKey(key)}\r\nSec-WebSocket-Protocol: ${protocol}\r\n\r\n`,
    )
    socket.on('data', (chunk: Buffer) => this.#read(chunk))
    socket.on('close', () => this.onClose())
    // The close event follows and ends the session.
    socket.on('error', () => socket.destroy())
    socket.on('end', () => socket.end())
  }

  /** Sends a binary message; false when the caller should wait for drained() before the next. */
  send(payload: Buffer): boolean {
    if (this.#isClosing || !this.#socket.writable) return true
    return this.#socket.write(frame(OPCODE.binary, payload))
  }

  /** Resolves when buffered messages have left, or the connection has ended. */
  drained(): Promise<void> {
    return drained(this.#socket)
  }

  /** Stops reading, or goes on: backpressure towards the client. */
  pause(isPaused: boolean): void {
    if (isPaused) this.#socket.pause()
    else this.#socket.resume()
  }

  /** Ends the connection in order; code 1000 is a normal end. */
  close(code = 1000): void {
    if (this.#isClosing) return
    this.#isClosing = true
    if (!this.#socket.writable) return
    this.#socket.end(frame(OPCODE.close, Buffer.from([code >> 8, code & 0xff])))
  }

  #read(chunk: Buffer): void {
    this.#buffer = this.#buffer.length === 0 ? chunk : Buffer.concat([this.#buffer, chunk])
    for (;;) {
      const next = readFrame(this.#buffer)
      if (next === undefined) return
      if (next === 'invalid') return this.close(1002)
      this.#buffer = this.#buffer.subarray(next.consumed)
      this.#handle(next)
    }
  }

  #handle({ isFinal, opcode, payload }: Frame): void {
    switch (opcode) {
      case OPCODE.ping:
        if (this.#socket.writable) this.#socket.write(frame(OPCODE.pong, payload))
        return
      case OPCODE.pong:
        return
      case OPCODE.close:
        return this.close()
      case OPCODE.continuation:
      case OPCODE.text:
      case OPCODE.binary:
        this.#fragments.push(payload)
        this.#fragmentBytes += payload.length
        if (this.#fragmentBytes > MAX_MESSAGE_BYTES) return this.close(1009)
        if (!isFinal) return
        {
          const message = Buffer.concat(this.#fragments)
          this.#fragments = []
          this.#fragmentBytes = 0
          this.onMessage(message)
        }
        return
      default:
        this.close(1002)
    }
  }
}
