// SPDX-License-Identifier: Apache-2.0
// Exports metrics, each interval, and log records and spans, as they come, to a collector (OTLP/HTTP, protobuf). Never in the way of what it tells
// of: what waits is bounded, what is dropped is counted, and failures cost a line a minute.

import type { BackoffOptions } from '../../async/backoff.ts'
import { errorMessage } from '../../errors.ts'
import { excerpt } from '../excerpt.ts'
import type { Logger } from '../log.ts'
import type { MetricFamily, MetricsSource } from '../metrics/family.ts'
import { encodeMetrics } from './encode-metrics.ts'
import { Lane } from './lane.ts'
import { Outbox } from './outbox.ts'
import { Collector, type Signal } from './post.ts'
import type { OtlpTarget } from './target.ts'
import type { EncodedRequest, Resource } from './wire.ts'

export interface ExporterOptions {
  readonly target: OtlpTarget
  readonly resource: Resource
  readonly metrics: MetricsSource
  readonly intervalMs: number
  readonly log: Logger
  /** For tests. */
  readonly backoff?: BackoffOptions
  readonly random?: () => number
  readonly longestQueueBytes?: number
}

/** Of encoded log records that wait, and as much of spans: some 10,000. The oldest make room. */
const LONGEST_QUEUE_BYTES = 8 * 1024 * 1024
const TOO_MANY = {
  logs: 'there are more access lines than can be exported',
  traces: 'there are more spans than can be exported',
}
const LINE_EVERY_MS = 60_000
const BACKOFF = { firstMs: 1_000, longestMs: 30_000 }

export class OtlpExporter {
  readonly #options: ExporterOptions
  readonly #collector: Collector
  readonly #lanes: Readonly<Record<Signal, Lane>>
  readonly #outboxes: Readonly<Record<'logs' | 'traces', Outbox>>
  readonly #startMs = Date.now()
  readonly #stopping = new AbortController()
  #timer: NodeJS.Timeout
  /** The export of metrics that is on its way. */
  #round = new AbortController()
  #measuring: Promise<void> = Promise.resolve()
  #lastLineAt = Number.NEGATIVE_INFINITY

  constructor(options: ExporterOptions) {
    this.#options = options
    this.#collector = new Collector(options.target)
    this.#lanes = {
      metrics: this.#lane('metrics'),
      logs: this.#lane('logs'),
      traces: this.#lane('traces'),
    }
    this.#outboxes = { logs: this.#outbox('logs'), traces: this.#outbox('traces') }
    const { intervalMs, random = Math.random } = options
    // The first at a moment of its own: a thousand nodes that start together do not march in step.
    this.#timer = setTimeout(() => {
      this.#measure()
      this.#timer = setInterval(() => this.#measure(), intervalMs).unref()
    }, intervalMs * random()).unref()
  }

  /** Takes log records, and how many there was no room for before they came here; returns at once. */
  takeLogs(request: EncodedRequest, leftOut: number): void {
    this.#outboxes.logs.take(request, leftOut)
  }

  /** Takes spans, as takeLogs(). */
  takeSpans(request: EncodedRequest, leftOut: number): void {
    this.#outboxes.traces.take(request, leftOut)
  }

  /** The metrics of the export itself. */
  families(): readonly MetricFamily[] {
    const lanes = Object.entries(this.#lanes)
    const family = (name: string, help: string, read: (lane: Lane) => number): MetricFamily => ({
      name,
      help,
      type: 'counter',
      samples: lanes.map(([signal, lane]) => ({
        name,
        labels: `signal="${signal}"`,
        value: read(lane),
      })),
    })
    return [
      family(
        'ambit_otlp_exported_total',
        'Data points, log records and spans that the collector has taken.',
        (lane) => lane.sent,
      ),
      family(
        'ambit_otlp_dropped_total',
        'Data points, log records and spans that were given up.',
        (lane) => lane.dropped,
      ),
      family(
        'ambit_otlp_failed_requests_total',
        'Requests to the collector that failed, each try.',
        (lane) => lane.failures,
      ),
    ]
  }

  /** Sends the metrics as they are and the records that wait, for so long at most; then drops them. */
  async close(deadlineMs: number): Promise<void> {
    clearTimeout(this.#timer)
    const timer = setTimeout(() => this.#stopping.abort(), deadlineMs)
    this.#measure()
    const { logs, traces } = this.#outboxes
    await Promise.all([this.#measuring, logs.close(), traces.close()])
    clearTimeout(timer)
    this.#collector.close()
  }

  #measure(): void {
    // What was not taken in an interval is of yesterday: sums go on, and nothing but resolution is lost.
    this.#round.abort()
    this.#round = new AbortController()
    const giveUp = AbortSignal.any([this.#round.signal, this.#stopping.signal])
    this.#measuring = this.#measuring.then(() => this.#export(giveUp))
  }

  async #export(giveUp: AbortSignal): Promise<void> {
    const { metrics, resource } = this.#options
    if (giveUp.aborted) return
    try {
      const families = await metrics.families()
      const interval = { startMs: this.#startMs, endMs: Date.now() }
      for (const request of encodeMetrics(resource, families, interval)) {
        await this.#lanes.metrics.deliver(request, giveUp)
        if (giveUp.aborted) return
      }
    } catch (thrown) {
      this.#failed(errorMessage(thrown))
    }
  }

  #outbox(signal: 'logs' | 'traces'): Outbox {
    return new Outbox({
      lane: this.#lanes[signal],
      longestBytes: this.#options.longestQueueBytes ?? LONGEST_QUEUE_BYTES,
      tooMany: TOO_MANY[signal],
      signal: this.#stopping.signal,
    })
  }

  #lane(signal: Signal): Lane {
    return new Lane({
      signal,
      collector: this.#collector,
      backoff: this.#options.backoff ?? BACKOFF,
      onFailure: (reason) => this.#failed(reason),
      onPartial: (of, { rejected, message }) =>
        this.#options.log.warn(
          { collector: this.#collector.name, signal: of, rejected, reason: excerpt(message) },
          'the collector has not taken all telemetry',
        ),
    })
  }

  #failed(reason: string): void {
    const now = performance.now()
    if (now - this.#lastLineAt < LINE_EVERY_MS) return
    this.#lastLineAt = now
    const { metrics, logs, traces } = this.#lanes
    this.#options.log.warn(
      {
        collector: this.#collector.name,
        reason,
        droppedPoints: metrics.dropped,
        droppedRecords: logs.dropped,
        droppedSpans: traces.dropped,
      },
      'cannot export telemetry',
    )
  }
}
