// SPDX-License-Identifier: Apache-2.0
// What the statuses of all policy objects are to say at this moment. Kept by every replica, written by the one that leads.

import type { Collection } from '../../mesh/collections/index.ts'
import type { Workload, WorkloadUid } from '../../mesh/model/types.ts'
import type { ObjectKey } from '../core/origin.ts'
import {
  type Enforcement,
  enforcementOf,
  type FollowersByPlace,
  WorkloadCounts,
} from './enforcement.ts'
import {
  enforcedVerdict,
  type PolicyStatus,
  type SentPolicy,
  wantedConditions,
} from './policy-status.ts'
import type { StatusSource, WantedStatus } from './wanted-status.ts'

export interface StatusBoardOptions {
  readonly statuses: readonly Collection<ObjectKey, PolicyStatus>[]
  readonly workloads: readonly Collection<WorkloadUid, Workload>[]
  /** The agents that follow policies, of all replicas. */
  readonly agents: () => FollowersByPlace
  /** The waypoints that follow theirs, of all replicas. */
  readonly waypoints: () => FollowersByPlace
}

/** Keeps count, and says what differs. */
export class StatusBoard implements StatusSource {
  readonly #options: StatusBoardOptions
  readonly #counts = new WorkloadCounts()
  readonly #listeners = new Set<() => void>()

  constructor(options: StatusBoardOptions) {
    this.#options = options
    for (const workloads of options.workloads)
      workloads.subscribe((changes) => {
        for (const { previous, current } of changes) this.#counts.update(previous, current)
        this.poke()
      })
    for (const statuses of options.statuses) statuses.subscribe(() => this.poke())
  }

  /** Something has changed that statuses may speak of: an object, a workload, what an agent has acknowledged. */
  readonly poke = (): void => {
    for (const listener of this.#listeners) listener()
  }

  /** Calls back at each change; returns the unsubscriber. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** How many policy objects there are. */
  get size(): number {
    return this.#options.statuses.reduce((sum, { size }) => sum + size, 0)
  }

  /** The statuses that do not say what they should. Looks at all: a policy costs as much as the nodes that have its workloads. */
  *differing(now: Date): Iterable<WantedStatus> {
    const agents = this.#options.agents()
    const waypoints = this.#options.waypoints()
    const countsOf = ({ key, readers }: SentPolicy): Enforcement =>
      readers.kind === 'agents'
        ? enforcementOf(key, this.#counts.at(readers.concern), agents)
        : enforcementOf(key, new Map(readers.gateways.map((each) => [each, 1])), waypoints)
    for (const statuses of this.#options.statuses)
      for (const status of statuses.values()) {
        const { sent } = status
        const enforced =
          sent === undefined
            ? status.idle
            : enforcedVerdict(sent.use, sent.readers.kind, countsOf(sent))
        const conditions = wantedConditions(status, [status.accepted, enforced], now)
        if (conditions !== undefined) yield { status, body: { conditions } }
      }
  }
}
