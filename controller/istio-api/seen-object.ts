// SPDX-License-Identifier: Apache-2.0
// What writing an object's status needs to know of the object: which state of it was read, and what its status says already.

import type { ObjectReader } from '../reading/object-reader.ts'
import { fieldsOf, isAbsent } from './flaw.ts'

/** A condition as Kubernetes has it (metav1.Condition). */
export interface Condition {
  readonly type: string
  readonly status: 'True' | 'False' | 'Unknown'
  readonly reason: string
  readonly message: string
  readonly observedGeneration: number
  readonly lastTransitionTime: string
}

/** One state of an object. */
export interface SeenObject {
  readonly uid: string
  readonly generation: number
  readonly resourceVersion: string
  /** As Kubernetes writes it: texts in the order of time. */
  readonly createdAt: string
  /** What its status says, whoever wrote it: what others write must be written again with ours, for a list is replaced as a whole. */
  readonly conditions: readonly object[]
}

/** An object of a kind that others define: nothing of it is sure but its metadata. */
export interface PolicyObject {
  readonly metadata?: object | null | undefined
  readonly spec?: unknown
  readonly status?: unknown
}

/** More conditions than any honest writers together: beyond, the first ones are kept. */
const MOST_CONDITIONS = 32
/** Of one condition, as JSON; Kubernetes' own bound of a message is as much. */
const LONGEST_CONDITION = 32_768

/** Reads which state of an object this is. Metadata is the API server's own, so its faults are none of the writer's. */
export function readSeen(reader: ObjectReader, object: PolicyObject): SeenObject {
  const metadata = fieldsOf(object.metadata) ?? {}
  const { generation } = metadata
  return {
    uid: textOr(metadata.uid, ''),
    generation: typeof generation === 'number' && Number.isSafeInteger(generation) ? generation : 0,
    resourceVersion: textOr(metadata.resourceVersion, ''),
    createdAt: textOr(metadata.creationTimestamp, ''),
    conditions: readConditions(reader, fieldsOf(object.status)?.conditions),
  }
}

function readConditions(reader: ObjectReader, value: unknown): readonly object[] {
  if (isAbsent(value)) return []
  if (!Array.isArray(value)) {
    reader.note('status.conditions', 'is not a list')
    return []
  }
  const conditions = (value as readonly unknown[]).slice(0, MOST_CONDITIONS)
  return conditions.filter(
    (each): each is object =>
      fieldsOf(each) !== undefined && JSON.stringify(each).length <= LONGEST_CONDITION,
  )
}

function textOr(value: unknown, fallback: string): string {
  return typeof value === 'string' ? value : fallback
}
