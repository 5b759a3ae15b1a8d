// SPDX-License-Identifier: Apache-2.0
// The client side of WebSocket, RFC 6455, over a request that the API server has upgraded: binary messages both ways, with
// backpressure. No extensions, no text.

import { createHash, randomBytes } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'

const MAGIC = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
const OPCODE = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const
const FIN = 0x80
const MASKED = 0x80
const OPCODE_BITS = 0x0f
const LENGTH_16 = 126
const LENGTH_64 = 127
const MASK_BYTES = 4
const KEY_BYTES = 16
/** An API server sends pieces of 32 KiB; this only bounds what a broken one makes us hold. */
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024

/** What a client sends for one upgrade. */
export interface Handshake {
  readonly headers: Readonly<Record<string, string>>
  /** Why the server's answer is none; undefined when it is. RFC 6455 4.1. */
  refusal(response: IncomingMessage): string | undefined
}

/** A new handshake for this subprotocol. */
export function webSocketHandshake(protocol: string): Handshake {
  const key = randomBytes(KEY_BYTES).toString('base64')
  const accept = createHash('sha1')
    .update(key + MAGIC)
    .digest('base64')
  return {
    headers: {
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': key,
      'sec-websocket-protocol': protocol,
    },
    refusal: ({ headers }) => {
      if (headers['sec-websocket-accept'] !== accept) return 'the server speaks no WebSocket'
      const chosen = headers['sec-websocket-protocol']
      return chosen === protocol ? undefined : `the server does not speak ${protocol}`
    },
  }
}

export interface WebSocketEvents {
  readonly onMessage: (payload: Buffer) => void
  /** Called once; the error is undefined when the server ended it in order. */
  readonly onClose: (error: Error | undefined) => void
}

/** An open WebSocket. */
export class WebSocketClient {
  readonly #socket: Duplex
  readonly #events: WebSocketEvents
  #buffer: Buffer = Buffer.alloc(0)
  #fragments: Buffer[] = []
  #fragmentBytes = 0
  #isClosed = false

  constructor(socket: Duplex, head: Buffer, events: WebSocketEvents) {
    this.#socket = socket
    this.#events = events
    socket.unshift(head)
    socket.on('data', (chunk: Buffer) => {
      this.#buffer = this.#buffer.length === 0 ? chunk : Buffer.concat([this.#buffer, chunk])
      this.#readFrames()
    })
    socket.on('error', (error) => this.#closed(error))
    socket.on('close', () => this.#closed(new Error('the connection was cut')))
  }

  /** Sends a binary message; `sent` is called when the next may follow. */
  send(payload: Buffer, sent: () => void): void {
    if (!this.#socket.writable || this.#socket.write(frame(OPCODE.binary, payload))) sent()
    else this.#socket.once('drain', sent)
  }

  /** Stops reading, or goes on. */
  pause(isPaused: boolean): void {
    if (isPaused) this.#socket.pause()
    else this.#socket.resume()
  }

  /** Ends it in order. */
  close(): void {
    if (this.#socket.writable) this.#socket.end(frame(OPCODE.close, Buffer.from([0x03, 0xe8])))
    this.#closed(undefined)
  }

  #closed(error: Error | undefined): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#events.onClose(error)
    this.#socket.destroy()
  }

  #readFrames(): void {
    while (!this.#isClosed) {
      const next = readFrame(this.#buffer)
      if (next === undefined) return
      if (next === 'invalid') {
        this.#closed(new Error('the server broke the WebSocket protocol'))
        return
      }
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
        this.close()
        return
      case OPCODE.continuation:
      case OPCODE.text:
      case OPCODE.binary:
        this.#fragments.push(payload)
        this.#fragmentBytes += payload.length
        if (this.#fragmentBytes > MAX_MESSAGE_BYTES) {
          this.#closed(new Error('the server sent too large a message'))
          return
        }
        if (!isFinal) return
        {
          const message = Buffer.concat(this.#fragments)
          this.#fragments = []
          this.#fragmentBytes = 0
          this.#events.onMessage(message)
        }
        return
      default:
        this.#closed(new Error('the server broke the WebSocket protocol'))
    }
  }
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
  // RFC 6455 5.1: frames of a server are never masked.
  if ((second & MASKED) !== 0) return 'invalid'
  let length = second
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
  if (buffer.length < offset + length) return undefined
  return {
    isFinal: (first & FIN) !== 0,
    opcode: first & OPCODE_BITS,
    payload: buffer.subarray(offset, offset + length),
    consumed: offset + length,
  }
}

function frame(opcode: number, payload: Buffer): Buffer {
  const mask = randomBytes(MASK_BYTES)
  const masked = Buffer.from(payload)
  for (let at = 0; at < masked.length; at += 1)
    masked[at] = (masked[at] ?? 0) ^ (mask[at % MASK_BYTES] ?? 0)
  return Buffer.concat([header(opcode, payload.length), mask, masked])
}

function header(opcode: number, length: number): Buffer {
  if (length < LENGTH_16) return Buffer.from([FIN | opcode, MASKED | length])
  if (length <= 0xffff)
    return Buffer.from([FIN | opcode, MASKED | LENGTH_16, length >> 8, length & 0xff])
  const long = Buffer.alloc(10)
  long.writeUInt8(FIN | opcode, 0)
  long.writeUInt8(MASKED | LENGTH_64, 1)
  long.writeBigUInt64BE(BigInt(length), 2)
  return long
}
