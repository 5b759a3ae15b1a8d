// SPDX-License-Identifier: Apache-2.0
// Letting go of what a program started, last started first, on AsyncDisposableStack: what fails to stop is told and keeps nothing
// else from stopping.

import { errorMessage } from '../errors.ts'
import type { Logger } from '../telemetry/log.ts'

/** Disposes of all; never rejects. */
export async function releaseAll(stack: AsyncDisposableStack, log: Logger): Promise<void> {
  try {
    await stack.disposeAsync()
  } catch (thrown) {
    for (const failure of failuresIn(thrown))
      log.error({ error: errorMessage(failure) }, 'a part of the program did not stop')
  }
}

/** Several failures come as one SuppressedError inside the other. */
function failuresIn(thrown: unknown): readonly unknown[] {
  return thrown instanceof SuppressedError
    ? [...failuresIn(thrown.suppressed), ...failuresIn(thrown.error)]
    : [thrown]
}
