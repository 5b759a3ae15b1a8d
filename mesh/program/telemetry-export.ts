// SPDX-License-Identifier: Apache-2.0
// Export of telemetry by OTLP, if it is configured: only then is its code loaded.

import type { Logger } from '../telemetry/log.ts'
import type { MetricFamily, MetricsSource } from '../telemetry/metrics/family.ts'
import type { OtlpConfig } from '../telemetry/otlp/target.ts'
import type { EncodedRequest, Resource } from '../telemetry/otlp/wire.ts'
import { VERSION } from './version.ts'

/** What is exported, and how it is let go of. */
export interface TelemetryExport {
  readonly resource: Resource
  families(): readonly MetricFamily[]
  /** Takes log records, and how many there was no room for. */
  takeLogs(request: EncodedRequest, leftOut: number): void
  /** Takes spans, likewise. */
  takeSpans(request: EncodedRequest, leftOut: number): void
  close(): Promise<void>
}

/** Where a program runs. */
interface Whereabouts {
  readonly namespace: string
  readonly pod: string
  /** Undefined where it does not matter. */
  readonly node?: string
  readonly cluster: string
}

/** What all that a program exports says of it, by OpenTelemetry's names. */
export function resourceOf(
  service: string,
  { namespace, pod, node, cluster }: Whereabouts,
): Resource {
  return {
    'service.name': service,
    'service.namespace': namespace,
    'service.instance.id': `${namespace}.${pod}`,
    'service.version': VERSION,
    'k8s.cluster.name': cluster,
    'k8s.namespace.name': namespace,
    'k8s.pod.name': pod,
    ...(node !== undefined && { 'k8s.node.name': node }),
  }
}

/** Of a program's end: it must not hang for a collector. */
const FLUSH_DEADLINE_MS = 2_000

/** Undefined where no collector is named. Throws AMB_OTLP. */
export async function startTelemetryExport(
  config: OtlpConfig,
  resource: Resource,
  metrics: MetricsSource,
  log: Logger,
): Promise<TelemetryExport | undefined> {
  const { otlpEndpoint, otlpHeadersFile, otlpCaFile } = config
  if (otlpEndpoint === undefined && otlpHeadersFile === undefined && otlpCaFile === undefined)
    return undefined
  const { readTarget } = await import('../telemetry/otlp/target.ts')
  const target = await readTarget(config)
  if (target === undefined) return undefined
  const { OtlpExporter } = await import('../telemetry/otlp/exporter.ts')
  const { otlpIntervalMs: intervalMs } = config
  const exporter = new OtlpExporter({ target, resource, metrics, intervalMs, log })
  log.info({ collector: target.endpoint.origin, intervalMs }, 'telemetry is exported')
  return {
    resource,
    families: () => exporter.families(),
    takeLogs: (request, leftOut) => exporter.takeLogs(request, leftOut),
    takeSpans: (request, leftOut) => exporter.takeSpans(request, leftOut),
    close: () => exporter.close(FLUSH_DEADLINE_MS),
  }
}
