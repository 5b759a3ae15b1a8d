// SPDX-License-Identifier: Apache-2.0
// Time as a parameter, so that what waits for hours can be tested in milliseconds.

export interface Clock {
  /** Milliseconds since the epoch. It jumps: whoever counts by it has to bear that. */
  now(): number
  /** Milliseconds since some moment, on a clock that nobody sets: for how long ago something was. */
  elapsed(): number
  /** Calls back once after the delay, by either clock; returns the canceller. */
  after(delayMs: number, callback: () => void): () => void
}

/** How often the wall clock is looked at while something waits for long. */
const LOOK_EVERY_MS = 60_000

/**
 * A clock made of two. Its timers do not keep the process alive. One that waits for hours has its end at the wall clock, too: a machine that slept, or whose clock
 * was wrong when it started, has certificates that have ended long before any timer of the other clock says that they are to be renewed.
 */
export function clockOf(
  now: () => number,
  elapsed: () => number,
  lookEveryMs = LOOK_EVERY_MS,
): Clock {
  const after = (delayMs: number, callback: () => void): (() => void) => {
    const [endsAt, endsAfter] = [now() + delayMs, elapsed() + delayMs]
    let timer: NodeJS.Timeout
    const wait = (): void => {
      const leftMs = Math.min(endsAt - now(), endsAfter - elapsed())
      timer = setTimeout(look, Math.min(Math.max(leftMs, 0), lookEveryMs))
      timer.unref()
    }
    const look = (): void => {
      // A timer may be early by a fraction of a millisecond.
      if (endsAt - now() < 1 || endsAfter - elapsed() < 1) callback()
      else wait()
    }
    wait()
    return () => clearTimeout(timer)
  }
  return { now, elapsed, after }
}

/** The machine's. */
export const systemClock: Clock = clockOf(
  () => Date.now(),
  () => performance.now(),
)
