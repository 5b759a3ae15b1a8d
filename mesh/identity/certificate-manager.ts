// SPDX-License-Identifier: Apache-2.0
// Keeps a valid certificate for every identity in use: fetched ahead of need, renewed at half-life and when the roots change,
// kept while valid when the CA is away, forgotten with its key when the last user lets go.

import { errorMessage } from '../errors.ts'
import type { SpiffeId } from '../model/types.ts'
import { type Result, err, ok } from '../result.ts'
import type { Logger } from '../telemetry/log.ts'
import { assembleCertificate } from './assemble.ts'
import { type Clock, systemClock } from './clock.ts'
import { createKeyAndCsr } from './csr.ts'
import { type FetchPriority, FetchQueue } from './fetch-queue.ts'
import { refreshDelayMs, retryDelayMs } from './schedule.ts'
import type {
  CaFailure,
  CertificateAuthority,
  CertificateSource,
  WorkloadCertificate,
} from './types.ts'

export interface CertificateManagerOptions {
  readonly authority: CertificateAuthority
  readonly log: Logger
  readonly ttlSeconds?: number
  readonly clock?: Clock
  /** Uniform in [0, 1). */
  readonly random?: () => number
}

/** What an operator may know of one identity's certificate; holds no key. */
export interface CertificateStatus {
  readonly identity: SpiffeId
  readonly state: 'initializing' | 'available' | 'unavailable'
  readonly chainPem?: string
  readonly rootsPem?: string
  readonly serialNumber?: string
  readonly notBefore?: Date
  readonly notAfter?: Date
  readonly lastFailure?: CaFailure
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
/** A watch of the controller that is later than this is broken, and its retries are not for us to wait for. */
const RENEW_AGAIN_AFTER_MS = 60_000
const RENEW_AGAIN_TIMES = 3
/** A refusal in the first seconds of a pod may be the CA not knowing the pod yet; after that it is the answer. */
const REFUSALS_BEFORE_FAILING_FAST = 3

/** Hears of an identity that the CA will not give: what is refused at first may be haste. */
export type RefusalListener = (identity: SpiffeId, failure: CaFailure) => void

type Waiter = (outcome: Result<WorkloadCertificate, CaFailure>) => void

interface Entry {
  users: number
  certificate: WorkloadCertificate | undefined
  lastFailure: CaFailure | undefined
  failures: number
  fetching: boolean
  /** What is being fetched may be of yesterday: once more after it. */
  isStale: boolean
  readonly waiters: Set<Waiter>
  readonly abort: AbortController
  cancelTimer: (() => void) | undefined
  /** When the timer fires. */
  nextAttemptAtMs: number
}

/** The CertificateSource of a node: one for all of its identities. */
export class CertificateManager implements CertificateSource {
  readonly #authority: CertificateAuthority
  readonly #log: Logger
  readonly #ttlSeconds: number
  readonly #clock: Clock
  readonly #random: () => number
  readonly #queue = new FetchQueue(MAX_CONCURRENT_FETCHES)
  readonly #entries = new Map<SpiffeId, Entry>()
  readonly #listeners = new Set<(certificate: WorkloadCertificate) => void>()
  readonly #refusalListeners = new Set<RefusalListener>()
  /** The roots of the newest answer. */
  #rootsPem: string | undefined
  #cancelRenewAll: (() => void) | undefined
  #cancelRenewAgain: (() => void) | undefined
  #isClosed = false

  constructor(options: CertificateManagerOptions) {
    this.#authority = options.authority
    this.#log = options.log
    this.#ttlSeconds = options.ttlSeconds ?? DEFAULT_TTL_SECONDS
    this.#clock = options.clock ?? systemClock
    this.#random = options.random ?? Math.random
  }

  retain(identity: SpiffeId): void {
    if (this.#isClosed) return
    const known = this.#entries.get(identity)
    if (known !== undefined) {
      known.users += 1
      return
    }
    const entry: Entry = {
      users: 1,
      certificate: undefined,
      lastFailure: undefined,
      failures: 0,
      fetching: false,
      isStale: false,
      waiters: new Set(),
      abort: new AbortController(),
      cancelTimer: undefined,
      nextAttemptAtMs: 0,
    }
    this.#entries.set(identity, entry)
    this.#enqueue(identity, entry, 'warmup')
  }

  release(identity: SpiffeId): void {
    const entry = this.#entries.get(identity)
    if (entry === undefined) return
    entry.users -= 1
    if (entry.users > 0) return
    this.#forget(identity, entry, `${identity} is no longer in use on this node`)
  }

  async get(
    identity: SpiffeId,
    signal: AbortSignal,
  ): Promise<Result<WorkloadCertificate, CaFailure>> {
    if (this.#isClosed) return unavailable('the certificate manager is closed')
    const current = this.current(identity)
    if (current !== undefined) return ok(current)
    // A caller that has not retained the identity keeps it for as long as it waits.
    this.retain(identity)
    try {
      return await this.#wait(identity, signal)
    } finally {
      this.release(identity)
    }
  }

  current(identity: SpiffeId): WorkloadCertificate | undefined {
    const certificate = this.#entries.get(identity)?.certificate
    return certificate !== undefined && certificate.notAfter.getTime() > this.#clock.now()
      ? certificate
      : undefined
  }

  /**
   * Fetches all certificates anew, soon: the roots of the mesh, or who signs for it, have changed. Those in hand serve until
   * the new ones are there. A CA that goes on answering with the roots of before is asked a few times more: of several
   * replicas, one may hear of the change later than we.
   */
  renewAll(reason: string): void {
    this.#renewAll(reason, RENEW_AGAIN_TIMES)
  }

  #renewAll(reason: string, timesMore: number): void {
    if (this.#isClosed || this.#cancelRenewAll !== undefined) return
    const delayMs = Math.round(RENEW_ALL_WITHIN_MS * (0.5 + 0.5 * this.#random()))
    this.#log.info(
      { reason, delayMs, certificates: this.#entries.size },
      'renewing all certificates',
    )
    const before = this.#rootsPem
    this.#cancelRenewAll = this.#clock.after(delayMs, () => {
      this.#cancelRenewAll = undefined
      for (const [identity, entry] of this.#entries) {
        if (entry.fetching) entry.isStale = true
        else this.#enqueue(identity, entry, 'warmup')
      }
      this.#cancelRenewAgain?.()
      if (timesMore === 0) return
      this.#cancelRenewAgain = this.#clock.after(RENEW_AGAIN_AFTER_MS, () => {
        if (this.#rootsPem === before) this.#renewAll(reason, timesMore - 1)
      })
    })
  }

  onCertificate(listener: (certificate: WorkloadCertificate) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Calls back on each refusal that waiting has not cured; the same again and again until a certificate comes. Returns the unsubscriber. */
  onRefused(listener: RefusalListener): () => void {
    this.#refusalListeners.add(listener)
    return () => this.#refusalListeners.delete(listener)
  }

  /** Every retained identity, for the admin API. */
  status(): readonly CertificateStatus[] {
    return [...this.#entries].map(([identity, entry]) => {
      const certificate = this.current(identity)
      const state =
        certificate !== undefined
          ? 'available'
          : entry.lastFailure !== undefined
            ? 'unavailable'
            : 'initializing'
      return {
        identity,
        state,
        ...(certificate && {
          chainPem: certificate.chainPem,
          rootsPem: certificate.rootsPem,
          serialNumber: certificate.serialNumber,
          notBefore: certificate.notBefore,
          notAfter: certificate.notAfter,
        }),
        ...(entry.lastFailure && { lastFailure: entry.lastFailure }),
      }
    })
  }

  /** Ends all fetches and timers and forgets every key. */
  close(): void {
    this.#isClosed = true
    this.#cancelRenewAll?.()
    this.#cancelRenewAgain?.()
    for (const [identity, entry] of this.#entries)
      this.#forget(identity, entry, 'the certificate manager is closed')
    this.#listeners.clear()
    this.#refusalListeners.clear()
  }

  #wait(identity: SpiffeId, signal: AbortSignal): Promise<Result<WorkloadCertificate, CaFailure>> {
    const entry = this.#entries.get(identity)
    if (entry === undefined) return Promise.resolve(unavailable('the identity is not retained'))
    const { lastFailure } = entry
    if (lastFailure !== undefined && isFinal(entry)) return Promise.resolve(err(lastFailure))
    if (signal.aborted) return Promise.resolve(gaveUp(identity, entry))
    return new Promise((resolve) => {
      const settle: Waiter = (outcome) => {
        entry.waiters.delete(settle)
        signal.removeEventListener('abort', onAbort)
        resolve(outcome)
      }
      const onAbort = (): void => settle(gaveUp(identity, entry))
      signal.addEventListener('abort', onAbort, { once: true })
      entry.waiters.add(settle)
      if (entry.fetching) return
      if (entry.cancelTimer === undefined) this.#enqueue(identity, entry, 'realtime')
      else this.#hasten(identity, entry)
    })
  }

  #enqueue(identity: SpiffeId, entry: Entry, priority: FetchPriority): void {
    entry.cancelTimer?.()
    entry.cancelTimer = undefined
    this.#queue.add(identity, priority, () => this.#fetch(identity, entry))
  }

  async #fetch(identity: SpiffeId, entry: Entry): Promise<void> {
    entry.fetching = true
    const outcome = await this.#request(identity, entry)
    entry.fetching = false
    if (entry.abort.signal.aborted) return
    if (outcome.ok) this.#accept(identity, entry, outcome.value)
    else this.#reject(identity, entry, outcome.error)
    if (!entry.isStale) return
    entry.isStale = false
    this.#enqueue(identity, entry, 'warmup')
  }

  async #request(
    identity: SpiffeId,
    entry: Entry,
  ): Promise<Result<WorkloadCertificate, CaFailure>> {
    const timeout = new AbortController()
    const cancelTimeout = this.#clock.after(FETCH_TIMEOUT_MS, () => timeout.abort())
    try {
      const key = await createKeyAndCsr(identity)
      const signed = await this.#authority.sign(
        { identity, csrPem: key.csrPem, ttlSeconds: this.#ttlSeconds },
        AbortSignal.any([entry.abort.signal, timeout.signal]),
      )
      return signed.ok
        ? assembleCertificate(identity, key, signed.value, new Date(this.#clock.now()))
        : signed
    } catch (thrown) {
      return unavailable(`the CA could not be asked: ${errorMessage(thrown)}`)
    } finally {
      cancelTimeout()
    }
  }

  #accept(identity: SpiffeId, entry: Entry, certificate: WorkloadCertificate): void {
    const isRenewal = entry.certificate !== undefined
    entry.certificate = certificate
    entry.lastFailure = undefined
    entry.failures = 0
    const now = this.#clock.now()
    this.#attemptAfter(
      identity,
      entry,
      refreshDelayMs(certificate.notAfter.getTime(), now, this.#random()),
    )
    const { serialNumber, notAfter } = certificate
    this.#log.debug({ identity, serialNumber, notAfter, isRenewal }, 'certificate issued')
    for (const waiter of entry.waiters) waiter(ok(certificate))
    for (const listener of this.#listeners) listener(certificate)
    this.#noteRoots(certificate.rootsPem)
  }

  /** The CA is the first to know: what it answers to one is true for all. */
  #noteRoots(rootsPem: string): void {
    const isNews = this.#rootsPem !== undefined && this.#rootsPem !== rootsPem
    this.#rootsPem = rootsPem
    if (isNews && this.#entries.size > 1) this.#renewAll('the CA answers with other roots', 0)
  }

  #reject(identity: SpiffeId, entry: Entry, failure: CaFailure): void {
    entry.lastFailure = failure
    entry.failures += 1
    const hasCertificate = this.current(identity) !== undefined
    const { failures } = entry
    this.#log[hasCertificate ? 'warn' : 'error'](
      { identity, kind: failure.kind, reason: failure.message, failures, hasCertificate },
      'certificate request failed',
    )
    if (isFinal(entry)) {
      for (const waiter of entry.waiters) waiter(err(failure))
      for (const listener of this.#refusalListeners) listener(identity, failure)
    }
    const someoneWaits = entry.waiters.size > 0
    this.#attemptAfter(identity, entry, retryDelayMs(failures, this.#random(), someoneWaits))
  }

  /** Someone has begun to wait during a long back-off: brings the attempt nearer, never puts it off. */
  #hasten(identity: SpiffeId, entry: Entry): void {
    const delay = retryDelayMs(Math.max(1, entry.failures), this.#random(), true)
    if (this.#clock.now() + delay < entry.nextAttemptAtMs)
      this.#attemptAfter(identity, entry, delay)
  }

  #attemptAfter(identity: SpiffeId, entry: Entry, delayMs: number): void {
    entry.cancelTimer?.()
    entry.nextAttemptAtMs = this.#clock.now() + delayMs
    entry.cancelTimer = this.#clock.after(delayMs, () =>
      this.#enqueue(identity, entry, entry.waiters.size > 0 ? 'realtime' : 'background'),
    )
  }

  #forget(identity: SpiffeId, entry: Entry, reason: string): void {
    this.#entries.delete(identity)
    this.#queue.remove(identity)
    entry.cancelTimer?.()
    entry.cancelTimer = undefined
    entry.certificate = undefined
    entry.abort.abort()
    for (const waiter of entry.waiters) waiter(unavailable(reason))
  }
}

function isFinal(entry: Entry): boolean {
  return (
    entry.lastFailure !== undefined &&
    entry.lastFailure.kind !== 'unavailable' &&
    entry.failures >= REFUSALS_BEFORE_FAILING_FAST
  )
}

function gaveUp(identity: SpiffeId, entry: Entry): Result<never, CaFailure> {
  return entry.lastFailure !== undefined
    ? err(entry.lastFailure)
    : unavailable(`no certificate for ${identity} yet: the CA has not answered in time`)
}

function unavailable(message: string): Result<never, CaFailure> {
  return err({ kind: 'unavailable', message })
}
