// SPDX-License-Identifier: Apache-2.0
// Callers that agents have seen in plaintext where mutual TLS is required: what is proved, and nothing that is guessed.

import { finding } from '../finding.ts'
import type { Check } from './check.ts'

export const PLAINTEXT_CALLERS: Check = {
  codes: ['AMB401'],
  needs: [],
  *run({ refusedCallers }) {
    for (const { who, target, object, calls, last } of refusedCallers)
      yield finding(
        'AMB401',
        object,
        'spec.mtls.mode',
        `${who} calls ${target} in plaintext and is refused: ${calls === 1 ? 'once' : `${calls} times`}, last at ${last}`,
      )
  },
}
