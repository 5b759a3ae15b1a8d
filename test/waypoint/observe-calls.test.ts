// SPDX-License-Identifier: Apache-2.0
// Which lines a sample may leave out: those of requests that went as they should, and no others.

import { pino } from 'pino'
import t from 'tap'
import { linePrinter } from '../../mesh/telemetry/plain-lines.ts'
import { WaypointAccessLog } from '../../waypoint/access-log.ts'
import type { RequestRecord } from '../../waypoint/exchange/types.ts'
import type { Call } from '../../waypoint/listener/call.ts'
import { WaypointMetrics } from '../../waypoint/metrics.ts'
import { observeCalls } from '../../waypoint/observe-calls.ts'
import { ip, sampleService } from '../model/samples.ts'

const CALL: Call = {
  source: {
    address: { address: ip('10.244.1.5'), port: 40_000 },
    identity: undefined,
    workload: undefined,
  },
  called: { kind: 'service', namespace: 'shop', name: 'catalog' },
  target: { address: ip('10.96.0.50'), port: 80 },
  backend: { kind: 'service', service: 'shop/catalog.shop.svc.cluster.local', port: 80 },
  service: sampleService('catalog'),
  workload: undefined,
  startedAt: 0,
}

const RECORD: RequestRecord = {
  startedAt: 0,
  durationMs: 1,
  protocol: 'HTTP/2',
  method: 'POST',
  target: '/shop.Cart/Add',
  authority: 'catalog',
  status: 200,
  isGrpc: true,
  grpcStatus: 0,
  flag: '-',
  message: undefined,
  requestBytes: 0,
  responseBytes: 0,
  attempts: 1,
  endpoint: undefined,
  outcome: undefined,
}

void t.test('of what failed every line is written, whatever the sample', (t) => {
  const lines: Record<string, unknown>[] = []
  const print = linePrinter('access', (line) => void lines.push(JSON.parse(line) as never))
  const log = pino({}, { write: () => undefined })
  const metrics = new WaypointMetrics({
    version: 'test',
    tunnels: () => 0,
    connections: () => ({}),
    meshSizes: () => ({}),
    others: () => [],
  })
  const accessLog = new WaypointAccessLog(
    { log: { log, print }, random: () => 0.99 },
    { filter: undefined, sample: 0.01 },
  )
  const observer = observeCalls({ log, accessLog, metrics, trace: undefined })
  const isWritten = (record: Partial<RequestRecord>): boolean => {
    lines.length = 0
    observer.request(CALL, { ...RECORD, ...record })
    return lines.length === 1
  }
  const plain = { isGrpc: false, grpcStatus: undefined }
  t.notOk(isWritten({}), 'a call that went well')
  t.notOk(isWritten({ grpcStatus: 5 }), 'NOT_FOUND, the answer to a wrong question')
  t.ok(isWritten({ grpcStatus: 13 }), 'INTERNAL')
  t.match(lines, [{ level: 'error', grpc_status: 13 }])
  t.ok(isWritten({ grpcStatus: undefined }), 'no status at all')
  t.notOk(isWritten({ ...plain, status: 404 }))
  t.ok(isWritten({ ...plain, status: 503, flag: 'UC' }))
  t.ok(isWritten({ ...plain, status: 200, flag: 'UC' }), 'an answer that was cut')
  t.ok(isWritten({ ...plain, status: 200, flag: 'UT' }))
  t.notOk(isWritten({ ...plain, status: 200, flag: 'DC' }), 'a client that has gone')
  t.ok(isWritten({ ...plain, status: 403, flag: 'RBAC' }), 'what a policy refused')
  t.notOk(isWritten({ ...plain, status: 403 }), 'what the app refused')
  t.end()
})
