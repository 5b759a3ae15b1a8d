// SPDX-License-Identifier: Apache-2.0
// What a client is told in the place of an app that gave no answer, by the flag that the access line has for it. Pure.

import type { AnswerOutcome, ResponseFlag } from './types.ts'

/** An answer without fields of its own. */
export function ownAnswer(status: number, flag: ResponseFlag, body: string): AnswerOutcome {
  return { kind: 'answer', status, headers: [], body, flag }
}

/** As Envoy says that no try is left, beside how the last one failed. */
export function withUsedUp(flag: ResponseFlag): ResponseFlag {
  switch (flag) {
    case 'UF':
    case 'UC':
    case 'UR':
    case 'UT':
    case 'UPE':
      return `URX,${flag}`
    default:
      return flag
  }
}

/** Envoy's statuses for the same flags. */
export function failureAnswer(flag: ResponseFlag, message: string | undefined): AnswerOutcome {
  switch (flag) {
    case 'UT':
    case 'URX,UT':
      return ownAnswer(504, flag, `upstream request timeout: ${message ?? ''}`)
    case 'UPE':
    case 'URX,UPE':
      return ownAnswer(502, flag, `upstream protocol error: ${message ?? ''}`)
    case 'UR':
    case 'URX,UR':
      return ownAnswer(503, flag, 'the upstream reset the request before it had answered')
    case 'UC':
    case 'URX,UC':
      return ownAnswer(503, flag, 'upstream connection ended before it had answered')
    case 'UH':
      return ownAnswer(503, flag, 'no healthy upstream')
    default:
      return ownAnswer(503, flag, 'no connection to the upstream')
  }
}
