// SPDX-License-Identifier: Apache-2.0
// Connections to endpoints that speak HTTP/2, each shared by the requests of one client: the far agent was told whom it is for. Requests
// that come while one is being made wait for it, so that a burst does not make as many. Hot: once a request.

import { Cut } from '../../mesh/async/cut.ts'
import type { Attempt as Trial } from '../../mesh/balance/endpoint-experience.ts'
import { errorMessage } from '../../mesh/errors.ts'
import { H2Connection } from '../../mesh/http2/connection.ts'
import type { HeldMemory } from '../../mesh/http2/held-memory.ts'
import { PipeWire } from '../../mesh/http2/pipe-wire.ts'
import { ok } from '../../mesh/result.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import { Deadline, type DeadlineWheel } from '../exchange/deadline-wheel.ts'
import { CLIENT_SETTINGS, SHRINK_MS } from '../exchange/http2-limits.ts'
import { CONNECTION_ENDED, Http2Upstream } from '../exchange/http2-upstream.ts'
import type { Attempt, CallOff, ConnectFailure, ConnectionWaiter } from '../exchange/types.ts'
import type { Endpoint } from '../exchange/upstream-connection.ts'
import { connectFailure, connectionKey, type EndpointChoice } from './endpoint-choice.ts'
import {
  type ChosenUpstream,
  MAX_TRIES,
  type OpenedUpstream,
  type UpstreamCall,
  type Upstreams,
} from './upstreams.ts'

export interface Http2ConnectionsOptions {
  readonly upstreams: Pick<Upstreams, 'open'>
  readonly choice: EndpointChoice
  readonly deadlines: DeadlineWheel
  /** The account of what lagging receivers hold. */
  readonly memory: HeldMemory
}

/** Without a request; a connection costs some 10 KB here and at the far agent. */
const IDLE_MS = 60_000
/** Beyond so many none is kept that is idle. */
const MOST_KEPT = 4_096
/** Requests at once on one connection before the app has said how many it takes, and the most whatever it says. */
const FIRST_STREAMS = 100
const MOST_STREAMS = 1_000
/** For the app's first SETTINGS, which it sends at once. */
const FIRST_SETTINGS_MS = 10_000

const NOTHING_TO_CALL_OFF: CallOff = () => undefined

export class Http2Connections {
  readonly #options: Http2ConnectionsOptions
  readonly #kept = new Map<string, Kept[]>()
  readonly #opening = new Map<string, Opening>()
  #size = 0
  #isDraining = false

  constructor(options: Http2ConnectionsOptions) {
    this.#options = options
  }

  /** Connections there are. */
  get size(): number {
    return this.#size
  }

  /** A stream for one try of a request: at once where a connection has room, else on a new one. */
  connect(call: UpstreamCall, attempt: TriedBefore, waiter: ConnectionWaiter): CallOff {
    const chosen = this.#options.choice.choose(call, attempt.avoid)
    if (!chosen.ok) {
      waiter.failed(connectFailure(chosen.error))
      return NOTHING_TO_CALL_OFF
    }
    const key = connectionKey(call, chosen.value)
    const kept = attempt.mustBeFresh ? undefined : this.#withRoom(key)
    if (kept !== undefined) {
      kept.use(chosen.value.attempt, waiter)
      return NOTHING_TO_CALL_OFF
    }
    const wanted: Wanted = {
      call,
      attempt,
      waiter,
      trial: chosen.value.attempt,
      callOff: undefined,
    }
    const opening = this.#opening.get(key)
    if (opening !== undefined && opening.waiting.length < FIRST_STREAMS) {
      opening.waiting.push(wanted)
      wanted.callOff = (reason) => {
        opening.callOff(wanted, reason)
        wanted.trial?.end()
      }
    } else this.#open(key, wanted, chosen.value)
    return (reason) => wanted.callOff?.(reason)
  }

  /** Closes what is idle, and what becomes so. */
  drain(): void {
    this.#isDraining = true
    for (const all of [...this.#kept.values()])
      for (const { connection } of [...all]) connection.leave()
  }

  #withRoom(key: string): Kept | undefined {
    return this.#kept.get(key)?.find((kept) => kept.hasRoom)
  }

  #open(key: string, first: Wanted, chosen: ChosenUpstream): void {
    const opening = new Opening(first)
    this.#opening.set(key, opening)
    // Whoever opens it has no trial of its own: that is the new connection's.
    first.trial = undefined
    first.callOff = (reason) => opening.callOff(first, reason)
    // Later tries are the request's own, and each goes elsewhere: they must not multiply.
    const tries = first.attempt.number === 0 ? MAX_TRIES : 1
    this.#options.upstreams.open(first.call, opening.cut, ok(chosen), tries).then(
      (opened) => {
        this.#forgetOpening(key, opening)
        if (opened.ok) this.#opened(key, opening, opened.value)
        else opening.failed(connectFailure(opened.error))
      },
      // Only a bug throws; who waits must still hear.
      (thrown: unknown) => {
        this.#forgetOpening(key, opening)
        opening.failed({ flag: 'UF', reason: 'internal', message: errorMessage(thrown) })
      },
    )
  }

  #forgetOpening(key: string, opening: Opening): void {
    if (this.#opening.get(key) === opening) this.#opening.delete(key)
  }

  #opened(asked: string, opening: Opening, opened: OpenedUpstream): void {
    const key = connectionKey(opening.first.call, opened.chosen)
    const kept = this.#keep(key, opened, opening.first.call)
    const { waiting, first } = opening
    if (!waiting.includes(first)) opened.attempt.end()
    for (const wanted of waiting) {
      if (wanted === first) kept.use(opened.attempt, wanted.waiter)
      else if (key === asked && wanted.trial !== undefined && kept.hasRoom)
        kept.use(wanted.trial, wanted.waiter)
      else {
        // It came to lead elsewhere, or is full already.
        wanted.trial?.end()
        wanted.callOff = this.connect(wanted.call, wanted.attempt, wanted.waiter)
      }
    }
    kept.becameIdle()
  }

  #keep(key: string, opened: OpenedUpstream, { source }: UpstreamCall): Kept {
    const { pipe, endpoint } = opened
    this.#options.choice.opened(opened)
    const { deadlines, memory } = this.#options
    const kept: Kept = new Kept(endpoint, {
      deadlines,
      isWanted: () => !this.#isDraining && this.#size <= MOST_KEPT,
      connect: (user) =>
        new H2Connection({
          role: 'client',
          wire: new PipeWire(pipe),
          settings: CLIENT_SETTINGS,
          settingsDeadlineMs: FIRST_SETTINGS_MS,
          pingIntervalMs: SHRINK_MS,
          // Servers of gRPC take PINGs that they did not agree to for a flood; what carries the connection knows whether it lives.
          pingTimeoutMs: undefined,
          memory,
          caller: source.address?.address ?? '',
          onRequest: () => undefined,
          resetCode: () => CONNECTION_ENDED,
          ...user,
          onClosed: () => {
            user.onClosed()
            this.#gone(key, kept)
          },
        }),
    })
    const others = this.#kept.get(key)
    if (others === undefined) this.#kept.set(key, [kept])
    else others.push(kept)
    this.#size += 1
    pipe.start()
    return kept
  }

  #gone(key: string, kept: Kept): void {
    const all = this.#kept.get(key)
    const at = all?.indexOf(kept) ?? -1
    if (all === undefined || at < 0) return
    all.splice(at, 1)
    if (all.length === 0) this.#kept.delete(key)
    this.#size -= 1
  }
}

type TriedBefore = Pick<Attempt, 'avoid' | 'mustBeFresh' | 'number'>

const ENDED_AT_ONCE: ConnectFailure = {
  flag: 'UF',
  reason: 'serverReset',
  message: 'the connection ended as it began',
}

/** Who waits for a connection. */
interface Wanted {
  readonly call: UpstreamCall
  readonly attempt: TriedBefore
  readonly waiter: ConnectionWaiter
  trial: Trial | undefined
  callOff: CallOff | undefined
}

/** A connection that is being made. */
class Opening {
  readonly cut = new Cut()
  readonly first: Wanted
  readonly waiting: Wanted[]

  constructor(first: Wanted) {
    this.first = first
    this.waiting = [first]
  }

  /** One of them does not wait any more; when nobody does, it is not made. */
  callOff(wanted: Wanted, reason: EndReason): void {
    const at = this.waiting.indexOf(wanted)
    if (at >= 0) this.waiting.splice(at, 1)
    if (this.waiting.length === 0) this.cut.abort(reason)
  }

  failed(failure: ConnectFailure): void {
    for (const { trial, waiter } of this.waiting.splice(0)) {
      trial?.end()
      waiter.failed(failure)
    }
  }
}

interface KeptOptions {
  readonly deadlines: DeadlineWheel
  /** Whether it is kept when it has no request. */
  readonly isWanted: () => boolean
  readonly connect: (user: {
    readonly onReady: () => void
    readonly onStreamClosed: () => void
    readonly onClosed: () => void
  }) => H2Connection
}

/** A connection that is kept. */
class Kept {
  readonly connection: H2Connection
  readonly #endpoint: Endpoint
  readonly #options: KeptOptions
  readonly #idle = new Deadline(() => this.connection.leave())
  #isReady = false
  #isReused = false

  constructor(endpoint: Endpoint, options: KeptOptions) {
    this.#endpoint = endpoint
    this.#options = options
    this.connection = options.connect({
      onReady: () => {
        this.#isReady = true
      },
      onStreamClosed: () => this.becameIdle(),
      onClosed: () => options.deadlines.clear(this.#idle),
    })
  }

  /** Whether another request may go over it. */
  get hasRoom(): boolean {
    const { streamCount, capacity } = this.connection
    return streamCount < Math.min(capacity, this.#isReady ? MOST_STREAMS : FIRST_STREAMS)
  }

  /** Gives a request its stream. `trial` ends with it. */
  use(trial: Trial, waiter: ConnectionWaiter): void {
    if (this.connection.capacity === 0) {
      trial.end()
      return waiter.failed(ENDED_AT_ONCE)
    }
    this.#options.deadlines.clear(this.#idle)
    const isReused = this.#isReused
    this.#isReused = true
    const { connection } = this
    waiter.connected(
      new Http2Upstream({
        connection,
        endpoint: this.#endpoint,
        isReused,
        onClosed: () => trial.end(),
      }),
    )
  }

  /** Perhaps: keeps it for a while if no request uses it. */
  becameIdle(): void {
    if (this.connection.streamCount > 0) return
    if (this.#options.isWanted()) this.#options.deadlines.set(this.#idle, IDLE_MS)
    else this.connection.leave()
  }
}
