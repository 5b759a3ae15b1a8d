// SPDX-License-Identifier: Apache-2.0
// Copies of requests that go to another backend as well, and whose answers nobody sees (Gateway API: RequestMirror). A copy never makes
// its request wait or fail: what it cannot take at once is kept within a bound, and beyond it the copy is dropped and counted.

import { isIP } from 'node:net'
import { PerSource, type SourceLimits } from '../../mesh/async/per-source.ts'
import type { Fields, RequestMessage } from '../../mesh/http/message.ts'
import { Deadline } from './deadline-wheel.ts'
import { Exchange, type ExchangeClient } from './exchange.ts'
import type {
  Backend,
  CallOff,
  ConnectionWaiter,
  ForwardOutcome,
  RequestCopies,
  RequestRecord,
  ServeContext,
} from './types.ts'

/** What became of a copy. */
export interface MirrorEnd {
  /** `dropped`: it was begun, or not even that, and was too slow or one too many. */
  readonly result: 'answered' | 'failed' | 'dropped'
  readonly flag: RequestRecord['flag']
}

/** What of a copy's body waits for its backend; an answer that takes this long is not waited for. */
const MOST_UNSENT_BYTES = 64 * 1024
const ANSWER_MS = 30_000
/** Copies under way, of one client and of all: with what waits of their bodies at most 32 MiB. */
const LIMITS: SourceLimits = { perSource: 128, total: 512 }
const NOBODY = ''
/** As Envoy marks the host of a copy, so that an app can tell. */
const SHADOW = '-shadow'

/** The copies of all requests that are under way. */
export class Mirrors {
  readonly #underWay = new PerSource(LIMITS)
  readonly #onEnd: (end: MirrorEnd) => void

  constructor(onEnd: (end: MirrorEnd) => void) {
    this.#onEnd = onEnd
  }

  /** Copies under way. */
  get size(): number {
    return this.#underWay.total
  }

  /** Begins the copies of a request; undefined when there is room for none. The head is valid during the call. */
  begin(
    context: MirrorContext,
    head: RequestMessage,
    outcome: ForwardOutcome,
    hasBody: boolean,
  ): RequestCopies | undefined {
    const source = context.source.address?.address ?? NOBODY
    const begun: Mirror[] = []
    for (const backend of outcome.mirrors) {
      if (!this.#underWay.enter(source)) {
        this.#onEnd({ result: 'dropped', flag: '-' })
        continue
      }
      const mirror = new Mirror(context, copyOf(outcome, backend, head.authority), (end) => {
        this.#underWay.leave(source)
        this.#onEnd(end)
      })
      begun.push(mirror)
      mirror.begin(head, hasBody)
    }
    return begun.length === 0 ? undefined : new Copies(begun)
  }
}

/** What a copy needs of the call that its request came by. */
export type MirrorContext = Pick<ServeContext, 'source' | 'deadlines' | 'connect' | 'appProtocol'>

class Copies implements RequestCopies {
  readonly #mirrors: readonly Mirror[]

  constructor(mirrors: readonly Mirror[]) {
    this.#mirrors = mirrors
  }

  data(bytes: Buffer, from: number, to: number): void {
    for (const mirror of this.#mirrors) mirror.data(bytes, from, to)
  }

  requestEnd(trailers: Fields | undefined): void {
    for (const mirror of this.#mirrors) mirror.requestEnd(trailers)
  }

  originalEnded(): void {
    for (const mirror of this.#mirrors) mirror.originalEnded()
  }
}

/** One copy: an exchange of its own whose client is nobody. */
class Mirror implements ExchangeClient, ServeContext {
  readonly #context: MirrorContext
  readonly #outcome: ForwardOutcome
  readonly #onEnd: (end: MirrorEnd) => void
  readonly #exchange: Exchange
  #unsent = 0
  #isComplete = false
  #isDropped = false
  readonly #deadline = new Deadline(() => this.#drop())

  constructor(context: MirrorContext, outcome: ForwardOutcome, onEnd: (end: MirrorEnd) => void) {
    this.#context = context
    this.#outcome = outcome
    this.#onEnd = onEnd
    this.#exchange = new Exchange(this, this)
  }

  begin(head: RequestMessage, hasBody: boolean): void {
    this.#exchange.begin(head, hasBody)
    if (!hasBody) this.#completed()
  }

  data(bytes: Buffer, from: number, to: number): void {
    if (!this.#exchange.isRunning) return
    this.#unsent += to - from
    if (this.#unsent > MOST_UNSENT_BYTES) return this.#drop()
    this.#exchange.data(bytes, from, to)
  }

  requestEnd(trailers: Fields | undefined): void {
    if (!this.#exchange.isRunning) return
    this.#exchange.requestEnd(trailers)
    this.#completed()
  }

  /** A copy that is whole by now is answered in its own time; one that is not will never be whole. */
  originalEnded(): void {
    if (!this.#isComplete) this.#drop()
  }

  get source(): ServeContext['source'] {
    return this.#context.source
  }

  get deadlines(): ServeContext['deadlines'] {
    return this.#context.deadlines
  }

  route(): ForwardOutcome {
    return this.#outcome
  }

  appProtocol(backend: Backend): ReturnType<ServeContext['appProtocol']> {
    return this.#context.appProtocol(backend)
  }

  connect(attempt: Parameters<ServeContext['connect']>[0], waiter: ConnectionWaiter): CallOff {
    return this.#context.connect(attempt, waiter)
  }

  mirror(): undefined {
    return undefined
  }

  record({ flag }: RequestRecord): void {
    this.deadlines.clear(this.#deadline)
    const result = this.#isDropped ? 'dropped' : flag === '-' ? 'answered' : 'failed'
    this.#onEnd({ result, flag: this.#isDropped ? '-' : flag })
  }

  closed(): void {
    // There is no connection of its own.
  }

  credit(bytes: number): void {
    this.#unsent -= bytes
  }

  answerData(): boolean {
    return true
  }

  interim(): void {
    // Nobody waits for it.
  }

  answer(): void {
    // Nobody waits for it.
  }

  switched(): void {
    this.#drop()
  }

  answerEnd(): void {
    // Nobody waits for it.
  }

  answerHere(): void {
    // Nobody waits for it.
  }

  cut(): void {
    // Nobody waits for it.
  }

  #completed(): void {
    this.#isComplete = true
    // Of a copy that is answered, or failed, already it would never be taken back.
    if (this.#exchange.isRunning) this.deadlines.set(this.#deadline, ANSWER_MS)
  }

  #drop(): void {
    if (!this.#exchange.isRunning) return
    this.#isDropped = true
    this.#exchange.abandon('drained', '-')
  }
}

/** How a copy goes on: as its request, elsewhere, and once. */
function copyOf(outcome: ForwardOutcome, backend: Backend, asked: string): ForwardOutcome {
  return {
    ...outcome,
    backend,
    authority: shadowOf(outcome.authority ?? asked),
    responseEdits: undefined,
    retry: undefined,
    mirrors: [],
    session: undefined,
  }
}

/** The host with its mark; an address is left as it is, and where there is none there is nothing to mark. */
function shadowOf(authority: string): string | undefined {
  const port = /:\d+$/.exec(authority)?.[0] ?? ''
  const host = authority.slice(0, authority.length - port.length)
  const isAddress = host.startsWith('[') || isIP(host) !== 0
  if (host === '') return undefined
  return isAddress ? authority : `${host}${SHADOW}${port}`
}
