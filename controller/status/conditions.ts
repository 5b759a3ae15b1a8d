// SPDX-License-Identifier: Apache-2.0
// A list of conditions as it is to be written: several writers have theirs in it, and it is replaced as a whole. Pure.

import { type Fields, fieldsOf } from '../istio-api/flaw.ts'
import type { Condition } from '../istio-api/seen-object.ts'
import type { Verdict } from './acceptance.ts'

/**
 * The conditions that are to be there: those of others as they are, and ours. Undefined when they are there. What has not changed keeps
 * its time.
 */
export function mergedConditions(
  there: readonly unknown[],
  isOurs: (condition: Fields) => boolean,
  verdicts: readonly Verdict[],
  { generation, now }: { readonly generation: number; readonly now: Date },
): readonly object[] | undefined {
  const before = there.map((each): Fields => fieldsOf(each) ?? {})
  const mine = before.filter(isOurs)
  const isRight =
    mine.length === verdicts.length &&
    verdicts.every((verdict) => mine.some((each) => saysSame(each, verdict, generation)))
  if (isRight) return undefined
  return [
    ...before.filter((each) => !mine.includes(each)),
    ...verdicts.map((verdict): Condition => {
      const last = mine.find(({ type }) => type === verdict.type)
      const since = last?.['status'] === verdict.status ? last['lastTransitionTime'] : undefined
      return {
        ...verdict,
        observedGeneration: generation,
        lastTransitionTime: typeof since === 'string' ? since : wholeSeconds(now),
      }
    }),
  ]
}

function saysSame(condition: Fields, verdict: Verdict, generation: number): boolean {
  return (
    condition['type'] === verdict.type &&
    condition['status'] === verdict.status &&
    condition['reason'] === verdict.reason &&
    condition['message'] === verdict.message &&
    Number(condition['observedGeneration']) === generation
  )
}

/** As Kubernetes writes times. */
function wholeSeconds(date: Date): string {
  return date.toISOString().replace(/\.\d+Z$/, 'Z')
}
