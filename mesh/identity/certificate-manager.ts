// SPDX-License-Identifier: Apache-2.0
// Keeps a valid certificate for every identity in use, wherever certificates come from: asked for ahead of need, kept while valid when
// their source is away, forgotten with its key when the last user lets go.

import type { SpiffeId } from '../model/types.ts'
import { type Result, err, ok } from '../result.ts'
import type { Logger } from '../telemetry/log.ts'
import { type Clock, systemClock } from './clock.ts'
import type {
  CaFailure,
  CertificateOrder,
  CertificateSource,
  CertificateSupply,
  WorkloadCertificate,
} from './types.ts'

export interface CertificateManagerOptions {
  /** Closed with the manager. */
  readonly supply: CertificateSupply
  readonly log: Logger
  readonly clock?: Clock
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

/** A refusal in the first seconds of a pod may be haste, its source not knowing the pod yet; after that it is the answer. */
const REFUSALS_BEFORE_FAILING_FAST = 3

/** Hears of an identity that the source of certificates will not give: what is refused at first may be haste. */
export type RefusalListener = (identity: SpiffeId, failure: CaFailure) => void

type Waiter = (outcome: Result<WorkloadCertificate, CaFailure>) => void

interface Entry {
  users: number
  certificate: WorkloadCertificate | undefined
  lastFailure: CaFailure | undefined
  failures: number
  /** Of these, the last ones in a row that were an answer. */
  refusals: number
  readonly waiters: Set<Waiter>
  readonly abort: AbortController
  readonly order: CertificateOrder
}

/** The CertificateSource of a node: one for all of its identities. */
export class CertificateManager implements CertificateSource {
  readonly #supply: CertificateSupply
  readonly #log: Logger
  readonly #clock: Clock
  readonly #entries = new Map<SpiffeId, Entry>()
  readonly #listeners = new Set<(certificate: WorkloadCertificate) => void>()
  readonly #refusalListeners = new Set<RefusalListener>()
  #isClosed = false

  constructor(options: CertificateManagerOptions) {
    this.#supply = options.supply
    this.#log = options.log
    this.#clock = options.clock ?? systemClock
  }

  retain(identity: SpiffeId): void {
    if (this.#isClosed) return
    const known = this.#entries.get(identity)
    if (known !== undefined) {
      known.users += 1
      return
    }
    const entry = this.#newEntry(identity)
    this.#entries.set(identity, entry)
    this.#supply.begin(entry.order)
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

  /** The roots of the mesh have changed: what is signed below them is asked for anew. Those in hand serve until then. */
  renewAll(reason: string): void {
    this.#supply.renewAll(reason)
  }

  /** Their source may be there again: what has failed is asked for soon. */
  retryFailed(): void {
    this.#supply.retryFailed()
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

  /** Ends what is under way and forgets every key. */
  close(): void {
    this.#isClosed = true
    for (const [identity, entry] of this.#entries)
      this.#forget(identity, entry, 'the certificate manager is closed')
    this.#supply.close()
    this.#listeners.clear()
    this.#refusalListeners.clear()
  }

  #newEntry(identity: SpiffeId): Entry {
    const abort = new AbortController()
    const entry: Entry = {
      users: 1,
      certificate: undefined,
      lastFailure: undefined,
      failures: 0,
      refusals: 0,
      waiters: new Set(),
      abort,
      order: {
        identity,
        signal: abort.signal,
        get failures() {
          return entry.failures
        },
        get isWaitedFor() {
          return entry.waiters.size > 0
        },
        give: (certificate) => this.#accept(identity, entry, certificate),
        fail: (failure) => this.#reject(identity, entry, failure),
      },
    }
    return entry
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
      this.#supply.hasten(entry.order)
    })
  }

  #accept(identity: SpiffeId, entry: Entry, certificate: WorkloadCertificate): void {
    if (entry.abort.signal.aborted) return
    const isRenewal = entry.certificate !== undefined
    entry.certificate = certificate
    entry.lastFailure = undefined
    entry.failures = 0
    entry.refusals = 0
    const { serialNumber, notAfter } = certificate
    this.#log.debug({ identity, serialNumber, notAfter, isRenewal }, 'certificate issued')
    for (const waiter of entry.waiters) waiter(ok(certificate))
    for (const listener of this.#listeners) listener(certificate)
  }

  #reject(identity: SpiffeId, entry: Entry, failure: CaFailure): void {
    if (entry.abort.signal.aborted) return
    entry.lastFailure = failure
    entry.failures += 1
    // Who has just come back may not know the pods yet.
    entry.refusals = failure.kind === 'unavailable' ? 0 : entry.refusals + 1
    const hasCertificate = this.current(identity) !== undefined
    const { failures } = entry
    this.#log[hasCertificate ? 'warn' : 'error'](
      { identity, kind: failure.kind, reason: failure.message, failures, hasCertificate },
      'certificate request failed',
    )
    if (!isFinal(entry)) return
    for (const waiter of entry.waiters) waiter(err(failure))
    for (const listener of this.#refusalListeners) listener(identity, failure)
  }

  #forget(identity: SpiffeId, entry: Entry, reason: string): void {
    this.#entries.delete(identity)
    entry.certificate = undefined
    entry.abort.abort()
    for (const waiter of entry.waiters) waiter(unavailable(reason))
  }
}

function isFinal(entry: Entry): boolean {
  return entry.refusals >= REFUSALS_BEFORE_FAILING_FAST
}

function gaveUp(identity: SpiffeId, entry: Entry): Result<never, CaFailure> {
  return entry.lastFailure !== undefined
    ? err(entry.lastFailure)
    : unavailable(`no certificate for ${identity} yet: the CA has not answered in time`)
}

function unavailable(message: string): Result<never, CaFailure> {
  return err({ kind: 'unavailable', message })
}
