// SPDX-License-Identifier: Apache-2.0
// A histogram as OTLP has it, one point for each label set, out of Prometheus's sums: there a bucket counts all that is in smaller ones.

import type { MetricFamily } from '../metrics/family.ts'
import { labelText, parseLabelText } from '../metrics/label-text.ts'

export interface HistogramPoint {
  /** Without `le`. */
  readonly labels: string
  count: number
  sum: number
  /** Upper bounds, ascending; what is beyond the last is counted in one more bucket. */
  readonly bounds: number[]
  readonly counts: number[]
}

/** The points of a family of the type histogram, whose buckets come in ascending order. */
export function histogramPoints({ name, samples }: MetricFamily): readonly HistogramPoint[] {
  const points = new Map<string, HistogramPoint>()
  for (const { name: part, labels: text, value } of samples) {
    const { le, ...labels } = Object.fromEntries(parseLabelText(text))
    const key = labelText(labels)
    const point = points.get(key) ?? { labels: key, count: 0, sum: 0, bounds: [], counts: [] }
    points.set(key, point)
    if (part === `${name}_sum`) point.sum = value
    else if (part === `${name}_count`) point.count = value
    else if (le !== undefined) {
      const below = point.counts.reduce((sum, count) => sum + count, 0)
      point.counts.push(value - below)
      if (le !== '+Inf') point.bounds.push(Number(le))
    }
  }
  return [...points.values()]
}
