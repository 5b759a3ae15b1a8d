// SPDX-License-Identifier: Apache-2.0
// What agents have put on record, as pages show it; certificates that were issued are no news here. Pure.

import { readAuditLine } from '../../tables/audit.ts'
import type { AuditPage, AuditView } from '../view.ts'
import { count, optionalText, text } from './reading.ts'
import type { Snapshot } from './snapshot.ts'
import { standingOf } from './standing.ts'

/** An agent's line; undefined for what is none. */
export function readAudit(raw: string): AuditView | undefined {
  const line = readAuditLine(raw)
  if (line === undefined || Number.isNaN(Date.parse(line.time))) return undefined
  const { audit, who, what, object, rule, why, leftOut } = line.fields
  return {
    time: line.time,
    kind: text(audit),
    who: text(who),
    what: text(what),
    object: optionalText(object),
    rule: count(rule),
    why: text(why),
    leftOut: count(leftOut),
  }
}

/** The newest of both, newest first; equal ones once, since what is read again overlaps. */
export function mergeAudit(
  held: readonly AuditView[],
  come: readonly AuditView[],
  most: number,
): readonly AuditView[] {
  const all = new Map([...held, ...come].map((event) => [JSON.stringify(event), event]))
  return [...all.values()]
    .toSorted((one, other) => Date.parse(other.time) - Date.parse(one.time))
    .slice(0, most)
}

/** The page of what is on record. */
export function auditPage(snapshot: Snapshot): AuditPage {
  return { ...standingOf(snapshot), events: snapshot.audit }
}
