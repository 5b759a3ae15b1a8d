// SPDX-License-Identifier: Apache-2.0
// What the exchange of a request and its answer needs of the rest of the waypoint: who called, where a request goes, a connection to
// go there, and somebody to tell how it went. Listener, router and upstream meet here and do not know one another.

import type { HeaderEdits } from '../../mesh/http/header-edits.ts'
import type { Fields, RequestHead, RequestMessage } from '../../mesh/http/message.ts'
import type { AppProtocol } from '../../mesh/model/gateway.ts'
import type { SocketAddress, SpiffeId, Workload } from '../../mesh/model/types.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import type { HttpVersion } from './app-protocol.ts'
import type { DeadlineWheel } from './deadline-wheel.ts'
import type { Upstream } from './upstream.ts'
import type { UpstreamConnection } from './upstream-connection.ts'

/** Who called: what the tunnel proved, and what discovery says of it. */
export interface RequestSource {
  readonly address: SocketAddress | undefined
  readonly identity: SpiffeId | undefined
  readonly workload: Workload | undefined
}

/** Where the call goes: a service by its key `namespace/hostname`, or the one workload that was asked for. */
export type Backend =
  | { readonly kind: 'service'; readonly service: string; readonly port: number }
  | { readonly kind: 'workload'; readonly target: SocketAddress }

/** Answered here: refused, redirected, or there is no route. */
export interface AnswerOutcome {
  readonly kind: 'answer'
  readonly status: number
  /** Without those of the framing, which the codec adds. */
  readonly headers: readonly (readonly [name: string, value: string])[]
  readonly body: string
  /** Why, for the access line. */
  readonly flag: ResponseFlag
}

export interface RetryPolicy {
  /** Tries beyond the first. */
  readonly attempts: number
  /** Answers of such a status are not passed on while a try is left. */
  readonly codes: readonly number[]
  readonly backoffMs: number
}

export interface ForwardOutcome {
  readonly kind: 'forward'
  readonly backend: Backend
  /** Path and query that go on; undefined: as they came. */
  readonly target: string | undefined
  /** Host that goes on; undefined: as it came. */
  readonly authority: string | undefined
  readonly requestEdits: HeaderEdits | undefined
  readonly responseEdits: HeaderEdits | undefined
  /** Of the whole; 0: none. */
  readonly requestMs: number
  /** Of one try; 0: none. */
  readonly backendRequestMs: number
  readonly retry: RetryPolicy | undefined
  /** Who gets a copy as well, whose answers nobody sees. */
  readonly mirrors: readonly Backend[]
  /** Undefined: the rule has no sessions. */
  readonly session: ForwardSession | undefined
}

/** By which a client comes back to the endpoint that it had. */
export interface ForwardSession {
  /** The endpoint that the client had; undefined: none that counts. */
  readonly endpoint: SocketAddress | undefined
  /** What the answer of an endpoint is changed in: as its route says, and with what tells the client to come back. */
  editsFor(endpoint: SocketAddress): HeaderEdits | undefined
}

/** The router may return more than that: the record hands the very object back. */
export type RouteOutcome = AnswerOutcome | ForwardOutcome

/** One try to send a request. */
export interface Attempt {
  readonly forward: ForwardOutcome
  /** Which version of HTTP the app is to be spoken to in. */
  readonly version: HttpVersion
  /** From 0. */
  readonly number: number
  /** Of an attempt before, which failed: better another one. */
  readonly avoid: UpstreamConnection['endpoint'] | undefined
  /** A connection that no request used before: the idle one taken last time was dead. */
  readonly mustBeFresh: boolean
  /** It may be sent again, should its connection have been closing: RFC 9110 9.2.2. */
  readonly isIdempotent: boolean
}

/** There is no connection: nothing of the request was sent. */
export interface ConnectFailure {
  readonly flag: ResponseFlag
  readonly reason: EndReason
  readonly message: string | undefined
}

/** Who waits for a connection. Exactly one of the calls comes, at once or later, unless it was called off. */
export interface ConnectionWaiter {
  connected(upstream: Upstream): void
  failed(failure: ConnectFailure): void
}

/** Says that the connection is not wanted any more, and why: `connectTimeout` where its time has passed. */
export type CallOff = (reason: EndReason) => void

/** Where the copies of a request hear of its body. They take what they can at once, and never make it wait. */
export interface RequestCopies {
  /** The bytes are valid during the call. */
  data(bytes: Buffer, from: number, to: number): void
  requestEnd(trailers: Fields | undefined): void
  /** The request is over: what of it has not been told by now will not come. */
  originalEnded(): void
}

/** What served connections have from their listener; one object for each connection. */
export interface ServeContext {
  readonly source: RequestSource
  /** One for each thread. */
  readonly deadlines: DeadlineWheel
  /** Routes and authorises. The head is valid during the call only. */
  route(head: RequestMessage): RouteOutcome
  /** What is declared of the port of a backend. */
  appProtocol(backend: Backend): AppProtocol
  /** A connection to an endpoint of the attempt's backend: an idle one (at once), or a new one. */
  connect(attempt: Attempt, waiter: ConnectionWaiter): CallOff
  /** Begins the copies that the outcome asks for; undefined: there are none. The head is valid during the call only. */
  mirror(head: RequestMessage, outcome: ForwardOutcome, hasBody: boolean): RequestCopies | undefined
  /** An exchange is over. */
  record(finished: RequestRecord): void
  /** The connection is over. */
  closed(): void
}

/** Of a try: connection failure before anything was sent, connection ended before the answer did, request reset by the app, timeout, bad answer. */
type TryFlag = 'UF' | 'UC' | 'UR' | 'UT' | 'UPE'

/**
 * Envoy's response flags, as Istio's metrics and access lines have them: no healthy upstream, how a try failed, the tries of the route are
 * used up (and how the last one failed, unless that was an answer); no route, denied by policy (or cut when one changed), client gone, bad
 * request.
 */
export type ResponseFlag =
  | '-'
  | 'UH'
  | TryFlag
  | 'URX'
  | `URX,${TryFlag}`
  | 'NR'
  | 'RBAC'
  | 'DC'
  | 'DPE'

/** A request that is over: plain data, from which access line, metrics and traces are made. */
export interface RequestRecord {
  /** Milliseconds since the epoch. */
  readonly startedAt: number
  readonly durationMs: number
  readonly protocol: RequestHead['protocol']
  readonly method: string
  /** As it came. */
  readonly target: string
  readonly authority: string
  /** What the client was told; 0: nothing. */
  readonly status: number
  readonly isGrpc: boolean
  /** Of a call of gRPC; undefined: none was said. */
  readonly grpcStatus: number | undefined
  readonly flag: ResponseFlag
  /** Why it ended otherwise than well, in words. */
  readonly message: string | undefined
  /** Of the bodies. */
  readonly requestBytes: number
  readonly responseBytes: number
  readonly attempts: number
  /** Of the last try; undefined: there was no connection. */
  readonly endpoint: UpstreamConnection['endpoint'] | undefined
  /** What the router said; undefined: the request was too bad to be asked about. */
  readonly outcome: RouteOutcome | undefined
}

/** A connection that is being served. */
export interface ServedConnection {
  /** No new request; what runs is finished, and then it closes. */
  drain(): void
  /** `message`: why, for the access line. */
  cut(reason: EndReason, message?: string): void
}
