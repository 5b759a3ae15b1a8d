// SPDX-License-Identifier: Apache-2.0
// A call that is carried as it is, where TCPRoutes and TLSRoutes lead it, or policies ask whom its client calls by TLS. Where that is asked the
// client's first message is waited for; all of it goes on as it came.

import type { Listed } from '../../mesh/async/roster.ts'
import type { ConnectionRule } from '../../mesh/model/http-routes.ts'
import type { StartedPipe } from '../../mesh/relay/started-pipe.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import { needsServerName, routeConnection } from '../router/connection-route.ts'
import { type Call, type CallParts, NO_BYTES, type OpenCall, type ServedCall } from './call.ts'
import { certainName, type FirstOfTls, LONGEST_HELLO, readClientHello } from './client-hello.ts'
import { HeldBytes } from './held-bytes.ts'
import { TcpCall } from './tcp-call.ts'

/** A client of TLS speaks at once; its first message may come in several packets. */
const HELLO_MS = 5_000

/** What is there of a call that is to be led. */
export interface ToRoute {
  readonly call: Call
  /** None: it goes where it was sent. */
  readonly rules: readonly ConnectionRule[]
  readonly pipe: StartedPipe
  /** It is known that its client speaks TLS. */
  readonly isTls: boolean
  /** What came already, where something was waited for before. */
  readonly held?: HeldBytes
}

/** Leads it, and carries it to its end. */
export function serveRouted(parts: CallParts, { held, ...given }: ToRoute): void {
  const { call, rules, pipe } = given
  if (needsServerName(rules) || parts.policies.asksServerName(call))
    return void new NamedCall(parts, given, held)
  lead(parts, given, undefined, () => {
    if (held === undefined) pipe.start()
    else held.release(pipe.sink)
  })
}

function lead(
  parts: CallParts,
  { call, rules, pipe, isTls }: ToRoute,
  first: FirstOfTls | undefined,
  start: () => void,
): void {
  const tls = first?.kind === 'tls' ? first : undefined
  const spoken = tls !== undefined || isTls ? 'tls' : 'bytes'
  if (rules.length === 0) return new TcpCall(call, parts, pipe, spoken).serve(start)
  const way = routeConnection(rules, tls, Math.random)
  if (way.kind === 'refuse')
    return new TcpCall(call, parts, pipe).fail('noHealthyUpstream', way.message)
  new TcpCall({ ...call, backend: way.backend }, parts, pipe, spoken).serve(start)
}

/** Waits for the client's first message. */
class NamedCall implements ServedCall {
  listed: Listed | undefined
  readonly #parts: CallParts
  readonly #given: ToRoute
  readonly #held: HeldBytes
  readonly #timer: NodeJS.Timeout
  #isOver = false

  /** Lets the call enter, and its client's bytes in. */
  constructor(parts: CallParts, given: ToRoute, held: HeldBytes | undefined) {
    this.#parts = parts
    this.#given = given
    this.#held = held ?? new HeldBytes(given.pipe, LONGEST_HELLO)
    this.#timer = setTimeout(() => this.#look(true), HELLO_MS)
    this.#held.onNews = () => this.#look(false)
    parts.calls.enter(this)
    if (held === undefined) given.pipe.start()
    else this.#look(false)
  }

  describe(): OpenCall {
    return { call: this.#given.call, servedAs: 'undecided', endpoint: undefined }
  }

  drain(): void {
    // It is led within a moment, and what it is then is drained.
  }

  review(): void {
    // Policies are asked when it is led.
  }

  cut(reason: EndReason): void {
    if (this.#isOver) return
    this.#given.pipe.reset(reason)
    this.#fail(reason)
  }

  #look(isLate: boolean): void {
    if (this.#isOver) return
    const { brokenBy, prefix, isPrefixComplete } = this.#held
    if (brokenBy !== undefined) return this.#fail(brokenBy)
    const first = readClientHello(prefix, isPrefixComplete || isLate)
    if (first === undefined) return
    this.#stopLooking()
    const { call, pipe } = this.#given
    const named = { ...call, serverName: certainName(prefix) }
    lead(this.#parts, { ...this.#given, call: named }, first, () => this.#held.release(pipe.sink))
    // After its successor has entered: whoever waits for the calls to end must not miss it.
    this.#parts.calls.leave(this)
  }

  #fail(end: EndReason): void {
    this.#stopLooking()
    this.#parts.calls.leave(this)
    this.#parts.onEnd(this.#given.call, {
      end,
      message: undefined,
      endpoint: undefined,
      by: undefined,
      ...NO_BYTES,
    })
  }

  #stopLooking(): void {
    this.#isOver = true
    clearTimeout(this.#timer)
    this.#held.onNews = () => undefined
  }
}
