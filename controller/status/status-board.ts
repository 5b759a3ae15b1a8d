// SPDX-License-Identifier: Apache-2.0
// What the statuses of all policy objects are to say at this moment. Kept by every replica, written by the one that leads.

import type { Collection } from '../../mesh/collections/index.ts'
import type { Workload, WorkloadUid } from '../../mesh/model/types.ts'
import type { FollowingClient } from '../../mesh/xds/server.ts'
import type { ObjectKey } from '../core/origin.ts'
import { agentsByNode, enforcementOf, WorkloadCounts } from './enforcement.ts'
import { enforcedVerdict, type PolicyStatus, wantedConditions } from './policy-status.ts'

export interface StatusBoardOptions {
  readonly statuses: readonly Collection<ObjectKey, PolicyStatus>[]
  readonly workloads: readonly Collection<WorkloadUid, Workload>[]
  /** The agents that follow policies. */
  readonly agents: () => Iterable<FollowingClient<{ readonly node: string }>>
}

/** A status that does not say what it should. */
export interface WantedStatus {
  readonly status: PolicyStatus
  readonly conditions: readonly object[]
}

/** Keeps count, and says what differs. */
export class StatusBoard {
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
    const agents = agentsByNode(this.#options.agents())
    for (const statuses of this.#options.statuses)
      for (const status of statuses.values()) {
        const { sent } = status
        const enforced =
          sent === undefined
            ? status.idle
            : enforcedVerdict(
                sent.use,
                enforcementOf(sent.key, this.#counts.at(sent.concern), agents),
              )
        const conditions = wantedConditions(status, [status.accepted, enforced], now)
        if (conditions !== undefined) yield { status, conditions }
      }
  }
}
