// SPDX-License-Identifier: Apache-2.0
// Series of traffic end with their workloads, and not before; a churn of pods leaves neither series nor memory behind.

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import { livingParties } from '../../agent/admin/living-parties.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import type { WorkloadUid } from '../../mesh/model/types.ts'
import { UNKNOWN_PARTY } from '../../mesh/telemetry/connection-record.ts'
import { exposition } from '../../mesh/telemetry/metrics/exposition.ts'
import { labelText } from '../../mesh/telemetry/metrics/label-text.ts'
import {
  ENDED_SERIES_MS,
  type LivingParties,
  partyKey,
  TrafficSeries,
} from '../../mesh/telemetry/metrics/traffic-series.ts'
import { type TrafficDelta, trafficLabels } from '../../mesh/telemetry/traffic.ts'
import { sampleWorkload } from '../model/samples.ts'

setFlagsFromString('--expose-gc')
// V8 has put it there, by the flag.
const collect = runInNewContext('gc') as () => void

const NOBODY: LivingParties = { own: new Set(), workloads: new Set(), services: new Set() }

function delta(source: string, destination: string, flag = '-'): TrafficDelta {
  const party = (name: string) => ({ ...UNKNOWN_PARTY, name, namespace: 'shop' })
  return {
    labels: trafficLabels(
      {
        direction: 'outbound',
        startedAt: 0,
        sourceAddress: undefined,
        source: party(source),
        destinationAddress: undefined,
        hboneTarget: undefined,
        destination: party(destination),
        service: undefined,
        security: 'mutual_tls',
      },
      flag,
      'node_local',
    ),
    opened: 1,
    closed: 0,
    failed: 0,
    sentBytes: 10,
    receivedBytes: 5,
  }
}

const living = (own: readonly string[], workloads: readonly string[]): LivingParties => ({
  own: new Set(own.map((name) => partyKey('shop', name, undefined))),
  workloads: new Set(workloads.map((name) => partyKey('shop', name, undefined))),
  services: new Set(),
})

function text(series: TrafficSeries): string {
  return [...exposition(series.families(), 'prometheus')].join('')
}

void t.test('a series stays while both its ends live, however quiet, and goes after them', (t) => {
  let now = 0
  const series = new TrafficSeries({ now: () => now })
  series.add([delta('frontend', 'catalog')])
  now += 100 * ENDED_SERIES_MS
  t.ok(series.hasIdle)
  t.equal(series.sweep(living(['frontend'], ['catalog'])), 0, 'a counter that lives never resets')

  series.add([delta('frontend', 'catalog')])
  now += ENDED_SERIES_MS - 1
  t.equal(series.sweep(NOBODY), 0, 'what it counted last is seen by several scrapes')
  t.match(text(series), /istio_tcp_connections_opened_total\{[^}]*"frontend"[^}]*\} 2\n/)
  now += 1
  t.equal(series.sweep(living([], ['catalog', 'frontend'])), 1, 'the pod is no more on this node')
  t.notMatch(text(series), /frontend/)

  series.add([delta('frontend', 'catalog')])
  now += ENDED_SERIES_MS
  t.equal(series.sweep(living(['frontend'], [])), 1, 'the peer is gone from the mesh')
  series.add([delta('frontend', 'unknown')])
  now += ENDED_SERIES_MS
  t.equal(series.sweep(living(['frontend'], [])), 0, 'whoever is outside the mesh never goes')
  t.end()
})

void t.test('a new revision is another workload: the series of the old one end', (t) => {
  const mesh = new MeshState()
  const revised = (canonicalRevision: string) => ({
    kind: 'workload' as const,
    workload: sampleWorkload('catalog-1', {
      uid: 'c//Pod/shop/catalog-1' as WorkloadUid,
      namespace: 'shop',
      workloadName: 'catalog',
      canonicalRevision,
    }),
  })
  const pods = [
    { namespace: 'shop', name: 'catalog-1', workloadUid: 'c//Pod/shop/catalog-1' as WorkloadUid },
    { namespace: 'shop', name: 'new', workloadUid: 'c//Pod/shop/new' as WorkloadUid },
  ]
  mesh.apply([revised('v1')])
  t.ok(livingParties(mesh, pods).own.has(partyKey('shop', 'catalog', 'v1')))
  t.ok(livingParties(mesh, pods).own.has(partyKey('shop', 'new', undefined)), 'by its own name')
  mesh.apply([revised('v2')])
  const after = livingParties(mesh, pods)
  t.notOk(after.own.has(partyKey('shop', 'catalog', 'v1')))
  t.ok(after.workloads.has(partyKey('shop', 'catalog', 'v2')))
  t.end()
})

void t.test('ten thousand workloads that come and go leave no series and no memory', (t) => {
  let now = 0
  const series = new TrafficSeries({ now: () => now })
  const heap = (): number => {
    collect()
    return process.memoryUsage().heapUsed
  }
  let afterFirst = 0
  for (let round = 0; round < 5; round += 1) {
    for (let pod = 0; pod < 10_000; pod += 1)
      series.add([delta('frontend', `job-${round}-${pod}`), delta('frontend', 'catalog')])
    t.equal(series.size, 10_001)
    now += ENDED_SERIES_MS - 1
    series.add([delta('frontend', 'catalog')])
    now += 1
    t.equal(series.sweep(living(['frontend'], ['catalog'])), 10_000)
    t.equal(series.size, 1)
    if (round === 0) afterFirst = heap()
  }
  t.match(text(series), /opened_total\{[^}]*"catalog"[^}]*\} 50005\n/, 'those who stay count on')
  t.ok(heap() - afterFirst < 4e6, `${heap() - afterFirst} bytes more after four rounds more`)
  t.end()
})

void t.test('beyond the cap new pairs share one series, until there is room again', (t) => {
  let now = 0
  const series = new TrafficSeries({ maxSeries: 2, now: () => now })
  for (let pod = 0; pod < 1_000; pod += 1) series.add([delta('scanner', `job-${pod}`, 'CONNECT')])
  t.equal(series.size, 3)
  t.equal(series.folded, 998)
  t.match(
    text(series),
    /opened_total\{reporter="source",source_workload="unknown",[^}]*response_flags="CONNECT"[^}]*\} 998\n/,
  )
  now += ENDED_SERIES_MS
  series.sweep(NOBODY)
  t.equal(series.size, 1, 'the shared series is nobody’s and stays')
  series.add([delta('scanner', 'job-1')])
  t.match(text(series), /"job-1"/)
  t.end()
})

void t.test('label values keep what Prometheus would take for its own', (t) => {
  const labels = { one: 'a "quoted" \\ word', two: 'two\nlines', three: '' }
  const written = labelText(labels)
  t.equal(written, String.raw`one="a \"quoted\" \\ word",two="two\nlines",three=""`)
  t.end()
})
