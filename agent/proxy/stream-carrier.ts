// SPDX-License-Identifier: Apache-2.0
// The carrier in TypeScript: opens the upstream, then joins Node's sockets and our own HTTP/2 streams.

import { Cut, type CutSignal } from '../../mesh/async/cut.ts'
import { Socket } from 'node:net'
import type { HboneFailure, HbonePool } from '../../mesh/hbone/types.ts'
import type { SpiffeId } from '../../mesh/model/types.ts'
import type { HalfClosed } from '../../mesh/relay/half-closed.ts'
import { LastWords } from '../../mesh/relay/last-words.ts'
import type { ByteStream } from '../../mesh/relay/pump.ts'
import { relay, resetStream } from '../../mesh/relay/relay.ts'
import { cutReason } from '../../mesh/relay/relay-result.ts'
import type { SocketEngine } from '../../mesh/relay/socket-engine.ts'
import type { PlainSocket } from '../../mesh/relay/thin-socket.ts'
import { err, ok, type Result } from '../../mesh/result.ts'
import { readNow } from '../../native/libc.ts'
import type { DataPlaneSockets } from '../capture/types.ts'
import { askedSilence } from './asked-silence.ts'
import type { AskedLater } from './asked-later.ts'
import type { Permit } from './admission.ts'
import type { AppClient, Carried, Carrier, Carriage, Downstream, Way } from './carrier.ts'
import { SourcePorts } from './source-ports.ts'
import { thinDialler } from './thin-sockets.ts'
import { type ClientSource, connectBy, connectUpstream, type UpstreamRequest } from './upstream.ts'

interface Opened {
  readonly stream: ByteStream
  readonly peerIdentity: SpiffeId | undefined
}

export class StreamCarrier implements Carrier {
  readonly #pool: HbonePool
  readonly #halfClosed: HalfClosed
  readonly #askedLater: AskedLater
  readonly #ports = new SourcePorts()
  readonly #lastWords = new LastWords(readNow)
  /** Connects a socket of the kind that those of callers are. */
  readonly #connect: (
    request: UpstreamRequest,
    signal: CutSignal,
  ) => Promise<Result<PlainSocket, HboneFailure>>

  constructor(
    sockets: DataPlaneSockets,
    pool: HbonePool,
    halfClosed: HalfClosed,
    engine: SocketEngine | undefined,
    askedLater: AskedLater,
  ) {
    this.#halfClosed = halfClosed
    this.#pool = pool
    this.#askedLater = askedLater
    const dialler = engine && thinDialler(engine)
    this.#connect =
      dialler === undefined
        ? (request, signal) => connectUpstream(sockets, request, signal)
        : (request, signal) => connectBy(dialler, sockets, request, signal)
  }

  async carry(call: Carried, way: Way, permit: Permit): Promise<Carriage> {
    // By types it cannot be missing; that it is the right one, and still held, is looked at here: a relay without it is a bug.
    if (!permit.isValid || (way.kind === 'app' && permit.pod !== way.pod))
      throw new Error(`no permit to enter ${way.kind === 'app' ? `pod ${way.pod}` : way.kind}`)
    const { downstream, signal } = call
    const opened =
      downstream.kind === 'tunnel'
        ? await this.#openFor(downstream.incoming.signal, way, signal)
        : await this.#open(way, signal)
    if (!opened.ok)
      return { kind: 'unopened', failure: signal.aborted ? cutFailure(signal) : opened.error }
    const { stream, peerIdentity } = opened.value
    if (isGone(downstream)) {
      resetStream(stream)
      return { kind: 'unopened', failure: GONE }
    }
    const caller = accept(downstream)
    for (const leg of [caller, stream])
      if (leg instanceof Socket) {
        this.#halfClosed.watch(leg)
        this.#lastWords.heed(leg)
      }
    call.opened(peerIdentity)
    relay(caller, stream, call, signal)
    return CARRIED
  }

  /** As #open, and gives up when the caller does. */
  async #openFor(
    caller: CutSignal,
    way: Way,
    signal: CutSignal,
  ): Promise<Result<Opened, HboneFailure>> {
    const abort = new Cut()
    const onAbort = (): void => abort.abort()
    signal.addEventListener('abort', onAbort)
    caller.addEventListener('abort', onAbort)
    if (signal.aborted || caller.aborted) onAbort()
    const opened = await this.#open(way, abort)
    signal.removeEventListener('abort', onAbort)
    caller.removeEventListener('abort', onAbort)
    return opened.ok || !caller.aborted ? opened : err({ ...opened.error, reason: 'clientReset' })
  }

  async #open(way: Way, signal: CutSignal): Promise<Result<Opened, HboneFailure>> {
    if (way.kind === 'hbone') {
      const opened = await this.#pool.open(way.peer, way.authority, way.headers, signal)
      if (!opened.ok) return opened
      const { bare, peerIdentity } = opened.value
      const { asked, cookie } = way.app
      if (asked !== undefined) bare.askSilence(askedSilence(asked))
      if (cookie !== undefined) this.#askedLater.follow(cookie, bare)
      return ok({ stream: bare, peerIdentity })
    }
    const { netnsFd, target, timeoutMs } = way
    const from = way.kind === 'app' ? this.#asClient(way.client) : way.from
    const app = way.kind === 'passthrough' ? way.app : undefined
    const request = { netnsFd, destination: target, from, timeoutMs, asked: app?.asked }
    const opened = await this.#connect(request, signal)
    if (opened.ok && app?.cookie !== undefined) this.#askedLater.follow(app.cookie, opened.value)
    return opened.ok ? ok({ stream: opened.value, peerIdentity: undefined }) : opened
  }

  #asClient(client: AppClient | undefined): ClientSource | undefined {
    if (client === undefined) return undefined
    const { address, port } = client
    return { whose: 'client', address, ports: this.#ports, clientPort: port }
  }
}

/** What happened, whatever the attempt that was given up says. */
function cutFailure(signal: CutSignal): HboneFailure {
  return { reason: cutReason(signal), message: 'cut before the upstream was open' }
}

const CARRIED: Carriage = { kind: 'carried' }
const GONE: HboneFailure = { reason: 'clientReset', message: 'gone before the answer' }

function isGone(downstream: Downstream): boolean {
  return downstream.kind === 'tunnel' && downstream.incoming.signal.aborted
}

function accept(downstream: Downstream): ByteStream {
  return downstream.kind === 'socket'
    ? downstream.socket
    : downstream.incoming.acceptBare({ baggage: downstream.baggage })
}
