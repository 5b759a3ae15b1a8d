// SPDX-License-Identifier: Apache-2.0
// The rates of one agent's counters: how much each has grown over the last seconds. A counter that fell has begun anew with its agent, so
// what it shows has come since.

import { type Counts, noCounts, type SeriesKey, type TrafficCounts } from './traffic-series.ts'

interface Growth {
  readonly at: number
  readonly from: number
  readonly counts: TrafficCounts
}

export class CounterWindow {
  readonly #spanMs: number
  #last: { readonly at: number; readonly counts: TrafficCounts } | undefined
  #growths: Growth[] = []

  /** Rates are those of the last `spanMs`. */
  constructor(spanMs: number) {
    this.#spanMs = spanMs
  }

  /** What the counters show now. */
  get totals(): TrafficCounts {
    return this.#last?.counts ?? new Map()
  }

  /** Takes a reading of the time `at`, milliseconds; readings come in the order of time. */
  push(at: number, counts: TrafficCounts): void {
    const last = this.#last
    this.#last = { at, counts }
    // The first tells nothing of when it came about.
    if (last === undefined || at <= last.at) return
    const grown = new Map<string, { readonly key: SeriesKey; readonly counts: Counts }>()
    for (const [id, { key, counts: now }] of counts) {
      const growth = growthOf(last.counts.get(id)?.counts, now)
      if (growth !== undefined) grown.set(id, { key, counts: growth })
    }
    this.#growths.push({ at, from: last.at, counts: grown })
    this.#forget(at)
  }

  /** Per second, by series; nothing when the last reading is older than the span. */
  rates(now: number): TrafficCounts {
    this.#forget(now)
    const first = this.#growths[0]
    const last = this.#growths.at(-1)
    if (first === undefined || last === undefined) return new Map()
    const seconds = (last.at - first.from) / 1_000
    const rates = new Map<string, { readonly key: SeriesKey; readonly counts: Counts }>()
    for (const { counts } of this.#growths)
      for (const [id, { key, counts: grown }] of counts) {
        const entry = rates.get(id) ?? { key, counts: noCounts() }
        addTo(entry.counts, grown, 1 / seconds)
        rates.set(id, entry)
      }
    return rates
  }

  #forget(now: number): void {
    this.#growths = this.#growths.filter(({ at }) => now - at < this.#spanMs)
  }
}

/** Adds `counts` times `factor`. */
export function addTo(sum: Counts, counts: Counts, factor = 1): void {
  for (const name of COUNT_NAMES) sum[name] += counts[name] * factor
}

const COUNT_NAMES = Object.keys(noCounts()) as readonly (keyof Counts)[]

function growthOf(before: Counts | undefined, now: Counts): Counts | undefined {
  const growth = noCounts()
  let isGrown = false
  for (const name of COUNT_NAMES) {
    const was = before?.[name] ?? 0
    growth[name] = now[name] >= was ? now[name] - was : now[name]
    isGrown ||= growth[name] > 0
  }
  return isGrown ? growth : undefined
}
