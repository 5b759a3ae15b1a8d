// SPDX-License-Identifier: Apache-2.0
// How a pod of this node stands with the mesh, as operators are told: one word, and why.

import { errorMessage } from '../../mesh/errors.ts'
import type { PodEnrolment } from './pod-enrolment.ts'
import type { PodName } from './types.ts'

/**
 * `captured`: in the mesh. `cutOff`: captured, and nobody serves it: its connections are refused. `outside`: not to be in the mesh.
 * `waiting`: something is not known yet. `failed`: it cannot be brought in, or out.
 */
export type CaptureState = 'captured' | 'cutOff' | 'outside' | 'waiting' | 'failed'

export interface PodStanding extends PodName {
  readonly state: CaptureState
  /** Why it is not captured; undefined when it is. */
  readonly reason: string | undefined
}

/** Reads it off the pod. */
export function podStanding(
  pod: Pick<PodEnrolment, 'name' | 'outcome' | 'isEnrolled' | 'isCutOff'>,
): PodStanding {
  const { name, outcome, isEnrolled, isCutOff } = pod
  if (outcome.kind === 'failed')
    return { ...name, state: 'failed', reason: errorMessage(outcome.error) }
  if (isCutOff)
    return { ...name, state: 'cutOff', reason: 'it is captured, and no worker serves it yet' }
  if (isEnrolled) return { ...name, state: 'captured', reason: undefined }
  if (outcome.kind === 'plain') return { ...name, state: 'outside', reason: outcome.reason }
  return {
    ...name,
    state: 'waiting',
    reason: outcome.kind === 'waiting' ? outcome.reason : 'it is being enrolled',
  }
}
