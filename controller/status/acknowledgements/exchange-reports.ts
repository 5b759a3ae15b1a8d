// SPDX-License-Identifier: Apache-2.0
// Each replica knows what the agents and waypoints connected to itself have acknowledged; the one that writes statuses hears of the others' by a ConfigMap
// of each, which goes with its pod. Who leads writes none, so that a single replica writes nothing.

import { delay } from '../../../mesh/async/backoff.ts'
import {
  CONFIG_MAPS,
  type ConfigMap,
  type KubeApi,
  type KubeFailure,
  watchResource,
} from '../../../mesh/kube/index.ts'
import type { Logger } from '../../../mesh/telemetry/log.ts'
import { type HeardReports, isSameReport } from './heard-reports.ts'
import { encodeReport, type Report, type ReportData } from './report.ts'

export interface ReportTimings {
  /** Between two writes when nothing changes. */
  readonly beatMs: number
  /** Between two writes at least, of a small report. */
  readonly pauseMs: number
  /** A report that stands still so long is nobody's, and taken away. */
  readonly abandonedMs: number
}

export interface ReportExchangeOptions {
  readonly namespace: string
  /** Of this replica. */
  readonly podName: string
  /** Of its pod; undefined where it runs as none, or is not known yet. */
  readonly podUid: () => string | undefined
  /** What there is to tell now. */
  readonly report: () => Report
  /** Calls back when that may have changed; returns the unsubscriber. */
  readonly onChange: (listener: () => void) => () => void
  readonly heard: HeardReports
  readonly isLeader: () => boolean
  readonly log: Logger
  readonly timings?: ReportTimings
}

const TIMINGS: ReportTimings = { beatMs: 15_000, pauseMs: 1_000, abandonedMs: 600_000 }
/** A report of so many characters is worth one pause; a larger one is written the less often. */
const CHARACTERS_A_PAUSE = 64 * 1024
const LABEL = 'ambit.io/acknowledgements'
const BEAT = 'ambit.io/beat'
/** The process ends: a report that stays is believed a minute longer, and taken away by another replica. */
const REMOVAL_DEADLINE_MS = 2_000

/** Hears of other replicas, and tells them of this one, until the signal aborts; resolves when its own report is gone. */
export async function exchangeReports(
  api: KubeApi,
  options: ReportExchangeOptions,
  signal: AbortSignal,
): Promise<void> {
  const { namespace, heard, log } = options
  const writer = new ReportWriter(api, options, signal)
  const take = (configMap: ConfigMap): void => {
    const { name = '', annotations = {} } = configMap.metadata ?? {}
    if (name === writer.name) return
    heard.take(name, { beat: annotations[BEAT] ?? '', data: configMap.data ?? {} })
  }
  const watch = watchResource(api, CONFIG_MAPS, {
    namespace,
    labelSelector: `${LABEL}=true`,
    logger: log,
    signal,
    added: take,
    updated: (_previous, current) => take(current),
    deleted: ({ metadata }) => heard.drop(metadata?.name ?? ''),
  })
  try {
    await writer.run()
  } finally {
    await watch.close()
    heard.close()
  }
}

class ReportWriter {
  readonly name: string
  readonly #api: KubeApi
  readonly #options: ReportExchangeOptions
  readonly #timings: ReportTimings
  readonly #signal: AbortSignal
  /** What stands in the ConfigMap; undefined: nothing of ours, as far as is known. */
  #written: ReportData | undefined
  #writes = 0
  #refusal: string | undefined

  constructor(api: KubeApi, options: ReportExchangeOptions, signal: AbortSignal) {
    this.#api = api
    this.#options = options
    this.#timings = options.timings ?? TIMINGS
    this.#signal = signal
    this.name = `ambit-acknowledged-${options.podName}`
  }

  async run(): Promise<void> {
    const { onChange, isLeader } = this.#options
    const signal = this.#signal
    let changed = Promise.withResolvers<void>()
    const unsubscribe = onChange(() => changed.resolve())
    while (!signal.aborted) {
      changed = Promise.withResolvers()
      const isFirst = this.#written === undefined
      if (isLeader()) await this.#lead()
      else await this.#write()
      const { nodes = '', waypoints = '' } = this.#written ?? {}
      const length = nodes.length + waypoints.length
      await delay(this.#timings.pauseMs * Math.ceil((length + 1) / CHARACTERS_A_PAUSE), signal)
      // Nobody believes what was not seen moving: the first is told twice.
      if (isFirst && this.#written !== undefined) continue
      await Promise.race([changed.promise, delay(this.#timings.beatMs, signal)])
    }
    unsubscribe()
    if (this.#written !== undefined) await this.#remove(this.name)
  }

  async #write(): Promise<void> {
    const data = encodeReport(this.#options.report())
    const { namespace, podName, podUid } = this.#options
    const uid = podUid()
    this.#writes += 1
    const isSame = this.#written !== undefined && isSameReport(this.#written, data)
    const metadata = {
      labels: { [LABEL]: 'true' },
      // Another process of the same pod begins anew.
      annotations: { [BEAT]: `${process.pid}.${this.#writes}` },
      ...(uid !== undefined && {
        ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name: podName, uid }],
      }),
    }
    const target = { namespace, name: this.name }
    const content = isSame ? { metadata } : { metadata, data }
    const signal = this.#signal
    const patched = await this.#api.patch(CONFIG_MAPS, target, content, { signal })
    const written =
      patched.ok || patched.error.kind !== 'notFound'
        ? patched
        : await this.#api.create(
            CONFIG_MAPS,
            { metadata: { ...metadata, ...target }, data },
            { signal },
          )
    if (written.ok) this.#written = data
    this.#tell(
      written.ok ? undefined : written.error,
      'cannot tell other replicas of my agents and waypoints',
    )
  }

  /** Who leads is asked by nobody, and takes away what others have left behind. */
  async #lead(): Promise<void> {
    if (this.#written !== undefined) await this.#remove(this.name)
    this.#written = undefined
    for (const replica of this.#options.heard.silentFor(this.#timings.abandonedMs))
      await this.#remove(replica)
  }

  async #remove(name: string): Promise<void> {
    const { namespace } = this.#options
    const target = { namespace, name }
    const removed = await this.#api.delete(CONFIG_MAPS, target, { deadlineMs: REMOVAL_DEADLINE_MS })
    const failure = removed.ok || removed.error.kind === 'notFound' ? undefined : removed.error
    this.#tell(failure, 'cannot take a report of agents and waypoints away')
  }

  /** Once for each reason. */
  #tell(failure: KubeFailure | undefined, message: string): void {
    if (failure?.kind === 'aborted') return
    const refusal = failure?.message
    if (refusal !== undefined && refusal !== this.#refusal)
      this.#options.log.warn({ configMap: this.name, reason: refusal }, message)
    this.#refusal = refusal
  }
}
