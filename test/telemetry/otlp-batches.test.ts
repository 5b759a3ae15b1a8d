// SPDX-License-Identifier: Apache-2.0
// Access lines that are exported: the same that are written, in batches, at a bounded rate.

import { pino } from 'pino'
import t from 'tap'
import { AccessLog } from '../../agent/proxy/access-log.ts'
import { Batches } from '../../mesh/telemetry/otlp/batches.ts'
import type { LogLine } from '../../mesh/telemetry/otlp/encode-logs.ts'
import { type ConnectionRecord, UNKNOWN_PARTY } from '../../mesh/telemetry/connection-record.ts'
import { Waiter } from '../support/waiter.ts'

const RECORD: ConnectionRecord = {
  direction: 'outbound',
  startedAt: 0,
  source: { ...UNKNOWN_PARTY, name: 'frontend' },
  sourceAddress: undefined,
  destination: UNKNOWN_PARTY,
  destinationAddress: undefined,
  hboneTarget: undefined,
  service: undefined,
  security: 'mutual_tls',
  bytesToUpstream: 10,
  bytesToDownstream: 2_000,
  durationMs: 250,
  end: 'ok',
  message: undefined,
  policy: undefined,
  rule: undefined,
  madeOf: undefined,
  reports: undefined,
}
const NOTHING_MISSING = { keptBack: 0, sampledOut: 0 }

function exportedLog() {
  const batches: (readonly LogLine[])[] = []
  const leftOut: number[] = []
  const waiter = new Waiter()
  const exported = new Batches<LogLine>({
    encode: (lines) => {
      batches.push(lines)
      return Uint8Array.of()
    },
    post: (_request, count) => {
      leftOut.push(count)
      waiter.poke()
    },
  })
  const accessLog = new AccessLog({ log: pino({ level: 'silent' }), exported })
  return { accessLog, exported, batches, leftOut, waiter }
}

void t.test('a line is exported with its level, fields and what is missing before it', (t) => {
  const { accessLog, exported, batches } = exportedLog()
  accessLog.write('info', RECORD, NOTHING_MISSING)
  accessLog.write('error', RECORD, { keptBack: 3, sampledOut: 0 })
  t.same(batches, [], 'lines wait for one another')
  exported.flush()
  exported.flush()
  t.match(batches, [
    [
      { severity: 'info', body: 'connection complete', attributes: { 'src.workload': 'frontend' } },
      { severity: 'error', attributes: { bytes_sent: 10, lines_kept_back: 3 } },
    ],
  ])
  t.equal(batches.length, 1)
  t.end()
})

void t.test('more than a worker may export are left out, counted, and told of', async (t) => {
  const { accessLog, batches, leftOut, waiter } = exportedLog()
  for (let count = 0; count < 5_042; count += 1) accessLog.write('info', RECORD, NOTHING_MISSING)
  t.same(
    batches.map((lines) => lines.length),
    Array.from({ length: 10 }, () => 500),
  )
  await waiter.until(() => leftOut.length > 10)
  t.equal(leftOut.at(-1), 42)
  accessLog.write('info', RECORD, NOTHING_MISSING)
  await waiter.until(() => leftOut.length > 11)
  t.equal(batches.at(-1)?.length, 1, 'the next second has room again')
})
