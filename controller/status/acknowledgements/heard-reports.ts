// SPDX-License-Identifier: Apache-2.0
// The reports of other replicas, as long as they are alive: one whose beat moves. Times are this process's own, never compared with those
// of other machines.

import { decodeReport, type Report, type ReportData } from './report.ts'

/** A report as it stands in its ConfigMap. */
export interface StandingReport {
  /** Another one at each write. */
  readonly beat: string
  readonly data: Readonly<Record<string, string>>
}

/** Four beats: one may be late. */
const BELIEVED_MS = 60_000
/** A timer may be a little early. */
const TIMER_SLACK_MS = 10

interface Heard {
  readonly standing: StandingReport
  readonly report: Report | undefined
  /** By performance.now(): when this beat was first seen. */
  readonly at: number
  /** Whether it was seen moving: what merely stands there may be of one that is long dead. */
  readonly isMoving: boolean
}

export class HeardReports {
  readonly #believedMs: number
  readonly #onChange: () => void
  readonly #heard = new Map<string, Heard>()
  readonly #expiries = new Map<string, NodeJS.Timeout>()

  /** `onChange` is called when what is believed changes. */
  constructor(onChange: () => void, believedMs: number = BELIEVED_MS) {
    this.#onChange = onChange
    this.#believedMs = believedMs
  }

  /** Takes what stands in a replica's ConfigMap now. */
  take(replica: string, standing: StandingReport): void {
    const last = this.#heard.get(replica)
    if (last?.standing.beat === standing.beat) return
    const report =
      last !== undefined && isSameReport(last.standing.data, standing.data)
        ? last.report
        : decodeReport(standing.data)
    const isMoving = last !== undefined
    const isNews = isMoving && (report !== last.report || !this.#isBelieved(last))
    this.#heard.set(replica, { standing, report, at: performance.now(), isMoving })
    this.#expireLater(replica)
    if (isNews) this.#onChange()
  }

  /** A replica's ConfigMap is gone. */
  drop(replica: string): void {
    clearTimeout(this.#expiries.get(replica))
    this.#expiries.delete(replica)
    if (this.#heard.delete(replica)) this.#onChange()
  }

  /** Those that are believed now. */
  *believed(): Generator<Report, void, undefined> {
    for (const heard of this.#heard.values())
      if (heard.report !== undefined && this.#isBelieved(heard)) yield heard.report
  }

  /** Replicas that have not been heard of for so long. */
  silentFor(milliseconds: number): readonly string[] {
    const before = performance.now() - milliseconds
    return [...this.#heard].flatMap(([replica, { at }]) => (at <= before ? [replica] : []))
  }

  close(): void {
    for (const timer of this.#expiries.values()) clearTimeout(timer)
    this.#expiries.clear()
    this.#heard.clear()
  }

  #isBelieved({ isMoving, at }: Heard): boolean {
    return isMoving && performance.now() - at < this.#believedMs
  }

  #expireLater(replica: string): void {
    clearTimeout(this.#expiries.get(replica))
    this.#expiries.set(
      replica,
      setTimeout(this.#onChange, this.#believedMs + TIMER_SLACK_MS).unref(),
    )
  }
}

/** Whether two reports say the same; texts that a report lacks are equal. */
export function isSameReport(one: StandingReport['data'], other: StandingReport['data']): boolean {
  const keys: readonly (keyof ReportData)[] = ['policies', 'nodes', 'waypointPolicies', 'waypoints']
  return keys.every((key) => one[key] === other[key])
}
