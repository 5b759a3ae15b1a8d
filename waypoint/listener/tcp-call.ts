// SPDX-License-Identifier: Apache-2.0
// A call that is carried as it is: plain TCP, and TLS that is not the waypoint's to open.

import { Cut } from '../../mesh/async/cut.ts'
import type { Listed } from '../../mesh/async/roster.ts'
import { errorMessage } from '../../mesh/errors.ts'
import type { HboneFailure } from '../../mesh/hbone/types.ts'
import { type JoinedPipes, joinPipes } from '../../mesh/relay/join-pipes.ts'
import type { StartedPipe } from '../../mesh/relay/started-pipe.ts'
import type { Result } from '../../mesh/result.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import type { PolicyRefusal } from '../policy/policy-gate.ts'
import type { OpenedUpstream } from '../upstream/upstreams.ts'
import { type Call, type CallParts, NO_BYTES, type OpenCall, type ServedCall } from './call.ts'

export class TcpCall implements ServedCall {
  listed: Listed | undefined
  readonly #call: Call
  readonly #parts: CallParts
  readonly #cut = new Cut()
  readonly #downstream: StartedPipe
  readonly #spoken: 'bytes' | 'tls'
  #upstream: OpenedUpstream | undefined
  #joined: JoinedPipes | undefined
  #isOver = false
  /** Why a policy ends it, once one does. */
  #refusal: PolicyRefusal | undefined

  /** Lets the call enter; it leaves by itself. `spoken`: `tls` where it is known that the client speaks that itself. */
  constructor(
    call: Call,
    parts: CallParts,
    downstream: StartedPipe,
    spoken: 'bytes' | 'tls' = 'bytes',
  ) {
    this.#call = call
    this.#parts = parts
    this.#downstream = downstream
    this.#spoken = spoken
    parts.calls.enter(this)
  }

  /** Connects, if policies let it, and carries to the end. `start` lets the client's bytes in. */
  serve(start: () => void): void {
    if (this.#isRefused()) return
    this.#parts.upstreams
      .open({ ...this.#call, spoken: this.#spoken }, this.#cut)
      .then((opened) =>
        this.#carry(opened, () => {
          if (opened.ok) opened.value.pipe.start()
          start()
        }),
      )
      // Only a bug throws; the call must still end and be told of.
      .catch((thrown: unknown) => this.fail('internal', errorMessage(thrown)))
  }

  /** The same with what was connected for it. `start` lets bytes in where they do not come yet. */
  take(opened: OpenedUpstream, start: () => void): void {
    if (this.#isRefused()) return this.#drop(opened)
    this.#carry({ ok: true, value: opened }, start)
  }

  /** It is not to be carried. */
  fail(reason: EndReason, message?: string): void {
    if (this.#isOver) return
    this.#downstream.reset(reason)
    this.#over(reason, message)
  }

  describe(): OpenCall {
    const endpoint = this.#upstream?.endpoint.address
    return { call: this.#call, servedAs: 'bytes', endpoint }
  }

  drain(): void {
    // Nobody knows when a TCP connection is idle: it goes on until its ends, or the deadline, end it.
  }

  review(): void {
    if (this.#isOver || this.#refusal !== undefined) return
    this.#refusal = this.#parts.policies.again(this.#call)
    if (this.#refusal !== undefined) this.cut('policyChanged')
  }

  cut(reason: EndReason): void {
    this.#cut.abort(reason)
    if (this.#joined === undefined) this.fail(reason)
    else this.#joined.cut(reason)
  }

  #isRefused(): boolean {
    this.#refusal = this.#parts.policies.connection(this.#call)
    if (this.#refusal === undefined) return false
    this.fail(this.#refusal.reason)
    return true
  }

  #carry(opened: Result<OpenedUpstream, HboneFailure>, start: () => void): void {
    if (!opened.ok) return this.fail(opened.error.reason, opened.error.message)
    const upstream = opened.value
    this.#upstream = upstream
    if (this.#isOver) return this.#drop(upstream)
    this.#joined = joinPipes(this.#downstream, upstream.pipe, (end) => this.#over(end))
    start()
  }

  #drop({ pipe, attempt }: OpenedUpstream): void {
    pipe.reset('drained')
    attempt.end()
  }

  #over(end: EndReason, message?: string): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#upstream?.attempt.end()
    this.#parts.calls.leave(this)
    const upstream = this.#upstream
    this.#parts.onEnd(this.#call, {
      end,
      message: this.#refusal?.message ?? message,
      by: this.#refusal?.by,
      endpoint: upstream && { ...upstream.endpoint, identity: upstream.peerIdentity },
      ...(this.#joined?.counts() ?? NO_BYTES),
    })
  }
}
