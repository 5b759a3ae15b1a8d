// SPDX-License-Identifier: Apache-2.0
// What sight costs a waypoint, feature by feature: microseconds of CPU that a request takes more with it. By itself:
// node bench/waypoint-sight.ts

import { pino } from 'pino'
import type { RequestHead } from '../mesh/http/message.ts'
import type { Workload } from '../mesh/model/types.ts'
import { EVERY_LINE } from '../mesh/telemetry/access-spec.ts'
import { Batches } from '../mesh/telemetry/otlp/batches.ts'
import { encodeLogs, type LogLine } from '../mesh/telemetry/otlp/encode-logs.ts'
import { encodeSpans, type Span } from '../mesh/telemetry/otlp/encode-spans.ts'
import { linePrinter } from '../mesh/telemetry/plain-lines.ts'
import { sampleService, sampleWorkload, ip } from '../test/model/samples.ts'
import { WaypointAccessLog } from '../waypoint/access-log.ts'
import type { ForwardOutcome, RequestRecord, RouteOutcome } from '../waypoint/exchange/types.ts'
import type { Call } from '../waypoint/listener/call.ts'
import { WaypointMetrics } from '../waypoint/metrics.ts'
import { observeCalls } from '../waypoint/observe-calls.ts'
import { SpanMaker } from '../waypoint/tracing/spans.ts'
import { Tracer } from '../waypoint/tracing/tracer.ts'

const REQUESTS = 50_000
const ROUNDS = 5
const LINES_IN_A_BATCH = 500
const RESOURCE = { 'service.name': 'ambit-waypoint' }

const ADDRESS = { address: ip('10.244.1.9'), port: 8080 }
const named = (name: string): Workload =>
  sampleWorkload(`${name}-6f7c9d5b4-x2x7q`, { workloadName: name, canonicalName: name })
const CALL: Call = {
  source: { address: ADDRESS, identity: undefined, workload: named('frontend') },
  target: { address: ip('10.96.0.50'), port: 80 },
  called: { kind: 'service', namespace: 'shop', name: 'catalog' },
  backend: { kind: 'service', service: 'shop/catalog.shop.svc.cluster.local', port: 80 },
  service: sampleService('catalog'),
  workload: undefined,
  startedAt: 0,
}
const FORWARD: ForwardOutcome = {
  kind: 'forward',
  backend: CALL.backend,
  target: undefined,
  authority: undefined,
  requestEdits: undefined,
  responseEdits: undefined,
  requestMs: 15_000,
  backendRequestMs: 0,
  retry: undefined,
  mirrors: [],
  session: undefined,
}
const ENDPOINT = { address: ADDRESS, workload: named('catalog') }

function recordOf(outcome: RouteOutcome): RequestRecord {
  return {
    startedAt: Date.now(),
    durationMs: 1.7,
    protocol: 'HTTP/1.1',
    method: 'GET',
    target: '/api/v1/items/17?full=1',
    authority: 'catalog.shop.svc.cluster.local',
    status: 200,
    flag: '-',
    message: undefined,
    requestBytes: 0,
    responseBytes: 1_024,
    attempts: 1,
    isGrpc: false,
    grpcStatus: undefined,
    endpoint: ENDPOINT,
    outcome,
  }
}

/** A head with these fields; looking one up costs as much as in a map. */
function headOf(fields: Readonly<Record<string, string>>): RequestHead {
  const known = new Map(Object.entries(fields))
  const value = ({ text }: { readonly text: string }): string | undefined => known.get(text)
  return {
    protocol: 'HTTP/1.1',
    method: 'GET',
    target: '/',
    authority: 'catalog',
    value,
    joined: value,
    each: () => undefined,
  }
}

/** Microseconds of CPU, the best of some rounds. */
function measure(work: () => void): number {
  const once = (): number => {
    const started = process.cpuUsage()
    for (let count = 0; count < REQUESTS; count += 1) work()
    const { user, system } = process.cpuUsage(started)
    return (user + system) / REQUESTS
  }
  once()
  return Math.min(...Array.from({ length: ROUNDS }, once))
}

const posted = { bytes: 0 }
const post = ({ body }: { readonly body: Uint8Array }): void => {
  posted.bytes += body.length
}

function metrics(): WaypointMetrics {
  return new WaypointMetrics({
    version: '0',
    tunnels: () => 0,
    connections: () => ({}),
    meshSizes: () => ({}),
    others: () => [],
  })
}

/** Each line as it is made, and written nowhere; the client's budget does not end. */
function accessLog(filter: string | undefined): () => void {
  const log = pino({}, { write: () => undefined })
  const print = linePrinter('access', () => undefined)
  const own = new WaypointAccessLog({ log: { log, print } }, { filter, sample: 1 })
  const observer = observeCalls({
    log,
    accessLog: own,
    metrics: metrics(),
    trace: undefined,
  })
  let client = 0
  return () => {
    client += 1
    // A client's budget is of lines a second: here there are as many clients as lines.
    const address = { address: ip(`10.1.${(client >> 8) & 255}.${client & 255}`), port: 4000 }
    observer.request({ ...CALL, source: { ...CALL.source, address } }, recordOf(FORWARD))
  }
}

/** One line in a batch of those that are exported. */
function exportedLine(): number {
  const lines: LogLine[] = []
  const log = pino({}, { write: () => undefined })
  const exported = new Batches<LogLine>({
    encode: (batch) => {
      lines.push(...batch)
      return new Uint8Array()
    },
    post,
  })
  const print = (): void => undefined
  const own = new WaypointAccessLog({ log: { log, print }, exported }, EVERY_LINE)
  const observer = observeCalls({
    log,
    accessLog: own,
    metrics: metrics(),
    trace: undefined,
  })
  for (let count = 0; count < LINES_IN_A_BATCH; count += 1)
    observer.request(CALL, recordOf(FORWARD))
  let batches = 0
  return measure(() => {
    batches += 1
    if (batches % LINES_IN_A_BATCH === 0) post({ body: encodeLogs(RESOURCE, lines, Date.now()) })
  })
}

function traced(fields: Readonly<Record<string, string>>, share: number): () => void {
  const tracer = new Tracer(share)
  const maker = new SpanMaker({ namespace: 'shop', gateway: 'way', pod: 'way-1', cluster: 'K' })
  let waiting: Span[] = []
  const head = headOf(fields)
  return () => {
    const outcome = tracer.traced(head, FORWARD)
    if (!('trace' in outcome)) return
    waiting.push(...maker.spansOf(CALL, recordOf(outcome), outcome.trace as never))
    if (waiting.length < 500) return
    post({ body: encodeSpans(waiting) })
    waiting = []
  }
}

const counted = metrics()
const TRACEPARENT = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0'
const metricsOnly = (): void => {
  const record = recordOf(FORWARD)
  counted.request(record)
  counted.requests.add(CALL.source, CALL.service, record)
}
const own = measure(() => void recordOf(FORWARD))
const withMetrics = measure(metricsOnly)

const FEATURES: readonly (readonly [name: string, microseconds: () => number])[] = [
  ['metrics', () => withMetrics - own],
  ['access line (JSON, not written)', () => measure(accessLog(undefined)) - withMetrics],
  [
    'access line that a filter leaves out',
    () => measure(accessLog('response_code >= 500')) - withMetrics,
  ],
  ['the export of a line by OTLP', exportedLine],
  [
    'tracing, request not traced by its caller',
    () => measure(traced({ traceparent: `${TRACEPARENT}0` }, 1)),
  ],
  ['tracing, nobody has decided, not drawn', () => measure(traced({}, 0))],
  [
    'tracing, traced: two spans by OTLP',
    () => measure(traced({ traceparent: `${TRACEPARENT}1` }, 0)) - own,
  ],
]
for (const [name, microseconds] of FEATURES)
  console.log(`${name.padEnd(44)} ${microseconds().toFixed(2)} us (best of ${ROUNDS})`)
