// SPDX-License-Identifier: Apache-2.0
// The audit by OTLP: each line once, those from before the export began and the last ones included.

import t from 'tap'
import type { AuditEvent } from '../../mesh/audit/event.ts'
import { AuditJournal } from '../../mesh/audit/journal.ts'
import { exportAudit } from '../../mesh/program/audit-export.ts'
import { decoded } from '../telemetry/collector.ts'

const TIME = Date.UTC(2026, 0, 2, 3, 4, 5)
const event = (change: Partial<AuditEvent>): AuditEvent => ({
  kind: 'connection.denied',
  time: TIME,
  namespace: 'shop',
  who: 'spiffe://cluster.local/ns/shop/sa/intruder',
  what: 'pod shop/catalog at 10.0.0.7:8080',
  why: 'closed due to policy rejection',
  ...change,
})

interface LogRecord {
  readonly timeUnixNano: string
  readonly severityText: string
  readonly body: { readonly stringValue: string }
  readonly attributes: readonly { readonly key: string; readonly value: object }[]
}

await t.test('each line of the audit is a log record, and none comes twice', async (t) => {
  const got: LogRecord[] = []
  const journal = new AuditJournal({
    write: () => undefined,
    budget: { burst: 1, perSecond: 0 },
    now: () => 0,
  })
  journal.record(
    'catalog',
    event({ object: 'AuthorizationPolicy shop/frontend-only', rule: 0, details: { leftOut: 3 } }),
  )
  const end = await exportAudit(journal, {
    resource: { 'service.name': 'ambit-agent' },
    takeLogs: ({ body }) => {
      const { resourceLogs } = decoded('logs', body) as {
        resourceLogs: readonly { scopeLogs: readonly { logRecords: readonly LogRecord[] }[] }[]
      }
      got.push(...resourceLogs.flatMap(({ scopeLogs }) => scopeLogs.flatMap((s) => s.logRecords)))
    },
  })
  journal.record(undefined, event({ kind: 'certificate.issued' }))
  journal.record('catalog', event({ why: 'again' }))
  end()
  journal.record(undefined, event({ why: 'after the end' }))
  t.strictSame(
    got.map(({ severityText, body }) => [severityText, body.stringValue]),
    [
      ['ERROR', 'connection.denied'],
      ['INFO', 'certificate.issued'],
      ['INFO', 'leftOut'],
    ],
    'what its owner caused too much of is told as a count, at the end at the latest',
  )
  t.equal(got[0]?.timeUnixNano, `${TIME}000000`)
  const attributes = Object.fromEntries(
    (got[0]?.attributes ?? []).map(({ key, value }) => [key, Object.values(value)[0]]),
  )
  t.match(attributes, {
    audit: 'connection.denied',
    namespace: 'shop',
    who: 'spiffe://cluster.local/ns/shop/sa/intruder',
    object: 'AuthorizationPolicy shop/frontend-only',
    rule: '0',
    leftOut: '3',
  })
  t.notOk('time' in attributes, 'the record has it')
})
