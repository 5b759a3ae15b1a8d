// SPDX-License-Identifier: Apache-2.0
// JSON merge patch, RFC 7386.

import { type Draft, record } from '../../../objects/json.ts'

/** The result of merging a patch into a value; neither is changed. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  const changes = record(patch)
  if (changes === undefined) return patch
  const result: Draft = { ...record(target) }
  for (const [field, change] of Object.entries(changes)) {
    if (change === null) delete result[field]
    else result[field] = mergePatch(result[field], change)
  }
  return result
}
