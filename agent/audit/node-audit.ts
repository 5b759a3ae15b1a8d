// SPDX-License-Identifier: Apache-2.0
// What the workers report of connections, put on record; and the pods' owners told of it.

import type { AuditJournal } from '../../mesh/audit/journal.ts'
import type { PodAuditEvents } from '../proxy/pod-audit.ts'
import type { AuditedPod } from '../proxy/worker/worker-protocol.ts'
import type { DenialEvents } from './denial-events.ts'

/** Records what a worker reports of one pod. `denials` is there once the API server is. */
export function recordConnections(
  journal: AuditJournal,
  denials: Pick<DenialEvents, 'note'> | undefined,
  pod: AuditedPod,
  { events, leftOut }: PodAuditEvents,
): void {
  const [first] = events
  if (first === undefined) journal.leaveOut(pod.uid, pod.namespace, leftOut)
  for (const event of events) {
    const more = event === first ? leftOut : 0
    journal.record(pod.uid, event, more)
    if (event.kind === 'connection.denied' || event.kind === 'connection.closed')
      denials?.note(pod, event, 1 + more)
  }
}
