// SPDX-License-Identifier: Apache-2.0
// Which requests have a line in a waypoint's access log, and that one client cannot fill it.

import { pino } from 'pino'
import t from 'tap'
import { EVERY_LINE } from '../../mesh/telemetry/access-spec.ts'
import { Batches } from '../../mesh/telemetry/otlp/batches.ts'
import type { LogLine } from '../../mesh/telemetry/otlp/encode-logs.ts'
import { jsonOfFields, linePrinter } from '../../mesh/telemetry/plain-lines.ts'
import { readRequestFilter, WaypointAccessLog } from '../../waypoint/access-log.ts'

/** A log whose lines the test reads. */
function accessLog(random?: () => number) {
  const lines: Record<string, unknown>[] = []
  const exported: LogLine[] = []
  const batches = new Batches<LogLine>({
    encode: (batch) => {
      exported.push(...batch)
      return Uint8Array.of()
    },
    post: () => undefined,
  })
  const print = linePrinter('access', (line) => void lines.push(JSON.parse(line) as never))
  const log = { log: pino({}), print }
  const own = new WaypointAccessLog(
    { log, exported: batches, ...(random && { random }) },
    EVERY_LINE,
  )
  const write = (fields: Record<string, string | number>, durationMs = 1, client = '10.0.0.1') =>
    own.write(
      Number(fields['response_code'] ?? 200) >= 500 ? 'error' : 'info',
      client,
      { fields: { ...fields }, json: jsonOfFields(fields), durationMs },
      'request complete',
    )
  return { own, lines, exported, batches, write }
}

void t.test('a filter asks about the fields of requests', (t) => {
  const { own, lines, write } = accessLog()
  const wanted = (filter: string): readonly unknown[] => {
    own.set({ filter, sample: 1 })
    lines.length = 0
    write({ path: '/fast', 'dst.workload': 'catalog', response_code: 200 })
    write({ path: '/slow', method: 'POST', response_code: 200, bytes_sent: 9 }, 900)
    write({ path: '/bad', response_code: 503, error: 'no healthy upstream' })
    return lines.map(({ path }) => path)
  }
  t.strictSame(wanted('response_code >= 500 || duration > 500'), ['/slow', '/bad'])
  t.strictSame(wanted('has(error)'), ['/bad'])
  t.strictSame(wanted('dst.workload == "catalog"'), ['/fast'])
  t.strictSame(wanted('method in ["POST", "PUT"] && bytes_sent == 9'), ['/slow'])
  t.strictSame(wanted('!path.startsWith("/s")'), ['/fast', '/bad'])
  own.set({ filter: undefined, sample: 1 })
  const some = (filter: string): readonly unknown[] => {
    own.set({ filter, sample: 1 })
    lines.length = 0
    write({ path: '/plain' })
    write({ path: '/ok', grpc_status: 0 })
    write({ path: '/gone', grpc_status: 14 })
    write({ path: '/no', response_code: 403, rule: 0, policy: 'shop/p' })
    return lines.map(({ path }) => path)
  }
  t.strictSame(some('grpc_status == 0'), ['/ok'])
  t.strictSame(some('grpc_status != 0'), ['/gone'], 'what is no call of gRPC has no status')
  t.strictSame(some('has(grpc_status) && !(grpc_status in [14])'), ['/ok'])
  t.strictSame(some('rule == 0'), ['/no'])
  t.strictSame(some('!has(rule) && response_code >= 0'), ['/plain', '/ok', '/gone'])
  t.match(readRequestFilter('direction == "inbound"'), { ok: false, error: /is no field/ })
  t.strictSame(readRequestFilter(' has(error) '), { ok: true, value: 'has(error)' })
  t.end()
})

void t.test('a sample leaves out what ended well, never an error, and says how much', (t) => {
  let next = 0
  const { own, lines, exported, batches, write } = accessLog(() => next)
  own.set({ filter: undefined, sample: 0.5 })
  next = 0.7
  write({ path: '/one' })
  write({ path: '/two' })
  write({ path: '/bad', response_code: 503 })
  next = 0.2
  write({ path: '/three' })
  t.match(lines, [
    { path: '/bad', level: 'error', lines_sampled_out: 2, msg: 'request complete' },
    { path: '/three', level: 'info' },
  ])
  t.notOk('lines_sampled_out' in (lines[1] ?? {}))
  batches.flush()
  t.match(exported, [
    {
      severity: 'error',
      body: 'request complete',
      attributes: { path: '/bad', lines_sampled_out: 2 },
    },
    { severity: 'info', attributes: { path: '/three' } },
  ])
  t.end()
})

void t.test('one client cannot fill the log, and others have their lines', (t) => {
  const { lines, write } = accessLog()
  for (let count = 0; count < 20_000; count += 1) write({ path: '/' })
  t.ok(lines.length < 19_000, 'it is kept back')
  const before = lines.length
  write({ path: '/other' }, 1, '10.0.0.2')
  t.equal(lines.length, before + 1)
  const told = lines.reduce((sum, line) => sum + Number(line['lines_kept_back'] ?? 0), 0)
  t.equal(told + lines.length, 20_001, 'what is missing is counted')
  t.end()
})
