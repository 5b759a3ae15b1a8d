// SPDX-License-Identifier: Apache-2.0
// The client half of one HBONE connection: opens tunnels on an authenticated TLS connection.

import type { CutSignal } from '../async/cut.ts'
import type { Listed, RosterMember } from '../async/roster.ts'
import type { TLSSocket } from 'node:tls'
import type { SpiffeId } from '../model/types.ts'
import { type Result, err, ok } from '../result.ts'
import { type SecuredConnection, abandoned } from './connect.ts'
import { CUT_CODE } from './cut-code.ts'
import {
  CLIENT_LEAD,
  Lifetime,
  type LifetimeTuning,
  type LiveConnection,
  certificatesEndAt,
} from './lifetime.ts'
import { type ConnectionClosed, H2Connection } from '../http2/connection.ts'
import type { HeldMemory } from '../http2/held-memory.ts'
import type { HeaderList } from '../http2/hpack.ts'
import { H2_CODE } from '../http2/protocol.ts'
import type { H2Stream, StreamSink } from '../http2/stream.ts'
import { tlsWire } from '../http2/adopted-wire.ts'
import {
  ANSWER_DEADLINE_MS,
  CLIENT_SETTINGS,
  HANDSHAKE_DEADLINE_MS,
  PING_INTERVAL_MS,
  PING_TIMEOUT_MS,
  POOL_MAX_STREAMS,
} from './limits.ts'
import { ORIGINAL_CLIENT } from '../telemetry/original-client.ts'
import { OpenTunnel } from './tunnel.ts'
import type {
  HboneFailure,
  HbonePoolOptions,
  HboneTunnel,
  OpenedTunnel,
  TunnelHeaders,
} from './types.ts'

export interface OpenFailure extends HboneFailure {
  /** The peer did not act on the request: it may be sent again on another connection. */
  readonly isUnprocessed: boolean
}

export interface ClientConnection extends LiveConnection, RosterMember {
  /** Until its certificates end, in milliseconds. */
  readonly leftMs: number
  readonly openTunnels: number
  /** Tunnels it may carry at once; 0 once it takes no new ones (GOAWAY, closed). */
  readonly capacity: number
  open(
    authority: string,
    headers: TunnelHeaders,
    signal: CutSignal,
  ): Promise<Result<OpenedTunnel, OpenFailure>>
  /** Takes no new tunnels, says so to the peer, closes after the last one. */
  goAway(): void
  /** Cuts it; its tunnels hear the code, which is one of CUT_CODE or CANCEL. */
  destroy(code?: number): void
}

export interface ClientConnectionOptions {
  readonly memory: HeldMemory
  readonly onTunnelClosed: () => void
  /** A little before its certificates end: it should be replaced. It goes on until then. */
  readonly onEnding: (connection: ClientConnection) => void
  readonly onClosed: () => void
  /** Who pays first when what it holds is too much. */
  readonly owner?: string
  /** As for the pool. */
  readonly wayToPeer?: HbonePoolOptions['wayToPeer']
  readonly engine?: HbonePoolOptions['engine']
  /** For tests; defaults to those of limits.ts. */
  readonly pingIntervalMs?: number
  readonly pingTimeoutMs?: number
  readonly answerDeadlineMs?: number
  readonly lifetime?: LifetimeTuning
}

/** Resolves when the peer's SETTINGS came, so that its stream limit is known before the first request. */
export function establishClient(
  secured: SecuredConnection,
  options: ClientConnectionOptions,
): Promise<Result<ClientConnection, HboneFailure>> {
  return new Promise((resolve) => {
    let client: Client | undefined
    const lifetime = new Lifetime({
      ...options.lifetime,
      endsAt: certificatesEndAt(secured.socket),
      lead: CLIENT_LEAD,
      onEnding: () => {
        if (client !== undefined) options.onEnding(client)
      },
      onEnd: () => connection.destroy(),
    })
    const connection: H2Connection = new H2Connection({
      role: 'client',
      wire: tlsWire(secured, options.engine),
      settings: CLIENT_SETTINGS,
      settingsDeadlineMs: HANDSHAKE_DEADLINE_MS,
      pingIntervalMs: options.pingIntervalMs ?? PING_INTERVAL_MS,
      pingTimeoutMs: options.pingTimeoutMs ?? PING_TIMEOUT_MS,
      ...(options.owner !== undefined && { owner: options.owner }),
      memory: options.memory,
      wayToPeer: () => options.wayToPeer?.(secured.socket),
      onReady: () => {
        const answerDeadlineMs = options.answerDeadlineMs ?? ANSWER_DEADLINE_MS
        client = new Client(connection, secured, lifetime, answerDeadlineMs)
        resolve(ok(client))
      },
      onRequest: () => undefined,
      onStreamClosed: options.onTunnelClosed,
      resetCode: () =>
        client?.cutCode ?? (lifetime.isOver ? CUT_CODE.certificateExpired : H2_CODE.cancel),
      onClosed: (closed) => {
        lifetime.stop()
        if (!closed.wasReady) resolve(err(notReady(closed)))
        options.onClosed()
      },
    })
  })
}

/** A server that does not like our certificate says so after our side of the handshake is done. */
function notReady(closed: ConnectionClosed): HboneFailure {
  const isTls = /alert|ssl|tls/i.test(closed.message)
  return isTls
    ? { reason: 'tlsFailure', message: `the server refused our certificate: ${closed.message}` }
    : { reason: 'h2HandshakeFailure', message: `HTTP/2 handshake failed: ${closed.message}` }
}

class Client implements ClientConnection {
  readonly #connection: H2Connection
  readonly peerIdentity: SpiffeId
  readonly socket: TLSSocket
  readonly #lifetime: Lifetime
  readonly #answerDeadlineMs: number
  listed: Listed | undefined
  cutCode: number | undefined

  constructor(
    connection: H2Connection,
    { peerIdentity, socket }: SecuredConnection,
    lifetime: Lifetime,
    answerDeadlineMs: number,
  ) {
    this.#connection = connection
    this.peerIdentity = peerIdentity
    this.socket = socket
    this.#lifetime = lifetime
    this.#answerDeadlineMs = answerDeadlineMs
  }

  get leftMs(): number {
    return this.#lifetime.leftMs
  }

  get openTunnels(): number {
    return this.#connection.streamCount
  }

  get capacity(): number {
    return Math.min(POOL_MAX_STREAMS, this.#connection.capacity)
  }

  open(
    authority: string,
    headers: TunnelHeaders,
    signal: CutSignal,
  ): Promise<Result<OpenedTunnel, OpenFailure>> {
    const fields = connectHeaders(authority, headers)
    if (!fields.ok) return Promise.resolve(fields)
    return new Promise((resolve) => {
      const request = new ConnectRequest(this.peerIdentity, signal, resolve)
      request.start(this.#connection, fields.value, this.#answerDeadlineMs)
    })
  }

  goAway(): void {
    this.#connection.leave()
  }

  destroy(code?: number): void {
    this.cutCode = code
    this.#connection.destroy()
  }
}

/** What a header value may hold: visible ASCII and inner blanks (RFC 9110 5.5). */
const HEADER_VALUE = /^(?:[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)?$/

function connectHeaders(
  authority: string,
  headers: TunnelHeaders,
): Result<HeaderList, OpenFailure> {
  const fields: [string, string][] = [
    [':method', 'CONNECT'],
    [':authority', authority],
  ]
  if (headers.baggage !== undefined) fields.push(['baggage', headers.baggage])
  if (headers.forwarded !== undefined) fields.push(['forwarded', headers.forwarded])
  if (headers.traceparent !== undefined) fields.push(['traceparent', headers.traceparent])
  if (headers.originalClient !== undefined) fields.push([ORIGINAL_CLIENT, headers.originalClient])
  for (const [name, value] of fields)
    if (!HEADER_VALUE.test(value))
      return err({
        reason: 'hboneBadRequest',
        message: `cannot send ${JSON.stringify(value)} as ${name}: it is not visible ASCII`,
        isUnprocessed: false,
      })
  return ok(fields)
}

class Opened implements OpenedTunnel {
  readonly bare: OpenTunnel
  readonly responseBaggage: string | undefined
  readonly peerIdentity: SpiffeId
  #tunnel: HboneTunnel | undefined

  constructor(bare: OpenTunnel, responseBaggage: string | undefined, peerIdentity: SpiffeId) {
    this.bare = bare
    this.responseBaggage = responseBaggage
    this.peerIdentity = peerIdentity
  }

  get tunnel(): HboneTunnel {
    return (this.#tunnel ??= this.bare.asStream())
  }
}

/** One CONNECT until it is answered. */
class ConnectRequest implements StreamSink {
  readonly #peerIdentity: SpiffeId
  readonly #signal: CutSignal
  readonly #resolve: (result: Result<OpenedTunnel, OpenFailure>) => void
  #stream: H2Stream | undefined
  #deadline: NodeJS.Timeout | undefined
  readonly #onAbort = (): void => {
    this.#stream?.reset(H2_CODE.cancel)
    this.#fail({ ...abandoned(), isUnprocessed: false })
  }

  constructor(
    peerIdentity: SpiffeId,
    signal: CutSignal,
    resolve: (result: Result<OpenedTunnel, OpenFailure>) => void,
  ) {
    this.#peerIdentity = peerIdentity
    this.#signal = signal
    this.#resolve = resolve
  }

  start(connection: H2Connection, fields: HeaderList, deadlineMs: number): void {
    this.#signal.addEventListener('abort', this.#onAbort)
    this.#deadline = setTimeout(() => this.#onDeadline(deadlineMs), deadlineMs)
    this.#stream = connection.openStream(fields, this)
  }

  onHeaders(headers: HeaderList, isTooLarge: boolean): void {
    const stream = this.#stream
    if (stream === undefined) return
    // Of a list that is too large the rest is missing, and with it what would make it another answer.
    const status = isTooLarge ? Number.NaN : Number(valueOf(headers, ':status') ?? Number.NaN)
    if (status === 200) {
      this.#answered()
      this.#resolve(
        ok(new Opened(new OpenTunnel(stream), valueOf(headers, 'baggage'), this.#peerIdentity)),
      )
      return
    }
    stream.reset(H2_CODE.cancel)
    const what = Number.isNaN(status) ? 'malformed response' : `http status: ${status}`
    this.#fail({
      reason: 'hboneRefused',
      message: what,
      isUnprocessed: false,
      ...(!Number.isNaN(status) && { status }),
    })
  }

  onReset(code: number, isUnprocessed: boolean): boolean {
    this.#fail({
      reason: 'hboneRefused',
      message: `the peer ended the request without an answer (HTTP/2 code ${code})`,
      isUnprocessed,
    })
    return false
  }

  onData(): boolean {
    this.#stream?.reset(H2_CODE.protocolError)
    this.#fail({
      reason: 'hboneRefused',
      message: 'data came before the answer',
      isUnprocessed: false,
    })
    return false
  }

  onEnd(): void {
    // An END_STREAM with the answer is heard after onHeaders, by the tunnel; without one it is malformed.
    this.onData()
  }

  onWritable(): void {
    // Nothing is written before the answer.
  }

  onClosed(): void {
    // Each way to get here has already answered the caller.
  }

  #onDeadline(deadlineMs: number): void {
    this.#stream?.reset(H2_CODE.cancel)
    this.#fail({
      reason: 'connectTimeout',
      message: `the peer did not answer the CONNECT within ${deadlineMs} ms`,
      isUnprocessed: false,
    })
  }

  #fail(failure: OpenFailure): void {
    this.#answered()
    this.#resolve(err(failure))
  }

  #answered(): void {
    clearTimeout(this.#deadline)
    this.#signal.removeEventListener('abort', this.#onAbort)
  }
}

function valueOf(headers: HeaderList, name: string): string | undefined {
  return headers.find(([each]) => each === name)?.[1]
}
