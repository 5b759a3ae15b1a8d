// SPDX-License-Identifier: Apache-2.0
// One writer among the replicas, by a Kubernetes Lease. Times are judged by how long ago this process saw the
// record change, never by comparing clocks of different machines, nor by one that somebody may set.

import type { Clock } from '../../mesh/identity/clock.ts'
import { type KubeApi, type Lease, LEASES } from '../../mesh/kube/index.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'

export interface LeaderElectionOptions {
  readonly namespace: string
  readonly name: string
  /** Unique to this process, e.g. the pod's name. */
  readonly holder: string
  readonly clock: Clock
  readonly log: Logger
  /** Runs when this process becomes the leader; the signal aborts when it no longer is. */
  readonly onElected: (signal: AbortSignal) => void
  readonly timings?: LeaseTimings
}

export interface LeaseTimings {
  /** How long a holder that has fallen silent still counts. */
  readonly leaseMs: number
  /** How long the holder tries to renew before it steps down by itself; below leaseMs. */
  readonly renewDeadlineMs: number
  /** Pause between attempts. */
  readonly retryMs: number
}

/** client-go's defaults: a crashed leader is replaced within some 17 s. */
const LEASE_TIMINGS: LeaseTimings = {
  leaseMs: 15_000,
  renewDeadlineMs: 10_000,
  retryMs: 2_000,
}

interface Observed {
  readonly version: string
  readonly holder: string
  readonly leaseMs: number
  readonly atMs: number
}

type Attempt = 'held' | 'other' | 'failed'

/** Takes part in an election until stopped. */
export class LeaderElection {
  readonly #api: KubeApi
  readonly #options: LeaderElectionOptions
  readonly #timings: LeaseTimings
  #observed: Observed | undefined
  #term: AbortController | undefined
  #lastRenewedMs = 0
  #cancelTimer: (() => void) | undefined
  #cancelStepDown: (() => void) | undefined
  #running: Promise<void> = Promise.resolve()
  #isStopped = false

  constructor(api: KubeApi, options: LeaderElectionOptions) {
    this.#api = api
    this.#options = options
    this.#timings = options.timings ?? LEASE_TIMINGS
  }

  get isLeader(): boolean {
    return this.#term !== undefined
  }

  start(): void {
    this.#schedule(0)
  }

  /** Ends taking part; gives the lease back, so that the next leader need not wait for it to run out. */
  async stop(): Promise<void> {
    this.#isStopped = true
    this.#cancelTimer?.()
    await this.#running
    const wasLeader = this.isLeader
    this.#stepDown('stopping')
    if (wasLeader) await this.#release()
  }

  #schedule(delayMs: number): void {
    if (this.#isStopped) return
    this.#cancelTimer = this.#options.clock.after(delayMs, () => {
      this.#running = this.#round()
    })
  }

  async #round(): Promise<void> {
    const startedMs = this.#options.clock.elapsed()
    const outcome = await this.#attempt()
    if (outcome === 'held') this.#renewed(startedMs)
    else if (outcome === 'other') this.#stepDown('another replica holds the lease')
    // 'failed': the step-down timer decides how long to keep trying.
    this.#schedule(this.#timings.retryMs)
  }

  async #attempt(): Promise<Attempt> {
    const { namespace, name, clock } = this.#options
    const deadlineMs = this.#timings.renewDeadlineMs / 2
    const found = await this.#api.get(LEASES, { namespace, name }, { deadlineMs })
    if (!found.ok) {
      if (found.error.kind !== 'notFound') return this.#failed(found.error.message)
      const created = await this.#api.create(LEASES, this.#record(undefined), { deadlineMs })
      return created.ok ? this.#holds(created.value) : this.#failed(created.error.message)
    }
    const lease = found.value
    this.#observe(lease)
    const observed = this.#observed
    const isFree =
      observed === undefined ||
      observed.holder === '' ||
      observed.holder === this.#options.holder ||
      clock.elapsed() - observed.atMs > observed.leaseMs
    if (!isFree) return 'other'
    // The resourceVersion makes this a compare-and-swap: of two who try, one gets a conflict.
    const updated = await this.#api.update(LEASES, this.#record(lease), { deadlineMs })
    if (updated.ok) return this.#holds(updated.value)
    return this.#failed(updated.error.message)
  }

  #holds(lease: Lease): Attempt {
    this.#observe(lease)
    return 'held'
  }

  #failed(reason: string): Attempt {
    const { log, namespace, name } = this.#options
    log.debug({ lease: `${namespace}/${name}`, reason }, 'lease not renewed')
    return 'failed'
  }

  #observe(lease: Lease): void {
    const version = lease.metadata?.resourceVersion ?? ''
    if (this.#observed?.version === version) return
    this.#observed = {
      version,
      holder: lease.spec?.holderIdentity ?? '',
      leaseMs: (lease.spec?.leaseDurationSeconds ?? 0) * 1000,
      atMs: this.#options.clock.elapsed(),
    }
  }

  #record(previous: Lease | undefined): Lease {
    const { namespace, name, holder, clock } = this.#options
    const now = microTime(clock.now())
    const wasMine = previous?.spec?.holderIdentity === holder
    const transitions = previous?.spec?.leaseTransitions ?? 0
    return {
      metadata: { ...previous?.metadata, namespace, name },
      spec: {
        holderIdentity: holder,
        leaseDurationSeconds: Math.max(1, Math.ceil(this.#timings.leaseMs / 1000)),
        acquireTime: wasMine ? (previous.spec?.acquireTime ?? now) : now,
        renewTime: now,
        leaseTransitions: previous === undefined || wasMine ? transitions : transitions + 1,
      },
    }
  }

  #renewed(startedMs: number): void {
    const { clock, log, onElected, holder, namespace, name } = this.#options
    this.#lastRenewedMs = startedMs
    this.#cancelStepDown?.()
    const leftMs = this.#lastRenewedMs + this.#timings.renewDeadlineMs - clock.elapsed()
    this.#cancelStepDown = clock.after(leftMs, () =>
      this.#stepDown('the lease could not be renewed in time'),
    )
    if (this.#term !== undefined || this.#isStopped) return
    this.#term = new AbortController()
    log.info({ lease: `${namespace}/${name}`, holder }, 'became the leader')
    onElected(this.#term.signal)
  }

  #stepDown(reason: string): void {
    this.#cancelStepDown?.()
    this.#cancelStepDown = undefined
    if (this.#term === undefined) return
    const { log, namespace, name } = this.#options
    log.info({ lease: `${namespace}/${name}`, reason }, 'no longer the leader')
    const term = this.#term
    this.#term = undefined
    term.abort()
  }

  async #release(): Promise<void> {
    const { namespace, name, holder, log } = this.#options
    const deadlineMs = this.#timings.retryMs
    const found = await this.#api.get(LEASES, { namespace, name }, { deadlineMs })
    if (!found.ok || found.value.spec?.holderIdentity !== holder) return
    const released = await this.#api.update(
      LEASES,
      {
        ...found.value,
        spec: { ...found.value.spec, holderIdentity: '', leaseDurationSeconds: 1 },
      },
      { deadlineMs },
    )
    if (!released.ok) log.warn({ reason: released.error.message }, 'the lease was not given back')
  }
}

/** Lease times are MicroTime: RFC 3339 with six digits. */
function microTime(ms: number): string {
  return new Date(ms).toISOString().replace('Z', '000Z')
}
