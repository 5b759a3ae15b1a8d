// SPDX-License-Identifier: Apache-2.0
// A status that has an entry for each parent, or ancestor, and controller. All entries are one list that is written as a whole: those of
// others are written again as they are. Pure.

import { WAYPOINT_CONTROLLER } from '../../mesh/model/names.ts'
import type { SeenEntries } from '../gateway-api/seen-entries.ts'
import { type Fields, fieldsOf } from '../istio-api/flaw.ts'
import type { Verdict } from './acceptance.ts'
import { mergedConditions } from './conditions.ts'

/** What kinds of such lists differ in. */
export interface EntryList {
  /** What an entry calls what it is about. */
  readonly ref: 'parentRef' | 'ancestorRef'
  /** The types of conditions that are ours to write. */
  readonly types: ReadonlySet<unknown>
  /** What the Gateway API has room for. */
  readonly most: number
}

/** What is to be said of one parent or ancestor. */
export interface WantedEntry {
  readonly ref: Fields
  readonly verdicts: readonly Verdict[]
}

export interface EntriesToSay {
  /** The object's, which references without one mean. */
  readonly namespace: string
  readonly seen: SeenEntries
  readonly wanted: readonly WantedEntry[]
}

/** The entries that a status is to have: those of others as they are, and ours. Undefined when it has them, or nothing may be added. */
export function wantedEntries(
  list: EntryList,
  { namespace, seen, wanted }: EntriesToSay,
  now: Date,
): readonly unknown[] | undefined {
  if (seen.entries === undefined) return undefined
  const isOurs = ({ type }: Fields): boolean => list.types.has(type)
  const before = seen.entries.map((each) => ({ each, ours: ourEntry(list, namespace, each) }))
  const left = new Map(wanted.map((each) => [identity(namespace, each.ref), each] as const))
  const when = { generation: seen.generation, now }
  const entryOf = ({ ref }: WantedEntry, conditions: readonly object[]): object => ({
    [list.ref]: ref,
    controllerName: WAYPOINT_CONTROLLER,
    conditions,
  })
  let isRight = true
  const entries: unknown[] = []
  for (const { each, ours } of before) {
    const entry = ours && left.get(ours.identity)
    // Of what the object does not name any more, or another one has ceased to be.
    if (ours !== undefined && entry === undefined) isRight = false
    else if (ours === undefined || entry === undefined) entries.push(each)
    else {
      left.delete(ours.identity)
      const conditions = mergedConditions(ours.conditions, isOurs, entry.verdicts, when)
      if (conditions === undefined) entries.push(each)
      else {
        isRight = false
        entries.push(entryOf(entry, conditions))
      }
    }
  }
  for (const entry of left.values()) {
    if (entries.length >= list.most) break
    isRight = false
    entries.push(entryOf(entry, mergedConditions([], isOurs, entry.verdicts, when) ?? []))
  }
  return isRight ? undefined : entries
}

function ourEntry(
  { ref }: EntryList,
  namespace: string,
  value: unknown,
): { readonly identity: string; readonly conditions: readonly unknown[] } | undefined {
  const { controllerName, conditions, ...entry } = fieldsOf(value) ?? {}
  if (controllerName !== WAYPOINT_CONTROLLER) return undefined
  return {
    identity: identity(namespace, fieldsOf(entry[ref]) ?? {}),
    conditions: Array.isArray(conditions) ? (conditions as readonly unknown[]) : [],
  }
}

/** Equal for references to the same, whether a default is written or not. */
function identity(ownNamespace: string, ref: Fields): string {
  const { group, kind, namespace, name, sectionName, port } = ref
  return JSON.stringify([group, kind, namespace ?? ownNamespace, name, sectionName, port])
}
