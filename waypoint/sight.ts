// SPDX-License-Identifier: Apache-2.0
// What a waypoint tells of what it carries, put together: access log, traces, and the observer that feeds them and the counters. What is
// exported besides is gathered here in batches; the code for that is loaded only where there is somebody to export to.

import type { TelemetryExport } from '../mesh/program/telemetry-export.ts'
import type { AccessSpec } from '../mesh/telemetry/access-spec.ts'
import type { LogLevels } from '../mesh/telemetry/log-levels.ts'
import { createBatchedLogger, type Logger } from '../mesh/telemetry/log.ts'
import { readRequestFilter, WaypointAccessLog } from './access-log.ts'
import type { WaypointConfig } from './config.ts'
import type { CallObserver } from './listener/observer.ts'
import type { WaypointMetrics } from './metrics.ts'
import { observeCalls } from './observe-calls.ts'
import { SpanMaker } from './tracing/spans.ts'
import { Tracer } from './tracing/tracer.ts'

export interface SightParts {
  readonly config: WaypointConfig
  readonly log: Logger
  readonly levels: LogLevels
  readonly metrics: WaypointMetrics
  readonly exported: TelemetryExport | undefined
}

export interface Sight {
  readonly observer: CallObserver
  readonly tracer: Tracer | undefined
  /** For the routes of the admin API. */
  readonly access: {
    readonly initial: AccessSpec
    readonly readFilter: typeof readRequestFilter
    readonly onChange: (spec: AccessSpec) => void
  }
  /** Writes and hands on what waits. */
  flush(): void
}

/** Puts it together. */
export async function makeSight(parts: SightParts): Promise<Sight> {
  const { config, log, levels, metrics, exported } = parts
  const { logLevel, logFormat, accessLogFilter: filter, accessLogSample: sample } = config
  const initial = { filter, sample }
  const batches = exported && (await makeBatches(exported))
  const access = createBatchedLogger('access', logLevel, logFormat)
  levels.follow(access.log)
  const accessLog = new WaypointAccessLog({ log: access, exported: batches?.lines }, initial)
  const spans = new SpanMaker({
    namespace: config.namespace,
    gateway: config.gatewayName,
    pod: config.podName,
    cluster: config.clusterId,
  })
  return {
    observer: observeCalls({
      log: log.child({ part: 'calls' }),
      accessLog,
      metrics,
      trace:
        batches &&
        ((call, record, trace) => {
          for (const span of spans.spansOf(call, record, trace)) batches.spans.add(span)
        }),
    }),
    tracer: batches && new Tracer(config.traceSample),
    access: { initial, readFilter: readRequestFilter, onChange: (spec) => accessLog.set(spec) },
    flush: () => {
      access.flush()
      batches?.lines.flush()
      batches?.spans.flush()
    },
  }
}

async function makeBatches(exported: TelemetryExport) {
  const [{ Batches }, { encodeLogs }, { encodeSpans }] = await Promise.all([
    import('../mesh/telemetry/otlp/batches.ts'),
    import('../mesh/telemetry/otlp/encode-logs.ts'),
    import('../mesh/telemetry/otlp/encode-spans.ts'),
  ])
  const { resource } = exported
  return {
    lines: new Batches<Parameters<typeof encodeLogs>[1][number]>({
      encode: (lines, observedMs) => encodeLogs(resource, lines, observedMs),
      post: (request, leftOut) => exported.takeLogs(request, leftOut),
    }),
    spans: new Batches<Parameters<typeof encodeSpans>[0][number]>({
      encode: encodeSpans,
      post: (request, leftOut) => exported.takeSpans(request, leftOut),
    }),
  }
}
