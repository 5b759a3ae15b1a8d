// SPDX-License-Identifier: Apache-2.0
// Puts on record which pods of this node are not served though they belong to the mesh.

import type { AuditJournal } from '../../mesh/audit/journal.ts'
import { AmbitError } from '../../mesh/errors.ts'
import type { EventTarget } from '../enrolment/index.ts'

/** Records that a pod could not be enrolled. */
export function recordUnserved(
  journal: AuditJournal,
  { uid, namespace, name, serviceAccount }: EventTarget & { readonly serviceAccount: string },
  error: Error,
): void {
  const code = error instanceof AmbitError ? error.code : undefined
  journal.record(uid, {
    kind: 'enrolment.refused',
    time: Date.now(),
    namespace,
    who: `pod ${namespace}/${name}`,
    what: 'to be served by the mesh',
    why: error.message,
    details: { uid, serviceAccount, code },
  })
}
