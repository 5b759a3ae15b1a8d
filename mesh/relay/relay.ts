// SPDX-License-Identifier: Apache-2.0
// Moves the payload of one connection between two open byte streams: the part of a carrier that is the same for all processes.
// What the apps must not notice: half-close per direction, FIN against RST, back-pressure, server-first protocols.

import type { CutSignal } from '../async/cut.ts'
import { Socket } from 'node:net'
import { cutSocket, FLUSH_BEFORE_RESET_MS, resetSocket } from './reset-socket.ts'
import { splice } from './splice.ts'
import type { BareTunnel } from '../hbone/types.ts'
import type { ByteCounts } from '../telemetry/connection-record.ts'
import type { EndReason } from '../telemetry/end-reason.ts'
import { type ByteStream, type NodeStream, Pump } from './pump.ts'
import { cutReason, type Metered, type RelayListener, type SocketRole } from './relay-result.ts'
import { relayThin } from './thin-relay.ts'
import { type PlainSocket, ThinSocket } from './thin-socket.ts'
import { spliceThin } from './thin-splice.ts'

/**
 * Joins two connected byte streams until both directions are over. Owns both from the call on.
 * `signal` cuts the connection with a reset; its reason, when an EndReason, becomes the end reason.
 */
export function relay(
  downstream: ByteStream,
  upstream: ByteStream,
  listener: RelayListener,
  signal?: CutSignal,
): void {
  if (downstream instanceof ThinSocket && upstream instanceof ThinSocket)
    return relayThin(downstream, upstream, listener, signal)
  if (isSocket(downstream) && !isSocket(upstream))
    return spliceTunnel(downstream, 'client', upstream, listener, signal)
  if (!isSocket(downstream) && isSocket(upstream))
    return spliceTunnel(upstream, 'server', downstream, listener, signal)
  if (downstream instanceof ThinSocket || upstream instanceof ThinSocket)
    throw new Error('a socket of an engine cannot be joined with one of Node')
  const join = new Join(asNodeStream(downstream), asNodeStream(upstream), listener, signal)
  listener.metered(join)
  join.start()
}

function asNodeStream(stream: Socket | BareTunnel): NodeStream {
  return stream instanceof Socket ? stream : stream.asStream()
}

function isSocket(stream: ByteStream): stream is PlainSocket {
  return stream instanceof ThinSocket || stream instanceof Socket
}

const EMPTY = Buffer.alloc(0)

/** Ends a stream as abruptly as its kind allows: TCP RST, or RST_STREAM which the far side turns into one. */
export function resetStream(stream: ByteStream): void {
  if (isSocket(stream)) resetSocket(stream)
  else stream.reset()
}

function resetAfterFlush(stream: NodeStream): void {
  if (stream.destroyed) return
  if (stream instanceof Socket) {
    resetSocket(stream)
    return
  }
  if (stream.writableLength === 0 || stream.writableEnded) {
    stream.reset()
    return
  }
  const deadline = setTimeout(() => stream.reset(), FLUSH_BEFORE_RESET_MS)
  stream.write(EMPTY, () => {
    clearTimeout(deadline)
    stream.reset()
  })
}

class Join implements Metered {
  readonly #downstream: NodeStream
  readonly #upstream: NodeStream
  readonly #signal: CutSignal | undefined
  readonly #listener: RelayListener
  readonly #toUpstream: Pump
  readonly #toDownstream: Pump
  #end: EndReason = 'ok'
  #open = 2

  constructor(
    downstream: NodeStream,
    upstream: NodeStream,
    listener: RelayListener,
    signal: CutSignal | undefined,
  ) {
    this.#downstream = downstream
    this.#upstream = upstream
    this.#signal = signal
    this.#listener = listener
    this.#toUpstream = new Pump(downstream, upstream)
    this.#toDownstream = new Pump(upstream, downstream)
  }

  start(): void {
    const [downstream, upstream, signal] = [this.#downstream, this.#upstream, this.#signal]
    this.#watch(downstream, upstream, 'clientReset')
    this.#watch(upstream, downstream, 'serverReset')
    if (signal?.aborted === true) this.#onAbort()
    else signal?.addEventListener('abort', this.#onAbort)
    if (this.#open === 2) {
      // Accepted sockets arrive paused, so that nothing is read before the decision.
      this.#toUpstream.start()
      this.#toDownstream.start()
    }
  }

  counts(): ByteCounts {
    return {
      bytesToUpstream: this.#toUpstream.bytes,
      bytesToDownstream: this.#toDownstream.bytes,
    }
  }

  #watch(stream: NodeStream, other: NodeStream, reason: EndReason): void {
    stream.on('error', () => this.#broken(other, reason))
    if (stream.closed) {
      this.#broken(other, reason)
      this.#closed()
      return
    }
    stream.on('close', () => {
      // Closed before its end was read: cut. A tunnel may be reset after its end, and without an 'error'.
      const cut = !stream.readableEnded || (!(stream instanceof Socket) && stream.wasReset)
      if (cut) this.#broken(other, reason)
      this.#closed()
    })
  }

  #broken(other: NodeStream, reason: EndReason): void {
    if (this.#end === 'ok') this.#end = reason
    resetAfterFlush(other)
  }

  readonly #onAbort = (): void => {
    if (this.#end === 'ok') this.#end = cutReason(this.#signal ?? {})
    for (const stream of [this.#downstream, this.#upstream])
      if (stream instanceof Socket) cutSocket(stream, this.#signal?.reason)
      else stream.reset()
  }

  #closed(): void {
    this.#open -= 1
    if (this.#open > 0) return
    this.#signal?.removeEventListener('abort', this.#onAbort)
    this.#listener.ended({ ...this.counts(), end: this.#end })
  }
}

/** A socket and a tunnel, of which nobody makes a stream: several times cheaper (bench/hbone-relays.ts). */
function spliceTunnel(
  socket: PlainSocket,
  role: SocketRole,
  tunnel: BareTunnel,
  listener: RelayListener,
  signal: CutSignal | undefined,
): void {
  if (socket instanceof ThinSocket) spliceThin(socket, role, tunnel, listener, signal)
  else splice(socket, role, tunnel, listener, signal)
}
