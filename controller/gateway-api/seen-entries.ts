// SPDX-License-Identifier: Apache-2.0
// What writing a status needs to know of its object where the status has an entry for each parent, or ancestor, and controller: all of
// them are one list, which is written as a whole.

import { fieldsOf, isAbsent } from '../istio-api/flaw.ts'
import { type PolicyObject, readSeen, type SeenObject } from '../istio-api/seen-object.ts'
import type { ObjectReader } from '../reading/object-reader.ts'

export interface SeenEntries extends Omit<SeenObject, 'conditions'> {
  /** As they stand there, whoever wrote them. Undefined when they are too much to be written again: then nothing is. */
  readonly entries: readonly unknown[] | undefined
}

/** As JSON: 32 entries of many conditions with long messages. Each is kept for as long as the object is there. */
const LONGEST_ENTRIES = 131_072

/** Reads which state of an object this is, and `status.parents` of a route, or `status.ancestors` of a policy. */
export function readSeenEntries(
  reader: ObjectReader,
  object: PolicyObject,
  list: 'parents' | 'ancestors',
): SeenEntries {
  const { conditions: _conditions, ...seen } = readSeen(reader, { metadata: object.metadata })
  return { ...seen, entries: readEntries(reader, list, fieldsOf(object.status)?.[list]) }
}

function readEntries(
  reader: ObjectReader,
  list: string,
  value: unknown,
): readonly unknown[] | undefined {
  if (isAbsent(value)) return []
  if (Array.isArray(value) && JSON.stringify(value).length <= LONGEST_ENTRIES)
    return value as readonly unknown[]
  reader.note(`status.${list}`, 'is not a list that could be kept, so that nothing is added to it')
  return undefined
}
