// SPDX-License-Identifier: Apache-2.0
// What writing a route's status needs to know of the route. Its status has an entry for each parent and controller, and all of them are
// one list, which is written as a whole.

import { fieldsOf, isAbsent } from '../istio-api/flaw.ts'
import { type PolicyObject, readSeen, type SeenObject } from '../istio-api/seen-object.ts'
import type { ObjectReader } from '../reading/object-reader.ts'

export interface SeenRoute extends Omit<SeenObject, 'conditions'> {
  /** As they stand there, whoever wrote them. Undefined when they are too much to be written again: then nothing is. */
  readonly parents: readonly unknown[] | undefined
}

/** As JSON: 32 entries of many conditions with long messages. Each is kept for as long as the route is there. */
const LONGEST_PARENTS = 131_072

/** Reads which state of a route this is. */
export function readSeenRoute(reader: ObjectReader, object: PolicyObject): SeenRoute {
  const { conditions: _conditions, ...seen } = readSeen(reader, { metadata: object.metadata })
  return { ...seen, parents: readParents(reader, fieldsOf(object.status)?.parents) }
}

function readParents(reader: ObjectReader, value: unknown): readonly unknown[] | undefined {
  if (isAbsent(value)) return []
  if (Array.isArray(value) && JSON.stringify(value).length <= LONGEST_PARENTS)
    return value as readonly unknown[]
  reader.note('status.parents', 'is not a list that could be kept, so that nothing is added to it')
  return undefined
}
