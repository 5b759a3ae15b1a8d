// SPDX-License-Identifier: Apache-2.0
// The audit as OTLP log records, beside the access lines: a record for each line, with its fields as attributes. Bounded as the journal is.

import type { AuditEntry, AuditJournal } from '../audit/journal.ts'
import type { LogLine } from '../telemetry/otlp/encode-logs.ts'
import type { TelemetryExport } from './telemetry-export.ts'

/** Exports what the journal holds and gets from now on; gives what tells and sends the rest, and ends it. */
export async function exportAudit(
  journal: AuditJournal,
  exported: Pick<TelemetryExport, 'resource' | 'takeLogs'>,
): Promise<() => void> {
  const [{ Batches }, { encodeLogs }] = await Promise.all([
    import('../telemetry/otlp/batches.ts'),
    import('../telemetry/otlp/encode-logs.ts'),
  ])
  const batches = new Batches<LogLine>({
    encode: (lines, observedMs) => encodeLogs(exported.resource, lines, observedMs),
    post: (request, leftOut) => exported.takeLogs(request, leftOut),
  })
  let { first: next } = journal
  const takeNew = (): void => {
    for (; next < journal.next; next += 1) {
      const entry = journal.at(next)
      if (entry !== undefined) batches.add(auditRecord(entry))
    }
  }
  const unsubscribe = journal.subscribe(takeNew)
  takeNew()
  return () => {
    journal.close()
    unsubscribe()
    batches.flush()
  }
}

/** What was refused or closed is an error, as in the access log. */
function auditRecord({ line, time }: AuditEntry): LogLine {
  const { time: _time, ...fields } = JSON.parse(line) as Record<string, string | number>
  const kind = String(fields['audit'])
  return {
    severity: /\.(denied|refused|closed)$/.test(kind) ? 'error' : 'info',
    atMs: time,
    body: kind,
    attributes: fields,
  }
}
