// SPDX-License-Identifier: Apache-2.0
// The one way in which tests wait for what no event tells: a condition, looked at again and again, with a deadline and a
// message that says what was awaited. Where there is an event, await that.

import { setTimeout as pause } from 'node:timers/promises'

/** Ends a wait in vain; long, since a loaded machine is slow and only a fault is ever that slow. */
const DEADLINE_MS = 20_000
/** Between two looks: short against everything awaited, and no busy loop. */
const PAUSE_MS = 2

/** Resolves once `holds`; rejects at the deadline with `what` was waited for. */
export async function until(
  holds: () => boolean | Promise<boolean>,
  what: string,
  deadlineMs: number = DEADLINE_MS,
): Promise<void> {
  const deadline = performance.now() + deadlineMs
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`waited in vain for ${what}`)
    await pause(PAUSE_MS)
  }
}
