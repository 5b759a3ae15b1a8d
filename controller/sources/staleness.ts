// SPDX-License-Identifier: Apache-2.0
// How long nothing has been heard of a kind of objects. Such a replica serves what it knows and stays ready: its readiness would tell the
// cluster something only while the API server answers others, as when it is so busy that it answers us late. Were every replica to
// step aside then, nobody could have a certificate or a policy at all. So it is said, and an operator may end the replica.

import type { MonotonicClock } from '../../mesh/async/bucket.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import type { InputKind } from '../core/input.ts'

/** An API server that is restarted is back in less. */
const TOLD_AFTER_MS = 60_000

export type StaleSeconds = Readonly<Partial<Record<InputKind, number>>>

export class Staleness {
  readonly #log: Logger
  readonly #now: MonotonicClock
  /** Of each kind that cannot be listed or watched: since when. */
  readonly #since = new Map<InputKind, number>()
  #isTold = false

  constructor(log: Logger, now: MonotonicClock = () => performance.now()) {
    this.#log = log
    this.#now = now
  }

  /** A list or a watch of the kind failed. */
  failed(kind: InputKind): void {
    const since = this.#since.get(kind) ?? this.#now()
    this.#since.set(kind, since)
    if (this.#isTold || this.#now() - since < TOLD_AFTER_MS) return
    this.#isTold = true
    this.#log.error(
      { seconds: this.seconds() },
      'nothing is heard of the cluster: what agents and waypoints are told may be out of date',
    )
  }

  /** The kind was listed, or is watched. */
  answered(kind: InputKind): void {
    if (!this.#since.delete(kind) || this.#since.size > 0 || !this.#isTold) return
    this.#isTold = false
    this.#log.info('all of the cluster is heard of again')
  }

  /** How long each kind has not been heard of; those alone of which that is so. */
  seconds(): StaleSeconds {
    const now = this.#now()
    return Object.fromEntries(
      [...this.#since].map(([kind, since]) => [kind, Math.round((now - since) / 1000)]),
    )
  }
}
