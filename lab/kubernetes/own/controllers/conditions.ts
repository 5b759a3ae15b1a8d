// SPDX-License-Identifier: Apache-2.0
// Conditions of a status: the time of transition moves only when the status does.

import { records } from '../../objects/json.ts'
import type { JsonObject, StoredObject } from '../../objects/stored-object.ts'
import { timeNow } from './controller.ts'

export interface ConditionInput {
  readonly type: string
  readonly status: 'True' | 'False'
  readonly reason: string
  readonly message: string
}

/** The conditions of an object with these set. */
export function withConditions(
  object: StoredObject,
  inputs: readonly ConditionInput[],
): readonly JsonObject[] {
  const existing = records(object.status?.conditions)
  const now = timeNow()
  const kept = existing.filter((one) => !inputs.some((input) => input.type === one.type))
  const set = inputs.map((input) => {
    const before = existing.find((one) => one.type === input.type)
    const isSame =
      before?.status === input.status &&
      before.reason === input.reason &&
      before.message === input.message
    if (before !== undefined && isSame) return before as JsonObject
    return {
      ...input,
      lastUpdateTime: now,
      lastTransitionTime:
        before?.status === input.status ? (before.lastTransitionTime as string) : now,
    }
  })
  return [...(kept as JsonObject[]), ...set]
}
