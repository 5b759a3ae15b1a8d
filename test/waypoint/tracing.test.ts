// SPDX-License-Identifier: Apache-2.0
// Traces of requests through a waypoint: what apps hear of them, and what is told of whom.

import { once } from 'node:events'
import type { Test } from 'tap'
import t from 'tap'
import type { IncomingTunnel } from '../../mesh/hbone/types.ts'
import { spiffeId } from '../../mesh/identity/spiffe.ts'
import type { RouteOutcome } from '../../waypoint/exchange/types.ts'
import { SpanMaker } from '../../waypoint/tracing/spans.ts'
import { Tracer, traceOf } from '../../waypoint/tracing/tracer.ts'
import { ip, sampleService, sampleWorkload } from '../model/samples.ts'
import { makeWaypointWorld, type World } from './world.ts'

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'
const SPAN = '00f067aa0ba902b7'

/** An app that answers with the head of what it was asked. */
function mirror(incoming: IncomingTunnel): void {
  const tunnel = incoming.accept({})
  tunnel.on('error', () => undefined)
  let text = ''
  tunnel.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1')
    if (!text.endsWith('\r\n\r\n')) return
    tunnel.write(`HTTP/1.1 200 OK\r\ncontent-length: ${text.length}\r\n\r\n${text}`)
    text = ''
  })
}

/** Sends a request with these headers; the headers that the app has seen, by lower-case name. */
async function seenBy(world: World, headers: readonly string[]): Promise<Map<string, string>> {
  const tunnel = await world.tunnel()
  tunnel.write(
    ['GET /items?secret=1 HTTP/1.1', 'host: catalog', ...headers, 'connection: close', '', ''].join(
      '\r\n',
    ),
  )
  let answer = ''
  tunnel.on('data', (chunk: Buffer) => (answer += chunk.toString('latin1')))
  await once(tunnel, 'end')
  tunnel.end()
  const [, asked = ''] = answer.split(/\r\n\r\n(?=GET )/)
  const fields = asked
    .split('\r\n')
    .slice(1)
    .filter((line) => line !== '')
  return new Map(
    fields.map((line) => {
      const colon = line.indexOf(':')
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()]
    }),
  )
}

async function tracedWorld(t: Test, tracer: Tracer | undefined): Promise<World> {
  const world = await makeWaypointWorld(t, { protocol: 'http1', ...(tracer && { tracer }) })
  await world.addPod('catalog', mirror)
  return world
}

void t.test(
  'an app hears of the span that is told of its work, in the form of its client',
  async (t) => {
    const world = await tracedWorld(t, new Tracer(0))
    const w3c = await seenBy(world, [`traceparent: 00-${TRACE}-${SPAN}-01`, 'tracestate: a=b'])
    await world.told.until(() => world.requests.length === 1)
    const trace = traceOf(world.requests[0]?.outcome)
    t.match(trace, { traceId: TRACE, parentId: SPAN, state: 'a=b' })
    t.equal(w3c.get('traceparent'), `00-${TRACE}-${trace?.serverSpanId ?? ''}-01`)
    t.equal(w3c.get('tracestate'), 'a=b')
    t.not(trace?.serverSpanId, trace?.clientSpanId)

    const b3 = await seenBy(world, [`b3: ${TRACE}-${SPAN}-1`])
    await world.told.until(() => world.requests.length === 2)
    const second = traceOf(world.requests[1]?.outcome)
    t.equal(b3.get('b3'), `${TRACE}-${second?.serverSpanId ?? ''}-1`)
    t.notOk(b3.has('traceparent'))

    const many = await seenBy(world, [
      `X-B3-TraceId: ${TRACE}`,
      `X-B3-SpanId: ${SPAN}`,
      'X-B3-Sampled: 1',
    ])
    await world.told.until(() => world.requests.length === 3)
    const third = traceOf(world.requests[2]?.outcome)
    t.match([many.get('x-b3-traceid'), many.get('x-b3-spanid')], [TRACE, third?.serverSpanId])
  },
)

void t.test(
  'who calls decides; where nobody has, a share is traced and the app is told',
  async (t) => {
    const world = await tracedWorld(t, new Tracer(0.5, () => 0.4))
    const no = await seenBy(world, [`traceparent: 00-${TRACE}-${SPAN}-00`])
    t.equal(no.get('traceparent'), `00-${TRACE}-${SPAN}-00`, 'as it came')
    const begun = await seenBy(world, ['tracestate: left=over'])
    await world.told.until(() => world.requests.length === 2)
    t.equal(traceOf(world.requests[0]?.outcome), undefined)
    const trace = traceOf(world.requests[1]?.outcome)
    t.match(trace, { parentId: undefined, traceId: /^[0-9a-f]{32}$/ })
    t.equal(begun.get('traceparent'), `00-${trace?.traceId ?? ''}-${trace?.serverSpanId ?? ''}-01`)
    t.notOk(begun.has('tracestate'), 'it belongs to no trace')

    const quiet = await tracedWorld(t, new Tracer(0.5, () => 0.6))
    const untraced = await seenBy(quiet, [])
    await quiet.told.until(() => quiet.requests.length === 1)
    t.match(untraced.get('traceparent'), /-00$/, 'those after it know what was decided')
    t.equal(traceOf(quiet.requests[0]?.outcome), undefined)
  },
)

void t.test('without a collector the headers of traces go through as they are', async (t) => {
  const world = await tracedWorld(t, undefined)
  const seen = await seenBy(world, [`traceparent: 00-${TRACE}-${SPAN}-01`, 'b3: 0'])
  t.match([seen.get('traceparent'), seen.get('b3')], [`00-${TRACE}-${SPAN}-01`, '0'])
  t.notOk((await seenBy(world, [])).has('traceparent'))
})

void t.test('spans are the workloads\u2019 own, and say what became of the request', (t) => {
  const maker = new SpanMaker({ namespace: 'shop', gateway: 'way', pod: 'way-1', cluster: 'K' })
  const identity = spiffeId({
    trustDomain: 'cluster.local',
    namespace: 'shop',
    serviceAccount: 'frontend',
  })
  const frontend = sampleWorkload('frontend-1', {
    canonicalName: 'frontend',
    workloadName: 'frontend',
  })
  const catalog = sampleWorkload('catalog-1', { canonicalName: 'catalog', workloadName: 'catalog' })
  const call = {
    source: { address: { address: ip('10.244.1.5'), port: 40_000 }, identity, workload: frontend },
    target: { address: ip('10.96.0.50'), port: 80 },
    service: sampleService('catalog'),
  }
  const record = {
    startedAt: 1_000,
    durationMs: 7,
    protocol: 'HTTP/1.1' as const,
    method: 'GET',
    target: '/items?secret=1',
    authority: 'catalog',
    status: 200,
    flag: '-' as const,
    message: undefined,
    requestBytes: 0,
    responseBytes: 12,
    isGrpc: false,
    grpcStatus: undefined,
    attempts: 2,
    endpoint: { address: { address: ip('10.244.1.9'), port: 8080 }, workload: catalog },
    outcome: undefined,
  }
  const trace = {
    traceId: TRACE,
    parentId: SPAN,
    state: undefined,
    clientSpanId: 'c'.repeat(16),
    serverSpanId: 'e'.repeat(16),
  }
  const spans = maker.spansOf(call, record, trace)
  t.match(spans, [
    {
      kind: 'client',
      resource: { 'service.name': 'frontend.shop', 'k8s.pod.name': 'frontend-1' },
      name: /^GET catalog/,
      parentId: SPAN,
      spanId: trace.clientSpanId,
      startMs: 1_000,
      endMs: 1_007,
      fault: undefined,
      attributes: {
        'http.request.method': 'GET',
        'url.path': '/items',
        'http.response.status_code': 200,
        'http.request.resend_count': 1,
        'istio.source_workload': 'frontend',
        'istio.destination_workload': 'catalog',
        'ambit.source_principal': identity,
        'network.protocol.version': '1.1',
        'ambit.waypoint': 'shop/way',
      },
    },
    {
      kind: 'server',
      resource: { 'service.name': 'catalog.shop' },
      parentId: trace.clientSpanId,
      spanId: trace.serverSpanId,
    },
  ])
  t.notMatch(JSON.stringify(spans), /secret/, 'no query')

  const denied = { ...record, status: 403, flag: 'RBAC' as const, endpoint: undefined }
  t.match(maker.spansOf(call, denied, trace), [
    { kind: 'client', fault: 'RBAC', attributes: { 'error.type': 'RBAC' } },
  ])
  t.equal(maker.spansOf(call, denied, trace).length, 1, 'nobody has worked')
  const missing = maker.spansOf(call, { ...record, status: 404 }, trace)
  t.match(missing, [{ fault: '' }, { fault: undefined }], 'a fault of the caller alone')
  const rpc = (grpcStatus: number | undefined): readonly unknown[] =>
    maker
      .spansOf(call, { ...record, target: '/shop.Cart/Add', isGrpc: true, grpcStatus }, trace)
      .map(({ fault, attributes }) => [fault, attributes['error.type']])
  t.strictSame(rpc(0), [
    [undefined, undefined],
    [undefined, undefined],
  ])
  t.strictSame(
    rpc(5),
    [
      ['grpc-status 5', '5'],
      [undefined, '5'],
    ],
    'NOT_FOUND: the caller asked for the wrong thing',
  )
  for (const status of [13, undefined])
    t.match(
      rpc(status).map((each) => (each as unknown[])[0]),
      Array.from({ length: 2 }, () => `grpc-status ${status ?? 2}`),
      'a fault of the server, as is an end without a status',
    )
  t.match(
    maker.spansOf(
      call,
      { ...record, target: '/shop.Cart/Add', isGrpc: true, grpcStatus: 13 },
      trace,
    ),
    [
      {
        attributes: {
          'rpc.system': 'grpc',
          'rpc.service': 'shop.Cart',
          'rpc.method': 'Add',
          'rpc.grpc.status_code': 13,
        },
      },
    ],
  )
  const odd = maker.spansOf({ ...call, service: undefined }, { ...record, method: 'BREW' }, trace)
  t.match(odd, [{ name: 'HTTP', attributes: { 'http.request.method': '_OTHER' } }])
  t.end()
})

void t.test('what a route writes of a trace itself is as it wants it', (t) => {
  const tracer = new Tracer(1)
  const name = { text: 'traceparent', id: 0 }
  const requestEdits = { dropped: [name], added: [], lines: Buffer.alloc(0) }
  const outcome = { kind: 'forward', requestEdits } as unknown as RouteOutcome
  const head = { joined: () => undefined } as never
  t.match(tracer.traced(head, outcome), { requestEdits, trace: { traceId: /^[0-9a-f]{32}$/ } })
  t.end()
})
