// SPDX-License-Identifier: Apache-2.0
// Waits for conditions that events bring about: whoever hears of one pokes, and each condition is looked at again.

import { within } from './until.ts'

export class Waiter {
  readonly #waiting = new Set<() => void>()

  /** Looks at every condition that is waited for; to be called after each event. */
  readonly poke = (): void => {
    for (const look of this.#waiting) look()
  }

  /**
   * Resolves once `holds`; rejects at the deadline, saying what was waited for: by default the condition itself. The deadline is that of
   * `within` where none is given.
   */
  async until(
    holds: () => boolean,
    what: string | (() => string) = String(holds),
    deadlineMs?: number,
  ): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const look = (): void => {
      if (holds()) resolve()
    }
    this.#waiting.add(look)
    look()
    try {
      await within(promise, what, deadlineMs)
    } finally {
      this.#waiting.delete(look)
    }
  }
}
