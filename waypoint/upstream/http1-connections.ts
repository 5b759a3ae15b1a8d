// SPDX-License-Identifier: Apache-2.0
// Connections to endpoints that speak HTTP/1.1, kept between requests. Each is used for the client it was opened for: the far agent was
// told whom it is for, and has let that client in. Hot: once a request.

import { Cut } from '../../mesh/async/cut.ts'
import type { Attempt as Trial } from '../../mesh/balance/endpoint-experience.ts'
import { errorMessage } from '../../mesh/errors.ts'
import { ok } from '../../mesh/result.ts'
import { Deadline, type DeadlineWheel } from '../exchange/deadline-wheel.ts'
import type { Attempt, CallOff, ConnectionWaiter } from '../exchange/types.ts'
import { Http1Upstream } from '../exchange/http1-upstream.ts'
import type { UpstreamOwner } from '../exchange/upstream-connection.ts'
import { connectFailure, connectionKey, type EndpointChoice } from './endpoint-choice.ts'
import {
  type ChosenUpstream,
  MAX_TRIES,
  type OpenedUpstream,
  type UpstreamCall,
  type Upstreams,
} from './upstreams.ts'

export interface Http1ConnectionsOptions {
  readonly upstreams: Pick<Upstreams, 'open'>
  readonly choice: EndpointChoice
  readonly deadlines: DeadlineWheel
}

/**
 * Apps close idle connections after some seconds or minutes. Where they say when, we are first; where they do not, a request that meets it
 * is sent again if it may be.
 */
const IDLE_MS = 30_000
/** So much before the app does, for the way of its last word here and of ours there. */
const BEFORE_APP_MS = 1_000
/**
 * What may not be sent twice takes no connection that was idle for longer: servers count idle time in whole seconds, and one that closes just
 * now would fail the request. A new connection costs a millisecond, and only where requests are rare.
 */
const FRESH_MS = 1_000
/**
 * Of one client to one endpoint: a burst must not keep each of its connections for that long. Below what a client has under way at once, each lull
 * would close connections that the next moment opens again, at many times the cost of a request.
 */
const MOST_IDLE = 256
/** Of all clients to all endpoints; at some 10 KB each, here and at the far agent. */
const MOST_IDLE_OF_ALL = 4_096

const NOTHING_TO_CALL_OFF: CallOff = () => undefined

export class Http1Connections {
  readonly #options: Http1ConnectionsOptions
  /** The last that became idle is used first, so that those too many grow old. */
  readonly #idle = new Map<string, Kept[]>()
  #idleCount = 0
  #isDraining = false

  constructor(options: Http1ConnectionsOptions) {
    this.#options = options
  }

  /** Idle connections. */
  get idle(): number {
    return this.#idleCount
  }

  /** A connection for one try of a request: an idle one, or a new one. */
  connect(
    call: UpstreamCall,
    { avoid, mustBeFresh, number, isIdempotent }: Tried,
    waiter: ConnectionWaiter,
  ): CallOff {
    const chosen = this.#options.choice.choose(call, avoid)
    if (!chosen.ok) {
      waiter.failed(connectFailure(chosen.error))
      return NOTHING_TO_CALL_OFF
    }
    const key = connectionKey(call, chosen.value)
    const idle = mustBeFresh ? undefined : this.#takeIdle(key, isIdempotent ? IDLE_MS : FRESH_MS)
    if (idle !== undefined) {
      idle.trial = chosen.value.attempt
      waiter.connected(idle.connection)
      return NOTHING_TO_CALL_OFF
    }
    const cut = new Cut()
    // Later tries are the request's own, and each goes elsewhere: they must not multiply.
    const tries = number === 0 ? MAX_TRIES : 1
    this.#open({ call, chosen: chosen.value, tries }, cut, waiter).catch((thrown: unknown) => {
      // Only a bug throws; who waits must still hear.
      if (!cut.aborted)
        waiter.failed({ flag: 'UF', reason: 'internal', message: errorMessage(thrown) })
    })
    return (reason) => cut.abort(reason)
  }

  /** Closes what is idle, and what becomes so. */
  drain(): void {
    this.#isDraining = true
    for (const all of [...this.#idle.values()])
      for (const { connection } of [...all]) connection.cut('ok')
  }

  /** Of a connection that nobody uses for now. */
  becameIdle(kept: Kept): void {
    kept.trial?.end()
    kept.trial = undefined
    const others = this.#idle.get(kept.key)
    const isFull = this.#idleCount >= MOST_IDLE_OF_ALL || (others?.length ?? 0) >= MOST_IDLE
    const { keptForMs = IDLE_MS + BEFORE_APP_MS } = kept.connection
    const idleMs = Math.min(IDLE_MS, keptForMs - BEFORE_APP_MS)
    if (this.#isDraining || isFull || idleMs <= 0) return kept.connection.cut('ok')
    kept.idleSince = this.#options.deadlines.now()
    if (others === undefined) this.#idle.set(kept.key, [kept])
    else others.push(kept)
    this.#idleCount += 1
    this.#options.deadlines.set(kept.deadline, idleMs)
  }

  /** Of a connection that is over. */
  gone(kept: Kept): void {
    kept.trial?.end()
    kept.trial = undefined
    this.#forgetIdle(kept)
    if (this.#idle.get(kept.key)?.length === 0) this.#idle.delete(kept.key)
  }

  async #open({ call, chosen, tries }: Wanted, cut: Cut, waiter: ConnectionWaiter): Promise<void> {
    const opened = await this.#options.upstreams.open(call, cut, ok(chosen), tries)
    if (!opened.ok) {
      if (!cut.aborted) waiter.failed(connectFailure(opened.error))
      return
    }
    const kept = this.#keep(call, opened.value)
    if (cut.aborted) this.becameIdle(kept)
    else waiter.connected(kept.connection)
  }

  #keep(call: UpstreamCall, opened: OpenedUpstream): Kept {
    const { pipe, endpoint, chosen } = opened
    this.#options.choice.opened(opened)
    const kept: Kept = new Kept(
      connectionKey(call, chosen),
      opened.attempt,
      (owner) => new Http1Upstream(pipe, endpoint, owner, this.#options.deadlines),
      this,
    )
    pipe.start()
    return kept
  }

  /** The one that became idle last, if that is not longer ago. */
  #takeIdle(key: string, mostIdleMs: number): Kept | undefined {
    const kept = this.#idle.get(key)?.at(-1)
    if (kept === undefined) return undefined
    if (mostIdleMs < IDLE_MS && this.#options.deadlines.now() - kept.idleSince > mostIdleMs)
      return undefined
    this.#forgetIdle(kept)
    return kept
  }

  #forgetIdle(kept: Kept): void {
    const all = this.#idle.get(kept.key)
    const at = all?.lastIndexOf(kept) ?? -1
    if (all === undefined || at < 0) return
    // An empty list stays for the next request, until a connection of it ends.
    if (at === all.length - 1) all.pop()
    else all.splice(at, 1)
    this.#idleCount -= 1
    this.#options.deadlines.clear(kept.deadline)
  }
}

type Tried = Pick<Attempt, 'avoid' | 'mustBeFresh' | 'number' | 'isIdempotent'>

/** A new connection that is to be made. */
interface Wanted {
  readonly call: UpstreamCall
  readonly chosen: ChosenUpstream
  /** Endpoints that are tried. */
  readonly tries: number
}

/** A connection that is kept. */
class Kept implements UpstreamOwner {
  readonly key: string
  readonly connection: Http1Upstream
  readonly deadline = new Deadline(() => this.connection.cut('ok'))
  /** By the wheel's clock. */
  idleSince = 0
  /** While a request uses it. */
  trial: Trial | undefined
  readonly #keeper: Http1Connections

  constructor(
    key: string,
    trial: Trial,
    make: (owner: UpstreamOwner) => Http1Upstream,
    keeper: Http1Connections,
  ) {
    this.key = key
    this.trial = trial
    this.#keeper = keeper
    this.connection = make(this)
  }

  idle(): void {
    this.#keeper.becameIdle(this)
  }

  gone(): void {
    this.#keeper.gone(this)
  }
}
