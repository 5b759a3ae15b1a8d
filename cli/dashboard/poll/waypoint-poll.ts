// SPDX-License-Identifier: Apache-2.0
// One pod of a waypoint: what it says of itself, its requests and its audit (pod-poll.ts).

import type { WaypointPod } from '../../cluster/waypoint-pods.ts'
import type { WaypointSnapshot } from '../model/snapshot.ts'
import { readRequests } from '../model/traffic-series.ts'
import { readWaypointFacts, type WaypointFacts } from '../model/waypoint-facts.ts'
import type { AuditView } from '../view.ts'
import type { AgentClient } from './agent-client.ts'
import { PodPoll, type PollOptions } from './pod-poll.ts'

/** Its dump has all routes and policies of what it serves. */
const MOST_BYTES = 64 * 1024 * 1024

export class WaypointPoll {
  readonly #pod: WaypointPod
  readonly #poll: PodPoll<WaypointFacts>

  constructor(pod: WaypointPod, client: AgentClient, options: PollOptions) {
    this.#pod = pod
    this.#poll = new PodPoll(client, options, {
      dump: { path: '/config_dump', mostBytes: MOST_BYTES },
      readFacts: readWaypointFacts,
      readTraffic: (exposition) => readRequests(exposition, waypointName(pod)),
    })
  }

  get name(): string {
    return podName(this.#pod)
  }

  /** Whether it is to be asked now. */
  get isDue(): boolean {
    return this.#poll.isDue
  }

  /** Asks it; gives what is new in its audit. Never throws. */
  poll(): Promise<readonly AuditView[]> {
    return this.#poll.poll()
  }

  snapshot(): WaypointSnapshot {
    const { pod, node } = this.#pod
    return { waypoint: waypointName(this.#pod), pod, node, ...this.#poll.seen() }
  }

  close(): void {
    this.#poll.close()
  }
}

/** What it is known by: pods of waypoints are in any namespace. */
export function podName({ namespace, pod }: WaypointPod): string {
  return `${namespace}/${pod}`
}

function waypointName({ namespace, gateway }: WaypointPod): string {
  return `${namespace}/${gateway}`
}
