// SPDX-License-Identifier: Apache-2.0
// How many connections are open, from what each worker says of their beginnings and ends. A worker that dies says nothing of its ends.

import type { TrafficDelta } from '../../mesh/telemetry/traffic.ts'

const REPORTERS = ['source', 'destination'] as const

type Reporter = (typeof REPORTERS)[number]

export class OpenSockets {
  readonly #byWorker = new Map<number, Record<Reporter, number>>()

  add(deltas: readonly TrafficDelta[], worker: number): void {
    let open = this.#byWorker.get(worker)
    if (open === undefined) this.#byWorker.set(worker, (open = { source: 0, destination: 0 }))
    for (const { labels, opened, closed } of deltas)
      open[labels.reporter === 'source' ? 'source' : 'destination'] += opened - closed
  }

  forget(worker: number): void {
    this.#byWorker.delete(worker)
  }

  /** By reporter, of all workers. */
  open(): readonly (readonly [{ readonly reporter: Reporter }, number])[] {
    return REPORTERS.map((reporter) => {
      let sum = 0
      for (const open of this.#byWorker.values()) sum += open[reporter]
      return [{ reporter }, sum] as const
    })
  }
}
