// SPDX-License-Identifier: Apache-2.0
// Certificates for keys that are made here, signed by an authority that is asked for each: renewed at half-life and when the roots change,
// asked for again, later and later, while the authority is away or refuses.

import { errorMessage } from '../errors.ts'
import type { SpiffeId } from '../model/types.ts'
import { err, type Result } from '../result.ts'
import type { Logger } from '../telemetry/log.ts'
import { assembleCertificate } from './assemble.ts'
import { type Clock, systemClock } from './clock.ts'
import { createKeyAndCsr } from './csr.ts'
import { type FetchPriority, FetchQueue } from './fetch-queue.ts'
import { refreshDelayMs, retryDelayMs } from './schedule.ts'
import type {
  CaFailure,
  CertificateAuthority,
  CertificateOrder,
  CertificateSupply,
  WorkloadCertificate,
} from './types.ts'

export interface SignedCertificatesOptions {
  readonly authority: CertificateAuthority
  readonly log: Logger
  readonly ttlSeconds?: number
  readonly clock?: Clock
  /** Uniform in [0, 1). */
  readonly random?: () => number
}

/** A day, Istio's default. */
const DEFAULT_TTL_SECONDS = 86_400
/** Enough to hide the CA's latency at node start, too few to hurt a CA that serves a thousand nodes. */
const MAX_CONCURRENT_FETCHES = 8
/** One attempt, connection set-up included; retried after. */
const FETCH_TIMEOUT_MS = 10_000
/**
 * Renewing all begins within this time, at random: when the roots of a mesh change, all of its agents hear of it at once. Also
 * the longest time between two, should two replicas of the CA answer with different roots for a while.
 */
const RENEW_ALL_WITHIN_MS = 4_000
/** By so much a certificate may last longer than was asked for and nobody need be told: clocks differ. */
const LONGER_MS = 600_000
/** A watch of the controller that is later than this is broken, and its retries are not for us to wait for. */
const RENEW_AGAIN_AFTER_MS = 60_000
const RENEW_AGAIN_TIMES = 3

interface Fetching {
  readonly order: CertificateOrder
  /** Since a certificate was given, or the authority was known to be there. */
  failures: number
  /** Of the certificate in hand. */
  notAfterMs: number
  isUnderWay: boolean
  /** What is being fetched may be of yesterday: once more after it. */
  isStale: boolean
  cancelTimer: (() => void) | undefined
  /** When the timer fires. */
  nextAttemptAtMs: number
}

/** The supply of a mesh whose authority signs: the controller's, or Istio's. */
export class SignedCertificates implements CertificateSupply {
  readonly #authority: CertificateAuthority
  readonly #log: Logger
  readonly #ttlSeconds: number
  readonly #clock: Clock
  readonly #random: () => number
  readonly #queue = new FetchQueue(MAX_CONCURRENT_FETCHES)
  readonly #fetching = new Map<SpiffeId, Fetching>()
  /** The roots of the newest answer. */
  #rootsPem: string | undefined
  #cancelRenewAll: (() => void) | undefined
  #cancelRenewAgain: (() => void) | undefined
  #isClosed = false

  constructor(options: SignedCertificatesOptions) {
    this.#authority = options.authority
    this.#log = options.log
    this.#ttlSeconds = options.ttlSeconds ?? DEFAULT_TTL_SECONDS
    this.#clock = options.clock ?? systemClock
    this.#random = options.random ?? Math.random
  }

  begin(order: CertificateOrder): void {
    const { identity } = order
    const fetching: Fetching = {
      order,
      failures: 0,
      notAfterMs: 0,
      isUnderWay: false,
      isStale: false,
      cancelTimer: undefined,
      nextAttemptAtMs: 0,
    }
    this.#fetching.set(identity, fetching)
    order.signal.addEventListener('abort', () => {
      this.#fetching.delete(identity)
      this.#queue.remove(identity)
      fetching.cancelTimer?.()
    })
    this.#enqueue(fetching, 'warmup')
  }

  /** Brings the next attempt nearer, never puts it off. */
  hasten({ identity }: CertificateOrder): void {
    const fetching = this.#fetching.get(identity)
    if (fetching === undefined || fetching.isUnderWay) return
    if (fetching.cancelTimer === undefined) this.#enqueue(fetching, 'realtime')
    else this.#bringNearer(fetching)
  }

  /** As after a first failure, also what is under way should it fail: how often it did before says nothing any more. */
  retryFailed(): void {
    for (const fetching of this.#fetching.values()) {
      if (fetching.failures === 0) continue
      fetching.failures = 0
      if (fetching.cancelTimer !== undefined) this.#bringNearer(fetching)
    }
  }

  /**
   * Fetches all certificates anew, soon: the roots of the mesh, or who signs for it, have changed. A CA that goes on answering
   * with the roots of before is asked a few times more: of several replicas, one may hear of the change later than we.
   */
  renewAll(reason: string): void {
    this.#renewAll(reason, RENEW_AGAIN_TIMES)
  }

  close(): void {
    this.#isClosed = true
    this.#cancelRenewAll?.()
    this.#cancelRenewAgain?.()
  }

  #renewAll(reason: string, timesMore: number): void {
    if (this.#isClosed || this.#cancelRenewAll !== undefined) return
    const delayMs = Math.round(RENEW_ALL_WITHIN_MS * (0.5 + 0.5 * this.#random()))
    const certificates = this.#fetching.size
    // Where there is none it goes on all the same: one that is ordered meanwhile may be of before.
    if (certificates > 0)
      this.#log.info({ reason, delayMs, certificates }, 'renewing all certificates')
    const before = this.#rootsPem
    this.#cancelRenewAll = this.#clock.after(delayMs, () => {
      this.#cancelRenewAll = undefined
      for (const fetching of this.#fetching.values())
        if (fetching.isUnderWay) fetching.isStale = true
        else this.#enqueue(fetching, 'warmup')
      this.#cancelRenewAgain?.()
      if (timesMore === 0) return
      this.#cancelRenewAgain = this.#clock.after(RENEW_AGAIN_AFTER_MS, () => {
        if (this.#rootsPem === before) this.#renewAll(reason, timesMore - 1)
      })
    })
  }

  #bringNearer(fetching: Fetching): void {
    const delayMs = retryDelayMs(Math.max(1, fetching.failures), this.#random(), true)
    const now = this.#clock.now()
    const { nextAttemptAtMs } = fetching
    // One that is overdue waits by a clock that has not been set.
    if (now + delayMs < nextAttemptAtMs || nextAttemptAtMs < now)
      this.#attemptAfter(fetching, delayMs)
  }

  #enqueue(fetching: Fetching, priority: FetchPriority): void {
    fetching.cancelTimer?.()
    fetching.cancelTimer = undefined
    this.#queue.add(fetching.order.identity, priority, () => this.#fetch(fetching))
  }

  async #fetch(fetching: Fetching): Promise<void> {
    const { order } = fetching
    fetching.isUnderWay = true
    const outcome = await this.#request(order)
    fetching.isUnderWay = false
    if (order.signal.aborted) return
    if (outcome.ok) this.#give(fetching, outcome.value)
    else this.#fail(fetching, outcome.error)
    if (!fetching.isStale || order.signal.aborted) return
    fetching.isStale = false
    this.#enqueue(fetching, 'warmup')
  }

  async #request(order: CertificateOrder): Promise<Result<WorkloadCertificate, CaFailure>> {
    const { identity } = order
    const timeout = new AbortController()
    const cancelTimeout = this.#clock.after(FETCH_TIMEOUT_MS, () =>
      timeout.abort(new Error(`no answer within ${FETCH_TIMEOUT_MS / 1000} s`)),
    )
    try {
      const key = await createKeyAndCsr(identity)
      const signed = await this.#authority.sign(
        { identity, csrPem: key.csrPem, ttlSeconds: this.#ttlSeconds },
        AbortSignal.any([order.signal, timeout.signal]),
      )
      return signed.ok
        ? assembleCertificate(identity, key, signed.value, new Date(this.#clock.now()))
        : signed
    } catch (thrown) {
      const message = `the CA could not be asked: ${errorMessage(thrown)}`
      return err({ kind: 'unavailable', message })
    } finally {
      cancelTimeout()
    }
  }

  #give(fetching: Fetching, certificate: WorkloadCertificate): void {
    const { identity, notAfter, notBefore, rootsPem } = certificate
    const wasAway = fetching.failures > 0
    const now = this.#clock.now()
    const askedForMs = now + this.#ttlSeconds * 1000
    fetching.failures = 0
    fetching.notAfterMs = notAfter.getTime()
    // How long a stolen key is worth something is for whoever signs to say, and for the operator to know.
    if (fetching.notAfterMs > askedForMs + LONGER_MS)
      this.#log.warn(
        { identity, notAfter },
        'the CA gives certificates that last longer than was asked for',
      )
    // Peers whose clocks are right accept it.
    if (notBefore.getTime() > now)
      this.#log.warn(
        { identity, notBefore },
        'a new certificate is not valid yet by the clock of this machine, which is behind',
      )
    const refreshFor = Math.min(fetching.notAfterMs, askedForMs)
    this.#attemptAfter(fetching, refreshDelayMs(refreshFor, now, this.#random()))
    fetching.order.give(certificate)
    this.#noteRoots(rootsPem)
    if (wasAway) this.retryFailed()
  }

  /** The CA is the first to know: what it answers to one is true for all. */
  #noteRoots(rootsPem: string): void {
    const isNews = this.#rootsPem !== undefined && this.#rootsPem !== rootsPem
    this.#rootsPem = rootsPem
    if (isNews && this.#fetching.size > 1) this.#renewAll('the CA answers with other roots', 0)
  }

  #fail(fetching: Fetching, failure: CaFailure): void {
    const { order, notAfterMs } = fetching
    fetching.failures += 1
    order.fail(failure)
    if (order.signal.aborted) return
    const leftMs = notAfterMs - this.#clock.now()
    this.#attemptAfter(
      fetching,
      retryDelayMs(fetching.failures, this.#random(), order.isWaitedFor, leftMs),
    )
  }

  #attemptAfter(fetching: Fetching, delayMs: number): void {
    fetching.cancelTimer?.()
    fetching.nextAttemptAtMs = this.#clock.now() + delayMs
    fetching.cancelTimer = this.#clock.after(delayMs, () =>
      this.#enqueue(fetching, fetching.order.isWaitedFor ? 'realtime' : 'background'),
    )
  }
}
