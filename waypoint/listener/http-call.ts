// SPDX-License-Identifier: Apache-2.0
// A call whose requests are served one by one: joins the exchange to what it needs of the rest of the waypoint.

import type { Listed } from '../../mesh/async/roster.ts'
import { keptFields } from '../../mesh/http/field-list.ts'
import type { RequestHead, RequestMessage } from '../../mesh/http/message.ts'
import type { AppProtocol } from '../../mesh/model/gateway.ts'
import type { StartedPipe } from '../../mesh/relay/started-pipe.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import type { DeadlineWheel } from '../exchange/deadline-wheel.ts'
import type { Mirrors } from '../exchange/mirrors.ts'
import { serveHttp } from '../exchange/serve-http.ts'
import type { Http2Serving } from '../exchange/serve-http2.ts'
import type {
  Attempt,
  Backend,
  CallOff,
  ConnectionWaiter,
  ForwardOutcome,
  RequestCopies,
  RequestRecord,
  RequestSource,
  RouteOutcome,
  ServeContext,
  ServedConnection,
} from '../exchange/types.ts'
import type { PolicyRefusal } from '../policy/policy-gate.ts'
import type { Connections } from '../upstream/connections.ts'
import type { Call, CallParts, OpenCall, ServedCall } from './call.ts'

export interface HttpParts extends Pick<CallParts, 'calls'> {
  readonly deadlines: DeadlineWheel
  readonly connections: Connections
  /** What is declared of the port of a backend. */
  readonly appProtocol: ServeContext['appProtocol']
  /** What connections of HTTP/2 of such a caller share. */
  readonly http2: (source: RequestSource) => Http2Serving
  readonly mirrors: Mirrors
  /** Routes and authorises; the head is valid during the call. */
  readonly route: (call: Call, head: RequestHead) => RouteOutcome
  /** Whether the waypoint goes: what comes now is served, and the last of its connection. */
  readonly isLeaving: () => boolean
  /** Whether what was called is another waypoint's by now: its next requests are to come by that one. */
  readonly hasMoved: (call: Call) => boolean
  /** Told of each request that is over. */
  readonly onRequest: (call: Call, record: RequestRecord) => void
  /** Why a request that was let through would not be any more; the head is valid during the call. */
  readonly again: (call: Call, head: RequestHead) => PolicyRefusal | undefined
}

export class HttpCall implements ServedCall, ServeContext {
  listed: Listed | undefined
  readonly #call: Call
  readonly #parts: HttpParts
  readonly #served: ServedConnection
  /** The request for a WebSocket that is under way: what it becomes outlives the verdict on it. */
  #webSocket: RequestHead | undefined

  /** Lets the call enter; it leaves by itself. `start` lets the client's bytes in. */
  constructor(call: Call, parts: HttpParts, pipe: StartedPipe, start: () => void) {
    this.#call = call
    this.#parts = parts
    parts.calls.enter(this)
    this.#served = serveHttp(pipe, this, () => parts.http2(call.source))
    start()
  }

  get source(): RequestSource {
    return this.#call.source
  }

  get deadlines(): DeadlineWheel {
    return this.#parts.deadlines
  }

  route(head: RequestMessage): RouteOutcome {
    // With the answer the client is told that this was the last one: no request of its own can meet the end.
    if (this.#parts.isLeaving() || this.#parts.hasMoved(this.#call)) this.#served.drain()
    const outcome = this.#parts.route(this.#call, head)
    if (head.isWebSocket && outcome.kind === 'forward') this.#webSocket = keptHead(head)
    return outcome
  }

  appProtocol(backend: Backend): AppProtocol {
    return this.#parts.appProtocol(backend)
  }

  connect(attempt: Attempt, waiter: ConnectionWaiter): CallOff {
    const { source, target } = this.#call
    const { backend, session } = attempt.forward
    const spoken = attempt.version === 'http2' ? 'h2' : 'http/1.1'
    const call = { backend, source, target, preferred: session?.endpoint, spoken } as const
    return this.#parts.connections.connect(call, attempt, waiter)
  }

  mirror(
    head: RequestMessage,
    outcome: ForwardOutcome,
    hasBody: boolean,
  ): RequestCopies | undefined {
    return this.#parts.mirrors.begin(this, head, outcome, hasBody)
  }

  record(finished: RequestRecord): void {
    this.#webSocket = undefined
    this.#parts.onRequest(this.#call, finished)
  }

  closed(): void {
    this.#parts.calls.leave(this)
  }

  describe(): OpenCall {
    return { call: this.#call, servedAs: 'requests', endpoint: undefined }
  }

  drain(): void {
    this.#served.drain()
  }

  review(): void {
    if (this.#parts.hasMoved(this.#call)) this.#served.drain()
    // Requests that run were judged when they came, and the next one is by the policies of then; a WebSocket has no next one.
    if (this.#webSocket === undefined) return
    const refusal = this.#parts.again(this.#call, this.#webSocket)
    if (refusal !== undefined) this.#served.cut('policyChanged', refusal.message)
  }

  cut(reason: EndReason): void {
    this.#served.cut(reason)
  }
}

/** A head that is still needed when its codec has gone on. */
function keptHead(head: RequestMessage): RequestHead {
  const { protocol, method, target, authority } = head
  return Object.assign(keptFields(head), { protocol, method, target, authority })
}
