// SPDX-License-Identifier: Apache-2.0
// A call of which nobody said what it speaks. The client's first bytes tell. Where the server is to speak first the client waits, and so
// there would be none: a client that is silent for a moment gets its connection to the endpoint, and whoever speaks first on it decides.
// A client that was only slow loses nothing by it: its request is routed as any other.

import { Cut } from '../../mesh/async/cut.ts'
import type { Listed } from '../../mesh/async/roster.ts'
import { errorMessage } from '../../mesh/errors.ts'
import type { HboneFailure } from '../../mesh/hbone/types.ts'
import type { PipeSink } from '../../mesh/http/pipe.ts'
import { DEAF, type StartedPipe } from '../../mesh/relay/started-pipe.ts'
import type { Result } from '../../mesh/result.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import type { OpenedUpstream } from '../upstream/upstreams.ts'
import { type Call, type CallParts, NO_BYTES, type OpenCall, type ServedCall } from './call.ts'
import { type DetectedProtocol, detectProtocol, LONGEST_FIRST_LINE } from './detect-protocol.ts'
import { HeldBytes } from './held-bytes.ts'

/** A client that speaks first does so at once; of a server that does, the greeting comes so much later. */
const SILENCE_MS = 50
/** Of a client that may call only by requests, and is silent: as long as it may be between two of them. */
const REQUEST_MS = 3_600_000
/** For a first line that is begun: what is in one packet comes at once, and by hand nobody types a request in less. */
const FIRST_LINE_MS = 5_000

/** Takes a call over once its protocol is known. `opened`: the connection that was made meanwhile, whose pipe runs already. */
export type OnDetected = (
  protocol: DetectedProtocol,
  held: HeldBytes,
  opened: OpenedUpstream | undefined,
) => void

export class UnknownCall implements ServedCall {
  listed: Listed | undefined
  readonly #call: Call
  readonly #parts: CallParts
  readonly #pipe: StartedPipe
  readonly #onDetected: OnDetected
  readonly #held: HeldBytes
  readonly #cut = new Cut()
  #timer: NodeJS.Timeout | undefined
  #opened: OpenedUpstream | undefined
  #isOpening = false
  /** As the client's first bytes say, which came while the connection was being made. */
  #isTcp = false
  #isLineBegun = false
  #isOver = false

  /**
   * Lets the call enter, and its client's bytes in. `isUnrouted`: there is one place where it can go as TCP, and a connection may be made
   * before its client has spoken; else a silent client is waited for.
   */
  constructor(
    call: Call,
    parts: CallParts,
    pipe: StartedPipe,
    isUnrouted: boolean,
    onDetected: OnDetected,
  ) {
    this.#call = call
    this.#parts = parts
    this.#pipe = pipe
    this.#onDetected = onDetected
    this.#held = new HeldBytes(pipe, LONGEST_FIRST_LINE)
    this.#held.onNews = () => this.#look(false)
    this.#timer = isUnrouted ? setTimeout(() => this.#onSilence(), SILENCE_MS) : undefined
    parts.calls.enter(this)
    pipe.start()
  }

  describe(): OpenCall {
    return { call: this.#call, servedAs: 'undecided', endpoint: undefined }
  }

  drain(): void {
    // It is decided within a moment, and what it is then is drained.
  }

  review(): void {
    // It is judged when it is decided what it is.
  }

  cut(reason: EndReason, message?: string): void {
    if (this.#isOver) return
    this.#pipe.reset(reason)
    this.#fail(reason, message)
  }

  #look(isLate: boolean): void {
    if (this.#isOver) return
    const { brokenBy, prefix, isPrefixComplete } = this.#held
    if (brokenBy !== undefined) return this.#fail(brokenBy)
    const protocol = detectProtocol(prefix, isPrefixComplete || isLate)
    // It goes by the connection that is being made for it, and no second one.
    if (protocol === 'tcp' && this.#isOpening) return this.#waitForOpened()
    if (protocol !== undefined) return this.#decide(protocol)
    if (this.#isLineBegun || prefix.length === 0) return
    this.#isLineBegun = true
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#look(true), FIRST_LINE_MS)
  }

  #waitForOpened(): void {
    clearTimeout(this.#timer)
    this.#isTcp = true
  }

  #onSilence(): void {
    // It may be a client that has no request yet; a server that speaks first is not for it.
    if (!this.#parts.policies.admitsConnection(this.#call)) {
      this.#timer = setTimeout(() => this.cut('policyDenied'), REQUEST_MS)
      return
    }
    this.#isOpening = true
    this.#parts.upstreams
      .open({ ...this.#call, spoken: 'bytes' }, this.#cut)
      .then((opened) => this.#onOpened(opened))
      // Only a bug throws; the call must still end and be told of.
      .catch((thrown: unknown) => this.cut('internal', errorMessage(thrown)))
  }

  #onOpened(opened: Result<OpenedUpstream, HboneFailure>): void {
    this.#isOpening = false
    if (!opened.ok) return this.cut(opened.error.reason, opened.error.message)
    this.#opened = opened.value
    if (this.#isOver) return this.#dropOpened()
    const { pipe } = opened.value
    if (this.#isTcp) this.#decide('tcp')
    else pipe.sink = this.#firstOfServer(pipe)
    pipe.start()
  }

  /** A server that speaks, ends or breaks before its client said anything speaks no HTTP. */
  #firstOfServer(pipe: StartedPipe): PipeSink {
    const pass = (tell: (sink: PipeSink) => void): void => {
      this.#decide('tcp')
      if (pipe.sink !== watcher) tell(pipe.sink)
    }
    const watcher: PipeSink = {
      receive: (chunk, from, to) => pass((sink) => sink.receive(chunk, from, to)),
      ended: () => pass((sink) => sink.ended()),
      broken: (reason) => pass((sink) => sink.broken(reason)),
      drained: () => undefined,
    }
    return watcher
  }

  #decide(protocol: DetectedProtocol): void {
    this.#stopLooking()
    const opened = protocol === 'tcp' ? this.#opened : undefined
    // What was begun for silence is no use to a request, which goes where its route says.
    if (opened === undefined) this.#dropOpened()
    this.#onDetected(protocol, this.#held, opened)
    // After its successor has entered: whoever waits for the calls to end must not miss it.
    this.#parts.calls.leave(this)
  }

  #fail(end: EndReason, message?: string): void {
    this.#stopLooking()
    this.#parts.calls.leave(this)
    this.#dropOpened()
    const told = { end, message, by: undefined, endpoint: undefined, ...NO_BYTES }
    this.#parts.onEnd(this.#call, told)
  }

  #stopLooking(): void {
    this.#isOver = true
    clearTimeout(this.#timer)
    this.#held.onNews = () => undefined
  }

  #dropOpened(): void {
    if (this.#isOpening) this.#cut.abort('drained')
    const opened = this.#opened
    if (opened === undefined) return
    this.#opened = undefined
    opened.pipe.sink = DEAF
    opened.pipe.reset('drained')
    opened.attempt.end()
  }
}
