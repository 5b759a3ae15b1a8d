// SPDX-License-Identifier: Apache-2.0
// Istio's metrics of requests: who called whom, how long it took, and that neither pods nor strangers make series without bound.

import t from 'tap'
import type { MetricFamily } from '../../mesh/telemetry/metrics/family.ts'
import type { RequestRecord, RequestSource } from '../../waypoint/exchange/types.ts'
import { partyKey } from '../../mesh/telemetry/metrics/traffic-series.ts'
import { ip, sampleWorkload } from '../model/samples.ts'
import { RequestSeries } from '../../waypoint/request-series.ts'

const RECORD: RequestRecord = {
  startedAt: 0,
  durationMs: 7,
  protocol: 'HTTP/1.1',
  method: 'GET',
  target: '/',
  authority: 'cart',
  isGrpc: false,
  grpcStatus: undefined,
  status: 200,
  flag: '-',
  message: undefined,
  requestBytes: 0,
  responseBytes: 12,
  attempts: 1,
  endpoint: undefined,
  outcome: undefined,
}

const callerOf = (account: string): RequestSource => ({
  address: undefined,
  identity: `spiffe://cluster.local/ns/shop/sa/${account}` as NonNullable<
    RequestSource['identity']
  >,
  workload: undefined,
})

function valuesOf(families: readonly MetricFamily[], name: string): Map<string, number> {
  const values = new Map<string, number>()
  for (const { samples } of families)
    for (const sample of samples) {
      if (sample.name !== name) continue
      if (values.has(sample.labels)) throw new Error(`told twice: ${sample.labels}`)
      values.set(sample.labels, sample.value)
    }
  return values
}

void t.test('requests are told by caller and answer, their times by bounds that add up', (t) => {
  const series = new RequestSeries()
  series.add(callerOf('web'), undefined, RECORD)
  series.add(callerOf('web'), undefined, { ...RECORD, durationMs: 300 })
  series.add(callerOf('web'), undefined, { ...RECORD, status: 503, flag: 'UH' })
  const requests = [...valuesOf(series.families(), 'istio_requests_total')]
  t.equal(requests.length, 2)
  t.match(requests[0]?.[0] ?? '', /^reporter="waypoint",.*response_code="200"$/)
  t.match(requests[0]?.[0] ?? '', /source_principal="spiffe:\/\/cluster.local\/ns\/shop\/sa\/web"/)
  t.match(requests[1]?.[0] ?? '', /response_flags="UH".*response_code="503"/)
  t.equal(requests[0]?.[1], 2)
  const grpc = { ...RECORD, isGrpc: true, grpcStatus: 14 }
  const calls = new RequestSeries()
  calls.add(callerOf('web'), undefined, grpc)
  calls.add(callerOf('web'), undefined, { ...grpc, grpcStatus: 0 })
  t.match(
    [...valuesOf(calls.families(), 'istio_requests_total').keys()],
    [
      /request_protocol="grpc".*response_code="200",grpc_response_status="14"$/,
      /grpc_response_status="0"$/,
    ],
    'calls of gRPC by their own status',
  )
  const name = 'istio_request_duration_milliseconds'
  const buckets = valuesOf(series.families(), `${name}_bucket`)
  const bucket = (bound: string): number | undefined =>
    buckets.get(`${requests[0]?.[0] ?? ''},le="${bound}"`)
  t.strictSame(['5', '10', '250', '500', '+Inf'].map(bucket), [0, 1, 1, 2, 2])
  t.equal(valuesOf(series.families(), `${name}_sum`).get(requests[0]?.[0] ?? ''), 307)
  t.equal(valuesOf(series.families(), 'istio_response_bytes_sum').get(requests[0]?.[0] ?? ''), 24)
  t.end()
})

void t.test('beyond the cap all is counted, by the class of the answer', (t) => {
  const series = new RequestSeries(10)
  for (let at = 0; at < 1_000; at += 1)
    series.add(callerOf(`caller-${at}`), undefined, { ...RECORD, status: at % 2 === 0 ? 200 : 404 })
  t.equal(series.size, 12, 'the ten first, and one for each class')
  const requests = valuesOf(series.families(), 'istio_requests_total')
  t.equal(
    [...requests.values()].reduce((sum, value) => sum + value, 0),
    1_000,
  )
  t.end()
})

void t.test('an app that answers whatever there is takes no series from others', (t) => {
  let now = 0
  const series = new RequestSeries(100, () => now)
  const endpointOf = (name: string) => ({
    address: { address: ip('10.244.1.9'), port: 8080 },
    workload: sampleWorkload(name),
  })
  const odd = (at: number) => ({
    ...RECORD,
    endpoint: endpointOf('odd'),
    status: 200 + (at % 400),
    isGrpc: true,
    grpcStatus: at % 17,
  })
  const flood = (from: string): void => {
    for (let at = 0; at < 2_000; at += 1) series.add(callerOf(from), undefined, odd(at))
  }
  flood('web')
  const alone = series.size
  t.ok(alone > 30 && alone < 45, `${alone} of 100`)
  flood('jobs')
  t.ok(series.size <= alone + 4, 'for another caller of it, its usual answers')
  const honest = 40
  for (let at = 0; at < honest; at += 1)
    series.add(callerOf(`caller-${at}`), undefined, { ...RECORD, endpoint: endpointOf('cart') })
  const told = valuesOf(series.families(), 'istio_requests_total')
  const named = [...told.keys()].filter((labels) => /sa\/caller-\d+"/.test(labels))
  t.equal(named.length, honest, 'all others have theirs')
  t.equal(
    [...told.values()].reduce((sum, value) => sum + value, 0),
    4_000 + honest,
    'and everything is counted',
  )
  now = 400_000
  series.sweep({ workloads: new Set(), services: new Set() })
  flood('web')
  t.ok(series.size >= alone - honest, 'what ended is paid for no more')
  t.end()
})

void t.test(
  'the endpoint is named by what it has proven, and a plain caller is no mutual TLS',
  (t) => {
    const series = new RequestSeries()
    const address = { address: ip('10.244.1.9'), port: 8080 }
    const endpoint = { address, workload: sampleWorkload('catalog', { serviceAccount: 'catalog' }) }
    const outside = { address, workload: sampleWorkload('outside', { tunnelProtocol: 'none' }) }
    series.add(callerOf('web'), undefined, { ...RECORD, endpoint })
    series.add({ ...callerOf('web'), identity: undefined }, undefined, {
      ...RECORD,
      endpoint: outside,
    })
    const [first = '', second = ''] = [
      ...valuesOf(series.families(), 'istio_requests_total').keys(),
    ]
    t.match(first, /destination_principal="spiffe:\/\/cluster.local\/ns\/shop\/sa\/catalog"/)
    t.match(first, /connection_security_policy="mutual_tls"/)
    t.match(second, /destination_principal="unknown"/)
    t.match(second, /connection_security_policy="unknown"/)
    t.end()
  },
)

void t.test('a series ends with its workload, some minutes after its last request', (t) => {
  let now = 0
  const series = new RequestSeries(2_000, () => now)
  const address = { address: ip('10.244.1.9'), port: 8080 }
  const workload = sampleWorkload('catalog')
  const service = {
    key: 'k' as never,
    name: 'catalog',
    namespace: 'shop',
    hostname: 'catalog.shop',
  }
  const key = partyKey(workload.namespace, workload.workloadName, workload.canonicalRevision)
  const add = () =>
    series.add(callerOf('web'), service, { ...RECORD, endpoint: { address, workload } })
  const none = { workloads: new Set<string>(), services: new Set<string>() }
  const all = { workloads: new Set([key]), services: new Set([service.hostname]) }
  add()
  now = 300_000
  t.equal(series.hasIdle, false)
  t.equal(series.sweep(none), 0, 'a scrape has to see its last value')
  now = 361_000
  t.equal(series.hasIdle, true)
  t.equal(series.sweep(all), 0, 'it lives, however quiet')
  t.equal(series.sweep({ ...all, services: new Set() }), 1, 'its Service is gone')
  t.equal(series.size, 0)
  add()
  t.equal(series.size, 1, 'and who comes again begins anew')
  t.equal([...valuesOf(series.families(), 'istio_requests_total').values()][0], 1)
  now = 1_000_000
  t.equal(series.sweep({ ...all, workloads: new Set() }), 1, 'its workload is gone')
  t.end()
})
