// SPDX-License-Identifier: Apache-2.0
// Metrics as OTLP's, in requests of a bounded size: a collector takes 20 MiB by default, 20,000 label sets are more, and the thread that
// writes them has other things to do in between.

import { type BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import type { MetricFamily, MetricSample } from '../metrics/family.ts'
import { parseLabelText } from '../metrics/label-text.ts'
import { AttributeCache } from './attribute-cache.ts'
import { type HistogramPoint, histogramPoints } from './histogram-points.ts'
import {
  beginRequest,
  type EncodedRequest,
  finishRequest,
  open,
  type Resource,
  writeTime,
} from './wire.ts'

/** What the sums are sums since, and when they were read; milliseconds since the epoch. */
export interface Interval {
  readonly startMs: number
  readonly endMs: number
}

/** Some 230 KB with the labels of traffic, and a few milliseconds of the thread. */
const POINTS_IN_A_REQUEST = 250
const CUMULATIVE = 2
/** Fields of Metric, one of which says what it is. */
const DATA = { gauge: 5, sum: 7, histogram: 9 } as const

type Metric = { readonly name: string; readonly help: string } & (
  | { readonly kind: 'gauge' | 'sum'; readonly points: Iterable<MetricSample> }
  | { readonly kind: 'histogram'; readonly points: Iterable<HistogramPoint> }
)

/** ExportMetricsServiceRequests, each made when it is asked for. */
export function* encodeMetrics(
  resource: Resource,
  families: readonly MetricFamily[],
  interval: Interval,
  pointsInARequest: number = POINTS_IN_A_REQUEST,
): Generator<EncodedRequest, void, undefined> {
  const caches = { number: new AttributeCache(7), histogram: new AttributeCache(9) }
  let writer = beginRequest(resource)
  let items = 0
  for (const metric of families.flatMap(metricsOf)) {
    let isOpen = false
    for (const point of metric.points) {
      if (!isOpen) beginMetric(writer, metric)
      isOpen = true
      beginPoint(writer, metric, point, interval)
      const attributes = 'value' in point ? caches.number : caches.histogram
      for (const [name, text] of parseLabelText(point.labels)) attributes.write(writer, name, text)
      writer.join()
      items += 1
      if (items < pointsInARequest) continue
      endMetric(writer)
      isOpen = false
      yield { body: finishRequest(writer), items }
      writer = beginRequest(resource)
      items = 0
    }
    if (isOpen) endMetric(writer)
  }
  if (items > 0) yield { body: finishRequest(writer), items }
}

function metricsOf(family: MetricFamily): readonly Metric[] {
  const { name, help, type, samples } = family
  if (type === 'histogram') return [{ name, help, kind: type, points: histogramPoints(family) }]
  if (type !== 'summary')
    return [{ name, help, kind: type === 'counter' ? 'sum' : 'gauge', points: samples }]
  // OTLP keeps summaries for old systems only: quantiles are gauges, and sum and count are sums.
  return [...Map.groupBy(samples, (sample) => sample.name)].map(([part, points]) => ({
    name: part,
    help,
    kind: part === name ? 'gauge' : 'sum',
    points,
  }))
}

function beginMetric(writer: BinaryWriter, { name, help, kind }: Metric): void {
  open(writer, 2)
  writer.tag(1, WireType.LengthDelimited).string(name)
  writer.tag(2, WireType.LengthDelimited).string(help)
  open(writer, DATA[kind])
  if (kind !== 'gauge') writer.tag(2, WireType.Varint).int32(CUMULATIVE)
  if (kind === 'sum') writer.tag(3, WireType.Varint).bool(true)
}

function endMetric(writer: BinaryWriter): void {
  writer.join().join()
}

/** All but its attributes, which come next, and its end. */
function beginPoint(
  writer: BinaryWriter,
  { kind }: Metric,
  point: MetricSample | HistogramPoint,
  { startMs, endMs }: Interval,
): void {
  open(writer, 1)
  if (kind !== 'gauge') writeTime(writer, 2, startMs)
  writeTime(writer, 3, endMs)
  if ('value' in point) writer.tag(4, WireType.Bit64).double(point.value)
  else writeBuckets(writer, point)
}

function writeBuckets(writer: BinaryWriter, { count, sum, bounds, counts }: HistogramPoint): void {
  writer.tag(4, WireType.Bit64).fixed64(count).tag(5, WireType.Bit64).double(sum)
  open(writer, 6)
  for (const each of counts) writer.fixed64(each)
  writer.join()
  open(writer, 7)
  for (const bound of bounds) writer.double(bound)
  writer.join()
}
