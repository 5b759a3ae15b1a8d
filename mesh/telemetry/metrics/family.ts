// SPDX-License-Identifier: Apache-2.0
// A metric with all its series, as those read it who write it down: the page for Prometheus, and the export by OTLP.

import type { Registry } from 'prom-client'
import { labelText } from './label-text.ts'

export type MetricType = 'counter' | 'gauge' | 'histogram' | 'summary'

export interface MetricSample {
  /** The metric's own name, or that of a part of a histogram or summary. */
  readonly name: string
  /** As between the braces of Prometheus's format; see labelText(). */
  readonly labels: string
  readonly value: number
}

export interface MetricFamily {
  readonly name: string
  readonly help: string
  readonly type: MetricType
  /** To be gone through once, at once or by turns. */
  readonly samples: Iterable<MetricSample>
}

/** Whoever has metrics; what it gives is as of now. */
export interface MetricsSource {
  families(): Promise<readonly MetricFamily[]>
}

/** The metrics of a registry of prom-client. */
export async function registryFamilies(registry: Registry): Promise<readonly MetricFamily[]> {
  const metrics = await registry.getMetricsAsJSON()
  return metrics.map(({ name, help, type, values }) => ({
    name,
    help,
    // Its declaration says an enum, its values are these words.
    type: type as unknown as MetricType,
    samples: values.map((sample) => ({
      name: partName(sample) ?? name,
      labels: labelText(sample.labels),
      value: sample.value,
    })),
  }))
}

/** Samples of histograms and summaries say which part they are. */
function partName(sample: object): string | undefined {
  return 'metricName' in sample && typeof sample.metricName === 'string'
    ? sample.metricName
    : undefined
}
