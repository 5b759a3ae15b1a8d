// SPDX-License-Identifier: Apache-2.0
// Who was refused for want of an identity, by what agents have on record.

import { type AuditLine, readAuditLine } from '../tables/audit.ts'
import type { RefusedCaller } from './world.ts'

/** The rest is the same again. */
const MOST_CALLERS = 100
const OBJECT = /^(PeerAuthentication) ([^/]+)\/(.+)$/

/** Those of the lines of all agents. */
export function refusedCallers(raw: readonly string[]): readonly RefusedCaller[] {
  const found = new Map<string, RefusedCaller>()
  for (const line of raw.map(readAuditLine)) {
    const refused = line && refusalOf(line)
    if (refused === undefined) continue
    const key = JSON.stringify([refused.who, refused.target, refused.object])
    const before = found.get(key)
    if (before === undefined && found.size >= MOST_CALLERS) continue
    const { last, calls } = before ?? { last: '', calls: 0 }
    found.set(key, {
      ...refused,
      calls: calls + 1,
      last: last > refused.last ? last : refused.last,
    })
  }
  return [...found.values()]
}

function refusalOf({ time, fields }: AuditLine): RefusedCaller | undefined {
  const { audit, who, what, object } = fields
  if (audit !== 'connection.denied') return undefined
  if (typeof who !== 'string' || typeof what !== 'string' || typeof object !== 'string')
    return undefined
  const [, kind, namespace, name] = OBJECT.exec(object) ?? []
  if (kind === undefined || namespace === undefined || name === undefined) return undefined
  return {
    // Each call comes from a port of its own.
    who: who.replace(/:\d+$/, ''),
    target: what,
    object: { kind, namespace, name },
    calls: 1,
    last: time,
  }
}
