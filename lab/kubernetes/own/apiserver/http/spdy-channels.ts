// SPDX-License-Identifier: Apache-2.0
// Exec without a WebSocket: the client opens one SPDY stream a channel (client-go's executor, which the conformance suite of the Gateway
// API uses, does so). Seen from exec it is a connection of numbered channels, as the WebSocket is.

import { drained } from './drained.ts'
import type { Socket } from 'node:net'
import { type ChannelConnection, CHANNEL } from './channel-connection.ts'
import { SpdySession, type SpdyStream } from './spdy.ts'

/** Best first. The fifth version only adds to WebSockets what SPDY has: the end of one channel. */
const EXEC_PROTOCOLS = ['v5.channel.k8s.io', 'v4.channel.k8s.io'] as const
/** As a kubelet's: who has not opened its streams by then is given up. Milliseconds. */
const OPEN_DEADLINE_MS = 30_000

/** The version of the protocol to speak, of those a client offers. */
export function execProtocol(offered: string | readonly string[] | undefined): string | undefined {
  const names = String(offered)
    .split(',')
    .map((one) => one.trim())
  return EXEC_PROTOCOLS.find((one) => names.includes(one))
}

/** Accepts the upgrade and waits for the streams of `channels`; undefined when the client went away, or was too slow. */
export async function acceptChannels(
  socket: Socket,
  protocol: string,
  channels: readonly (keyof typeof CHANNEL)[],
): Promise<ChannelConnection | undefined> {
  socket.setNoDelay(true)
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\nConnection: Upgrade\r\nX-Stream-Protocol-Version: ${protocol}\r\n\r\n`,
  )
  const connection = new SpdyChannels(socket)
  return (await connection.opened(channels)) ? connection : undefined
}

class SpdyChannels implements ChannelConnection {
  onMessage: (payload: Buffer) => void = () => undefined
  onClose: () => void = () => undefined
  readonly #socket: Socket
  readonly #session: SpdySession
  readonly #streams = new Map<number, SpdyStream>()
  #onOpen: () => void = () => undefined
  #isClosing = false

  constructor(socket: Socket) {
    this.#socket = socket
    this.#session = new SpdySession((bytes) => !socket.writable || socket.write(bytes))
    this.#session.onStream = (stream) => this.#open(stream)
    this.#session.onInvalid = () => socket.destroy()
    socket.on('data', (chunk: Buffer) => this.#session.receive(chunk))
    socket.on('error', () => socket.destroy())
    socket.on('end', () => socket.end())
    socket.on('close', () => {
      this.#session.close()
      this.onClose()
    })
  }

  /** Resolves when there is a stream for each channel; with false when there never will be. */
  async opened(channels: readonly (keyof typeof CHANNEL)[]): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>()
    const look = (): void => {
      if (channels.every((channel) => this.#streams.has(CHANNEL[channel]))) resolve(true)
    }
    const giveUp = (): void => resolve(false)
    this.#onOpen = look
    this.#socket.once('close', giveUp)
    const timer = setTimeout(() => this.#socket.destroy(), OPEN_DEADLINE_MS)
    look()
    const isOpen = await promise
    clearTimeout(timer)
    this.#socket.off('close', giveUp)
    return isOpen
  }

  #open(stream: SpdyStream): void {
    const name = stream.headers.get('streamtype') ?? ''
    const channel = Object.entries(CHANNEL).find(([each]) => each === name)?.[1]
    if (channel === undefined) return stream.end()
    const head = Buffer.from([channel])
    stream.onData = (data) => this.onMessage(Buffer.concat([head, data]))
    stream.onEnd = () => this.onMessage(Buffer.from([CHANNEL.close, channel]))
    this.#streams.set(channel, stream)
    this.#onOpen()
  }

  send(payload: Buffer): boolean {
    const stream = this.#streams.get(payload[0] ?? CHANNEL.error)
    return stream === undefined || stream.write(payload.subarray(1))
  }

  drained(): Promise<void> {
    return drained(this.#socket)
  }

  pause(isPaused: boolean): void {
    if (isPaused) this.#socket.pause()
    else this.#socket.resume()
  }

  close(): void {
    if (this.#isClosing) return
    this.#isClosing = true
    for (const stream of this.#streams.values()) stream.end()
    this.#socket.end()
  }
}
