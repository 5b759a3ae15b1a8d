// SPDX-License-Identifier: Apache-2.0
// A CONNECT that arrived, from its headers to the caller's answer.

import { Cut, type CutSignal } from '../async/cut.ts'
import type { SpiffeId, SocketAddress } from '../model/types.ts'
import type { AuthenticatedConnection } from './acceptor.ts'
import { H2_CODE } from '../http2/protocol.ts'
import { type H2Stream, IGNORING_SINK, type StreamSink } from '../http2/stream.ts'
import type { ConnectRequest } from './request.ts'
import { wasteOf } from './sources.ts'
import { OpenTunnel } from './tunnel.ts'
import { WaitingChunks } from '../relay/waiting-chunks.ts'
import type { BareTunnel, HboneTunnel, IncomingTunnel, TunnelHeaders } from './types.ts'

/** Waits for accept() or reject(); keeps what the client sends meanwhile, bounded by the stream's window. */
export class Incoming implements IncomingTunnel, StreamSink {
  readonly authority: string
  readonly headers: TunnelHeaders
  readonly peerIdentity: SpiffeId
  readonly peer: SocketAddress
  readonly local: SocketAddress
  readonly #stream: H2Stream
  #early: WaitingChunks | undefined
  #hasEnded = false
  #isAnswered = false
  #resetCode: number | undefined
  #abort: Cut | undefined

  constructor(stream: H2Stream, request: ConnectRequest, connection: AuthenticatedConnection) {
    this.#stream = stream
    this.authority = request.authority
    this.headers = request.headers
    this.peerIdentity = connection.peerIdentity
    this.peer = connection.peer
    this.local = connection.local
    stream.sink = this
  }

  get signal(): CutSignal {
    this.#abort ??= new Cut()
    if (this.#resetCode !== undefined) this.#abort.abort()
    return this.#abort
  }

  accept(headers: { readonly baggage?: string }): HboneTunnel {
    return this.acceptBare(headers).asStream()
  }

  acceptBare(headers: { readonly baggage?: string }): BareTunnel {
    this.#answer()
    const stream = this.#stream
    const { baggage } = headers
    const fields = [[':status', '200'] as const]
    stream.sendHeaders(
      baggage === undefined ? fields : [...fields, ['baggage', baggage] as const],
      false,
    )
    const tunnel = new OpenTunnel(stream)
    if (this.#resetCode !== undefined) {
      tunnel.markReset(this.#resetCode)
      return tunnel
    }
    const early = this.#early
    this.#early = undefined
    for (let chunk = early?.shift(); chunk !== undefined; chunk = early?.shift())
      tunnel.onData(chunk)
    if (this.#hasEnded) tunnel.onEnd()
    return tunnel
  }

  reject(status: number): void {
    this.#answer()
    rejectStream(this.#stream, status)
  }

  onHeaders(): void {
    // A server's streams have their headers before they exist.
  }

  onData(chunk: Buffer): boolean {
    return (this.#early ??= new WaitingChunks()).push(chunk)
  }

  onEnd(): void {
    this.#hasEnded = true
  }

  onReset(code: number): boolean {
    this.#resetCode = code
    this.#early = undefined
    this.#abort?.abort()
    return false
  }

  onWritable(): void {
    // Nothing is written before the answer.
  }

  onClosed(): void {
    // Told by onReset, or caused by reject().
  }

  #answer(): void {
    if (this.#isAnswered) throw new Error('an incoming tunnel can be answered only once')
    this.#isAnswered = true
  }
}

/** Answers with a status and is done with the stream, whatever the client still sends; it pays if the fault is its own. */
export function rejectStream(stream: H2Stream, status: number): void {
  stream.sink = IGNORING_SINK
  stream.sendHeaders([[':status', String(status)]], true)
  // RFC 9113 8.1: a server that has answered in full may ask the client to stop sending.
  stream.reset(H2_CODE.noError)
  // When the client had ended, too, the answer has closed the stream, and what it had sent is dropped all the same.
  stream.drop()
  const tokens = wasteOf(status)
  if (tokens > 0) stream.wasted(`requests answered ${status}`, tokens)
}
