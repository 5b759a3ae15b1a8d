// SPDX-License-Identifier: Apache-2.0
// How tests wait, always with a deadline and a message that says what was awaited: `within` for an event, `until` for what
// no event tells, a condition that is looked at again and again.

import { setTimeout as pause } from 'node:timers/promises'

/** What was waited for, in words; a function says also what was there instead, at the deadline. */
type Awaited = string | (() => string)

/** Ends a wait in vain; long, since a loaded machine is slow and only a fault is ever that slow. */
const DEADLINE_MS = 60_000
/** Between two looks at least: short against everything awaited, and no busy loop. */
const PAUSE_MS = 2

/** Resolves once `holds`; rejects at the deadline. */
export async function until(
  holds: () => boolean | Promise<boolean>,
  what: Awaited,
  deadlineMs: number = DEADLINE_MS,
): Promise<void> {
  const deadline = performance.now() + deadlineMs
  for (;;) {
    const lookedAt = performance.now()
    if (await holds()) return
    const now = performance.now()
    if (now > deadline) throw inVain(what)
    // A look that is dear, as a command is, is not taken again at once.
    await pause(Math.max(PAUSE_MS, now - lookedAt))
  }
}

/** What the promise gives; rejects at the deadline. */
export async function within<T>(
  promise: Promise<T>,
  what: Awaited,
  deadlineMs: number = DEADLINE_MS,
): Promise<T> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(() => late.reject(inVain(what)), deadlineMs)
  try {
    return await Promise.race([promise, late.promise])
  } finally {
    clearTimeout(timer)
  }
}

function inVain(what: Awaited): Error {
  return new Error(`waited in vain for ${typeof what === 'string' ? what : what()}`)
}
