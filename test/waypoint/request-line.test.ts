// SPDX-License-Identifier: Apache-2.0
// The access line of a request: its text and its fields say the same, whatever a client calls itself, and what is remembered of one client,
// endpoint or route is never told of another.

import fc from 'fast-check'
import t from 'tap'
import type { RequestRecord } from '../../waypoint/exchange/types.ts'
import type { Call } from '../../waypoint/listener/call.ts'
import { RequestLine } from '../../waypoint/request-line.ts'
import type { RoutedForward } from '../../waypoint/router/types.ts'
import { ip, sampleService, sampleWorkload } from '../model/samples.ts'
import { FORWARD } from './harness.ts'

const CATALOG = sampleService('catalog')

function callFrom(name: string, lastOctet: number): Call {
  return {
    source: {
      address: { address: ip(`10.244.1.${lastOctet}`), port: 40_000 },
      identity: undefined,
      workload: sampleWorkload(name),
    },
    called: { kind: 'service', namespace: 'shop', name: 'catalog' },
    target: { address: ip('10.96.0.50'), port: 80 },
    backend: { kind: 'service', service: CATALOG.key, port: 80 },
    service: CATALOG,
    workload: undefined,
    startedAt: 0,
  }
}

function routed(name: string): RoutedForward {
  return {
    ...FORWARD,
    backend: { kind: 'service', service: CATALOG.key, port: 80 },
    route: { kind: 'HTTPRoute', namespace: 'shop', name, rule: '0' },
  }
}

const RECORD: RequestRecord = {
  startedAt: 0,
  durationMs: 1.6,
  protocol: 'HTTP/1.1',
  method: 'GET',
  target: '/items?id=3',
  authority: 'catalog.shop',
  status: 200,
  isGrpc: false,
  grpcStatus: undefined,
  flag: '-',
  message: undefined,
  requestBytes: 0,
  responseBytes: 1_024,
  attempts: 1,
  endpoint: undefined,
  outcome: undefined,
}

const parsed = (line: RequestLine): unknown => JSON.parse(`{${line.json}}`)

void t.test('a line says who called whom, by which route, and how it went', (t) => {
  const endpoint = {
    address: { address: ip('10.244.2.7'), port: 8080 },
    workload: sampleWorkload('catalog-1'),
  }
  const record = { ...RECORD, endpoint, outcome: routed('canary') }
  t.match(parsed(new RequestLine(callFrom('frontend', 5), record, undefined)), {
    'src.addr': '10.244.1.5:40000',
    'src.workload': 'frontend',
    'dst.service': CATALOG.hostname,
    'dst.addr': '10.244.2.7:8080',
    'dst.workload': 'catalog-1',
    route: 'shop/canary/0',
    path: '/items?id=3',
    response_code: 200,
    bytes_sent: 1_024,
    duration: '2ms',
  })
  t.end()
})

void t.test('text and fields say the same, for every client, endpoint and route', (t) => {
  const calls = [callFrom('frontend', 5), callFrom('batch', 6)]
  const endpoints = [
    undefined,
    ...['catalog-1', 'catalog-2'].map((name, at) => ({
      address: { address: ip(`10.244.2.${at}`), port: 8080 },
      workload: at === 0 ? sampleWorkload(name) : undefined,
    })),
  ]
  const outcomes = [
    undefined,
    routed('stable'),
    routed('canary'),
    {
      kind: 'answer' as const,
      status: 403,
      headers: [],
      body: '',
      flag: 'RBAC' as const,
      refusal: {
        reason: 'policyDenied',
        message: 'no "rule"',
        by: { policy: 'shop/p', rule: 2, madeOf: undefined },
      },
    },
  ]
  const text = fc.string({
    unit: fc.constantFrom('"', '\\', '\n', '\ud800', 'é', '😀', 'a', '/'),
    maxLength: 400,
  })
  const record = fc.record({
    target: text,
    authority: text,
    method: text,
    message: fc.option(text, { nil: undefined }),
    status: fc.integer({ min: 0, max: 599 }),
    grpcStatus: fc.option(fc.integer({ min: 0, max: 16 }), { nil: undefined }),
    durationMs: fc.double({ min: 0, max: 1e6, noNaN: true }),
    requestBytes: fc.nat(),
    endpoint: fc.constantFrom(...endpoints),
    outcome: fc.constantFrom(...outcomes),
  })
  const trace = fc.constantFrom(undefined, { traceId: '4bf92f3577b34da6a3ce929d0e0e4736' })
  fc.assert(
    fc.property(fc.constantFrom(...calls), record, trace, (call, told, traced) => {
      const line = new RequestLine(call, { ...RECORD, ...told }, traced as never)
      // What is unknown is left out of both.
      return `{${line.json}}` === JSON.stringify(line.fields)
    }),
    { numRuns: 300 },
  )
  t.end()
})
