// SPDX-License-Identifier: Apache-2.0
// The X.509-SVIDs of one identity, as a stream of SPIRE's tells of them: each new one is given at once, and when the roots change the same one
// with the new roots. What cannot be used is a failure, and asked for again.

import type { MethodDefinition } from '@grpc/grpc-js'
import type { SpiffeId } from '../../model/types.ts'
import type { Result } from '../../result.ts'
import type { Clock } from '../clock.ts'
import { retryDelayMs } from '../schedule.ts'
import type { TrustDomains } from '../trust-policy.ts'
import type { CaFailure, CertificateOrder, WorkloadCertificate } from '../types.ts'
import { KeptStream } from './kept-stream.ts'
import type { SocketClient } from './socket.ts'
import { type Bundles, certificateOf, type SvidAnswer } from './svid.ts'

export interface SvidSubscriptionOptions<Request, Response> {
  readonly order: CertificateOrder
  readonly trust: TrustDomains
  readonly socket: SocketClient
  readonly method: MethodDefinition<Request, Response>
  /** Made anew for each opening of the stream. */
  readonly request: () => Request
  readonly headers?: Readonly<Record<string, string>>
  readonly read: (response: Response) => SvidAnswer
  /** The roots as of now, or why there are none; undefined while they are on their way. */
  readonly bundles: (response: Response) => Result<Bundles, CaFailure> | undefined
  /** That SPIRE has no entry, in words that name the workload. */
  readonly noEntry: () => string
  /** What it means that SPIRE refuses the call. */
  readonly refused: string
  readonly clock: Clock
  readonly random: () => number
}

/**
 * SPIRE makes a new SVID at half of the life of the one before. Who has not heard of one after this share of what was left asks anew: the
 * stream may stand, and nobody be at its other end.
 */
const ASK_ANEW_AT = 2 / 3
/** Never more often than this, whatever is left. */
const ASK_ANEW_AFTER_MS = 1_000
/** SPIRE's agents hear of new entries once in so long; a stream that stands tells at once, and asking sooner is of no use. */
const STANDING_RETRY_MS = 5_000

/** Those of a supply, by their identities. */
export class SvidSubscriptions<Request, Response> {
  readonly #byIdentity = new Map<SpiffeId, SvidSubscription<Request, Response>>()

  begin(options: SvidSubscriptionOptions<Request, Response>): void {
    const { identity, signal } = options.order
    this.#byIdentity.set(identity, new SvidSubscription(options))
    signal.addEventListener('abort', () => this.#byIdentity.delete(identity))
  }

  hasten({ identity }: CertificateOrder): void {
    this.#byIdentity.get(identity)?.hasten()
  }

  /** Looks again at what SPIRE answered last: other roots may be known by now. */
  look(): void {
    for (const subscription of this.#byIdentity.values()) subscription.look()
  }
}

/** Lives until its order's signal aborts. */
class SvidSubscription<Request, Response> {
  readonly #options: SvidSubscriptionOptions<Request, Response>
  readonly #stream: KeptStream<Request, Response>
  #newest: Response | undefined
  #given: WorkloadCertificate | undefined

  constructor(options: SvidSubscriptionOptions<Request, Response>) {
    this.#options = options
    this.#stream = new KeptStream({
      ...options,
      onMessage: (response) => {
        this.#newest = response
        this.look()
      },
      onEnd: (failure) => this.#fail(failure, 0),
    })
    options.order.signal.addEventListener('abort', () => {
      this.#stream.close()
      this.#newest = undefined
      this.#given = undefined
    })
    this.#stream.open()
  }

  /** Looks again at what SPIRE answered last: other roots may be known by now. */
  look(): void {
    if (this.#newest === undefined) return
    const { read, bundles, order, trust, noEntry, clock } = this.#options
    const roots = bundles(this.#newest)
    if (roots === undefined) return
    const now = new Date(clock.now())
    const made = roots.ok
      ? certificateOf(order.identity, read(this.#newest), roots.value, trust, noEntry(), now)
      : roots
    if (made.ok) this.#give(made.value)
    else this.#fail(made.error)
  }

  hasten(): void {
    const { order, random } = this.#options
    this.#stream.hasten(retryDelayMs(Math.max(1, order.failures), random(), true))
  }

  #give(certificate: WorkloadCertificate): void {
    const { order, clock } = this.#options
    const left = certificate.notAfter.getTime() - clock.now()
    this.#stream.openAfter(Math.max(ASK_ANEW_AFTER_MS, left * ASK_ANEW_AT))
    const before = this.#given
    this.#given = certificate
    // SPIRE tells of any change of anybody's. The same again is only to be told after a failure, which it ends.
    const isNews =
      before?.chainPem !== certificate.chainPem || before.rootsPem !== certificate.rootsPem
    if (isNews || order.failures > 0) order.give(certificate)
  }

  #fail(failure: CaFailure, leastDelayMs = STANDING_RETRY_MS): void {
    const { order, random, clock } = this.#options
    order.fail(failure)
    if (order.signal.aborted) return
    // What is held must not end while SPIRE is back and nobody asks.
    const leftMs = (this.#given?.notAfter.getTime() ?? 0) - clock.now()
    const delayMs = retryDelayMs(order.failures, random(), order.isWaitedFor, leftMs)
    this.#stream.openAfter(Math.max(leastDelayMs, delayMs))
  }
}
