// SPDX-License-Identifier: Apache-2.0
// Metrics, access lines and spans as OTLP, read by the official definitions (otlp.binpb).

import t from 'tap'
import { encodeLogs } from '../../mesh/telemetry/otlp/encode-logs.ts'
import { encodeSpans, type Span } from '../../mesh/telemetry/otlp/encode-spans.ts'
import { encodeMetrics } from '../../mesh/telemetry/otlp/encode-metrics.ts'
import type { MetricFamily } from '../../mesh/telemetry/metrics/family.ts'
import { decoded } from './collector.ts'

const INTERVAL = { startMs: 1_000, endMs: 61_000 }

const messages = (requests: readonly { readonly body: Uint8Array }[]): unknown =>
  requests.map(({ body }) => decoded('metrics', body))

const RESOURCE = { 'service.name': 'ambit-agent', 'k8s.node.name': 'node-a' }

void t.test('metrics are what the official definitions say', (t) => {
  const families = [
    {
      name: 'istio_tcp_connections_opened_total',
      help: 'Opened.',
      type: 'counter' as const,
      samples: [
        {
          name: 'istio_tcp_connections_opened_total',
          labels: String.raw`reporter="source",source_workload="a \"b\""`,
          value: 7,
        },
      ],
    },
    {
      name: 'depth',
      help: 'Deep.',
      type: 'gauge' as const,
      samples: [{ name: 'depth', labels: '', value: 1.5 }],
    },
  ]
  const requests = [...encodeMetrics(RESOURCE, families, INTERVAL)]
  t.match(requests, [{ items: 2 }])
  t.match(messages(requests), [
    {
      resourceMetrics: [
        {
          resource: {
            attributes: [
              { key: 'service.name', value: { stringValue: 'ambit-agent' } },
              { key: 'k8s.node.name', value: { stringValue: 'node-a' } },
            ],
          },
          scopeMetrics: [
            {
              scope: { name: 'ambit' },
              metrics: [
                {
                  name: 'istio_tcp_connections_opened_total',
                  description: 'Opened.',
                  sum: {
                    aggregationTemporality: 'AGGREGATION_TEMPORALITY_CUMULATIVE',
                    isMonotonic: true,
                    dataPoints: [
                      {
                        startTimeUnixNano: '1000000000',
                        timeUnixNano: '61000000000',
                        asDouble: 7,
                        attributes: [
                          { key: 'reporter', value: { stringValue: 'source' } },
                          { key: 'source_workload', value: { stringValue: 'a "b"' } },
                        ],
                      },
                    ],
                  },
                },
                { name: 'depth', gauge: { dataPoints: [{ asDouble: 1.5 }] } },
              ],
            },
          ],
        },
      ],
    },
  ])
  t.end()
})

void t.test('access lines are log records with the fields as attributes', (t) => {
  const line = {
    severity: 'error' as const,
    atMs: 5_000,
    body: 'connection complete',
    attributes: { 'src.workload': 'frontend', bytes_sent: 12, 'dst.service': undefined },
  }
  t.match(decoded('logs', encodeLogs(RESOURCE, [line], 6_000)), {
    resourceLogs: [
      {
        scopeLogs: [
          {
            logRecords: [
              {
                timeUnixNano: '5000000000',
                observedTimeUnixNano: '6000000000',
                severityNumber: 'SEVERITY_NUMBER_ERROR',
                severityText: 'ERROR',
                body: { stringValue: 'connection complete' },
                attributes: [
                  { key: 'src.workload', value: { stringValue: 'frontend' } },
                  { key: 'bytes_sent', value: { intValue: '12' } },
                ],
              },
            ],
          },
        ],
      },
    ],
  })
  t.end()
})

void t.test('a histogram has its buckets, a summary is gauges and sums', (t) => {
  const part = (name: string, labels: string, value: number) => ({ name, labels, value })
  const families: readonly MetricFamily[] = [
    {
      name: 'gc',
      help: 'Pauses.',
      type: 'histogram',
      samples: [
        part('gc_bucket', 'le="0.1",kind="minor"', 3),
        part('gc_bucket', 'le="1",kind="minor"', 5),
        part('gc_bucket', 'le="+Inf",kind="minor"', 6),
        part('gc_sum', 'kind="minor"', 4.5),
        part('gc_count', 'kind="minor"', 6),
      ],
    },
    {
      name: 'wait',
      help: 'Waits.',
      type: 'summary',
      samples: [
        part('wait', 'quantile="0.5"', 2),
        part('wait_sum', '', 9),
        part('wait_count', '', 4),
      ],
    },
  ]
  const metrics = [
    {
      name: 'gc',
      histogram: {
        aggregationTemporality: 'AGGREGATION_TEMPORALITY_CUMULATIVE',
        dataPoints: [
          {
            attributes: [{ key: 'kind', value: { stringValue: 'minor' } }],
            count: '6',
            sum: 4.5,
            explicitBounds: [0.1, 1],
            bucketCounts: ['3', '2', '1'],
          },
        ],
      },
    },
    { name: 'wait', gauge: { dataPoints: [{ asDouble: 2 }] } },
    { name: 'wait_sum', sum: { isMonotonic: true, dataPoints: [{ asDouble: 9 }] } },
    { name: 'wait_count', sum: { dataPoints: [{ asDouble: 4 }] } },
  ]
  t.match(messages([...encodeMetrics(RESOURCE, families, INTERVAL)]), [
    { resourceMetrics: [{ scopeMetrics: [{ metrics }] }] },
  ])
  t.end()
})

void t.test('many series are several requests, each whole, and none is lost', (t) => {
  const samples = Array.from({ length: 7 }, (_, index) => ({
    name: 'many',
    labels: `of="${index}"`,
    value: index,
  }))
  const families: readonly MetricFamily[] = [
    { name: 'many', help: 'Many.', type: 'counter', samples },
    { name: 'none', help: 'None.', type: 'gauge', samples: [] },
    { name: 'one', help: 'One.', type: 'gauge', samples: [{ name: 'one', labels: '', value: 1 }] },
  ]
  const requests = [...encodeMetrics(RESOURCE, families, INTERVAL, 3)]
  t.same(
    requests.map(({ items }) => items),
    [3, 3, 2],
  )
  const of = (metrics: unknown) => ({
    resourceMetrics: [{ resource: { attributes: [{}, {}] }, scopeMetrics: [{ metrics }] }],
  })
  const points = (...values: readonly number[]) => ({
    name: 'many',
    sum: { dataPoints: values.map((asDouble) => ({ asDouble })) },
  })
  t.match(messages(requests), [
    of([points(0, 1, 2)]),
    of([points(3, 4, 5)]),
    of([points(6), { name: 'one', gauge: {} }]),
  ])
  t.notMatch(JSON.stringify(messages(requests)), /"none"/)
  t.end()
})

void t.test('spans are what the official definitions say, each of its own resource', (t) => {
  const frontend = { 'service.name': 'frontend.shop' }
  const client: Span = {
    resource: frontend,
    traceId: '4bf92f3577b34da6a3ce929d0e0e4736',
    spanId: '00f067aa0ba902b7',
    parentId: undefined,
    state: undefined,
    kind: 'client',
    name: 'GET catalog.shop',
    startMs: 5_000,
    endMs: 5_002.5,
    attributes: { 'http.request.method': 'GET', 'http.response.status_code': 503, left: undefined },
    fault: 'no healthy upstream',
  }
  const server: Span = {
    ...client,
    resource: { 'service.name': 'catalog.shop' },
    spanId: 'b7ad6b7169203331',
    parentId: client.spanId,
    state: 'a=b',
    kind: 'server',
    fault: undefined,
  }
  const base64 = (hex: string): string => Buffer.from(hex, 'hex').toString('base64')
  const told = decoded('traces', encodeSpans([client, server, client]))
  t.match(told, {
    resourceSpans: [
      {
        resource: {
          attributes: [{ key: 'service.name', value: { stringValue: 'frontend.shop' } }],
        },
        scopeSpans: [
          {
            scope: { name: 'ambit' },
            spans: [
              {
                traceId: base64(client.traceId),
                spanId: base64(client.spanId),
                name: 'GET catalog.shop',
                kind: 'SPAN_KIND_CLIENT',
                startTimeUnixNano: '5000000000',
                endTimeUnixNano: '5002500000',
                attributes: [
                  { key: 'http.request.method', value: { stringValue: 'GET' } },
                  { key: 'http.response.status_code', value: { intValue: '503' } },
                ],
                status: { code: 'STATUS_CODE_ERROR', message: 'no healthy upstream' },
              },
              { kind: 'SPAN_KIND_CLIENT' },
            ],
          },
        ],
      },
      {
        resource: { attributes: [{ value: { stringValue: 'catalog.shop' } }] },
        scopeSpans: [
          {
            spans: [
              {
                spanId: base64(server.spanId),
                parentSpanId: base64(client.spanId),
                traceState: 'a=b',
                kind: 'SPAN_KIND_SERVER',
              },
            ],
          },
        ],
      },
    ],
  })
  const text = JSON.stringify(told)
  t.equal(text.split('parentSpanId').length, 2, 'a root has no parent')
  t.equal(text.split('"status"').length, 3, 'and what went well no status')
  t.strictSame(decoded('traces', encodeSpans([])), {})
  t.end()
})
