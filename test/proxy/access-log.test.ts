// SPDX-License-Identifier: Apache-2.0
// Which connections have an access line: errors always, a share of the others, those a filter lets through, and a count of what is missing.

import { pino } from 'pino'
import t from 'tap'
import { AccessLog } from '../../agent/proxy/access-log.ts'
import { Connection, type Folder } from '../../agent/proxy/connection.ts'
import { TrafficCounters } from '../../agent/proxy/traffic-counters.ts'
import { Drain } from '../../mesh/async/drain.ts'
import type { AccessSpec } from '../../mesh/telemetry/access-spec.ts'
import { UNKNOWN_PARTY } from '../../mesh/telemetry/connection-record.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import { LogBudget } from '../../mesh/telemetry/log-budget.ts'

import { textStream } from '../../mesh/telemetry/log-text.ts'

type Line = Record<string, unknown>

/** A pod whose connections end as told; `chance` is what is drawn for each. */
function pod(options: { readonly chance?: () => number; readonly level?: string } = {}) {
  const lines: Line[] = []
  const audited: string[] = []
  const log = pino(
    { level: options.level ?? 'info', base: null },
    { write: (text: string) => void lines.push(JSON.parse(text) as Line) },
  )
  const accessLog = new AccessLog({ log, random: options.chance ?? (() => 0.5) })
  const folder: Folder = {
    sinks: {
      accessLog,
      counters: new TrafficCounters(() => undefined, 'node_local'),
      postAudit: () => undefined,
    },
    accessBudget: new LogBudget({ burst: 100, perSecond: 1 }),
    audit: { record: ({ end }) => void audited.push(end) },
    drain: new Drain<Connection>(),
  }
  const end = (reason: EndReason, namespace = 'shop'): void => {
    const connection = new Connection(
      {
        direction: 'inbound',
        source: { ...UNKNOWN_PARTY, name: 'frontend', namespace },
        sourceAddress: undefined,
        destination: UNKNOWN_PARTY,
        destinationAddress: undefined,
        hboneTarget: undefined,
        service: undefined,
        security: 'unknown',
      },
      folder,
    )
    if (reason === 'ok') connection.opened(undefined)
    connection.finish(reason, { bytesToUpstream: 1, bytesToDownstream: 2 })
  }
  const set = (spec: Partial<AccessSpec>): void =>
    accessLog.set({ filter: undefined, sample: 1, ...spec })
  return { lines, audited, end, set }
}

void t.test(
  'a share of the connections that end well, all others, and how many are left out',
  (t) => {
    const draws = [0.95, 0.05, 0.95, 0.95]
    const { lines, end, set } = pod({ chance: () => draws.shift() ?? 0.95 })
    set({ sample: 0.1 })
    for (let count = 0; count < 4; count += 1) end('ok')
    t.equal(lines.length, 1)
    t.equal(lines[0]?.['lines_sampled_out'], 1)
    end('policyDenied')
    end('connectFailed')
    t.equal(lines.length, 3)
    t.equal(lines[1]?.['lines_sampled_out'], 2)
    t.equal(lines[2]?.['lines_sampled_out'], undefined)
    set({ sample: 0 })
    end('ok')
    t.equal(lines.length, 3)
    set({})
    end('ok')
    t.equal(lines.length, 4, 'every line again')
    t.end()
  },
)

void t.test('a filter keeps the lines it is not true of, never what goes on record', (t) => {
  const { lines, audited, end, set } = pod()
  set({ filter: 'src.namespace == "shop" && has(error)' })
  end('ok')
  end('policyDenied', 'legacy')
  t.equal(lines.length, 0)
  t.same(audited, ['policyDenied'], 'the audit is not the access log')
  end('policyDenied')
  t.equal(lines.length, 1)
  t.equal(lines[0]?.['lines_sampled_out'], undefined, 'what is filtered is not wanted')
  set({ filter: 'not an expression' })
  end('ok')
  t.equal(lines.length, 2)
  t.end()
})

void t.test('at the level debug the beginning of a connection has a line, too', (t) => {
  const { lines, end } = pod({ level: 'debug' })
  end('ok')
  t.match(lines, [
    { msg: 'connection opened', 'src.workload': 'frontend', direction: 'inbound' },
    { msg: 'connection complete', bytes_sent: 2, bytes_recv: 1 },
  ])
  t.notOk('duration' in (lines[0] ?? {}))
  t.end()
})

void t.test('a line as text has the columns and quotes of ztunnel', (t) => {
  const written: string[] = []
  const stream = textStream((line) => void written.push(line))
  const line = {
    level: 'error',
    time: '2026-11-28T17:00:00.000Z',
    component: 'access',
    'src.addr': '10.0.0.1:4000',
    'src.workload': 'a"b\nc',
    bytes_sent: 5,
    duration: '2ms',
    msg: 'connection complete',
  }
  stream.write(`${JSON.stringify(line)}\n`)
  t.equal(
    written[0],
    '2026-11-28T17:00:00.000Z\terror\taccess\tconnection complete\tsrc.addr=10.0.0.1:4000 ' +
      String.raw`src.workload="a\"b\nc" bytes_sent=5 duration="2ms"` +
      '\n',
  )
  stream.write('no JSON\n')
  t.equal(written[1], 'no JSON\n')

  t.end()
})
