// SPDX-License-Identifier: Apache-2.0
// TCP metrics inside a worker: adds up per label set and hands the sums over in batches, so that the registry
// lives on the main thread and a connection costs the worker two map look-ups.

import type { ByteCounts, ConnectionAbout } from '../../mesh/telemetry/connection-record.ts'
import { seriesKey, type TrafficDelta, trafficLabels } from '../../mesh/telemetry/traffic.ts'

/** How long sums wait for company; metrics are scraped in tens of seconds. No timer runs while nothing changes. */
const FLUSH_AFTER_MS = 500

/** Of a connection that has not ended. */
const NO_FLAG = '-'

export class TrafficCounters {
  #pending = new Map<string, TrafficDelta>()
  #timer: NodeJS.Timeout | undefined
  readonly #deliver: (deltas: readonly TrafficDelta[]) => void
  readonly #nodeLocal: string

  /** `nodeLocal` is the word for the security of connections inside the node. */
  constructor(deliver: (deltas: readonly TrafficDelta[]) => void, nodeLocal: string) {
    this.#deliver = deliver
    this.#nodeLocal = nodeLocal
  }

  opened(about: ConnectionAbout): void {
    this.#delta(about, NO_FLAG).opened += 1
  }

  /** `bytes` are those that were not told by `carried`. */
  closed(about: ConnectionAbout, flag: string, bytes: ByteCounts): void {
    const delta = this.#delta(about, flag)
    delta.closed += 1
    delta.sentBytes += bytes.bytesToDownstream
    delta.receivedBytes += bytes.bytesToUpstream
  }

  /** Bytes of a connection that goes on. */
  carried(about: ConnectionAbout, { bytesToDownstream, bytesToUpstream }: ByteCounts): void {
    if (bytesToDownstream === 0 && bytesToUpstream === 0) return
    const delta = this.#delta(about, NO_FLAG)
    delta.sentBytes += bytesToDownstream
    delta.receivedBytes += bytesToUpstream
  }

  failed(about: ConnectionAbout, flag: string): void {
    this.#delta(about, flag).failed += 1
  }

  /** Hands over what has gathered. */
  flush(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#pending.size === 0) return
    const deltas = [...this.#pending.values()]
    this.#pending = new Map()
    this.#deliver(deltas)
  }

  #delta(about: ConnectionAbout, flag: string): TrafficDelta {
    const key = seriesKey(about, flag)
    let delta = this.#pending.get(key)
    if (delta === undefined) {
      delta = {
        labels: trafficLabels(about, flag, this.#nodeLocal),
        opened: 0,
        closed: 0,
        failed: 0,
        sentBytes: 0,
        receivedBytes: 0,
      }
      this.#pending.set(key, delta)
      this.#timer ??= setTimeout(() => this.flush(), FLUSH_AFTER_MS).unref()
    }
    return delta
  }
}
