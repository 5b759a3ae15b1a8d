// SPDX-License-Identifier: Apache-2.0
// What goes on record of one pod's connections in one worker. Bounded before it leaves the worker: who is refused a hundred thousand
// times is told of some times, and counted.

import { connectionEvents } from '../../mesh/audit/connection-audit.ts'
import type { AuditEvent } from '../../mesh/audit/event.ts'
import { Bucket } from '../../mesh/async/bucket.ts'
import type { ConnectionRecord } from '../../mesh/telemetry/connection-record.ts'

/** Events of one pod. */
export interface PodAuditEvents {
  readonly events: readonly AuditEvent[]
  /** How many more there were. */
  readonly leftOut: number
}

export type PostAudit = (events: PodAuditEvents) => void

/** The journal of the process has as much for each pod, from all workers. */
const EVENTS = { burst: 200, perSecond: 10 }

export class PodAudit {
  readonly #post: PostAudit
  readonly #budget = new Bucket(EVENTS)
  #leftOut = 0

  constructor(post: PostAudit) {
    this.#post = post
  }

  /** Takes a connection that is over. */
  record(record: ConnectionRecord): void {
    const events = connectionEvents(record)
    if (events.length === 0) return
    if (!this.#budget.take(events.length)) this.#leftOut += events.length
    else this.#send(events)
  }

  /** Tells what is untold. To be called once in a while. */
  flush(): void {
    if (this.#leftOut > 0) this.#send([])
  }

  #send(events: readonly AuditEvent[]): void {
    const leftOut = this.#leftOut
    this.#leftOut = 0
    this.#post({ events, leftOut })
  }
}
