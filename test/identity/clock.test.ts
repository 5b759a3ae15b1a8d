// SPDX-License-Identifier: Apache-2.0
// What waits for hours, on machines whose clocks are set, or that sleep.

import t from 'tap'
import { clockOf } from '../../mesh/identity/clock.ts'

const HOUR_MS = 3_600_000

// A clock's own timers keep no process alive.
const alive = setInterval(() => undefined, HOUR_MS)
t.teardown(() => clearInterval(alive))

/** Two clocks that move when they are told to, looked at every millisecond. */
function clocks() {
  const times = { wall: Date.now(), elapsed: 0 }
  const clock = clockOf(
    () => times.wall,
    () => times.elapsed,
    1,
  )
  const fired = (delayMs: number) => {
    const { promise, resolve } = Promise.withResolvers<string>()
    return { promise, cancel: clock.after(delayMs, () => resolve('fired')) }
  }
  return { times, clock, fired }
}

const turns = async (count: number): Promise<string> => {
  for (let turn = 0; turn < count; turn += 1) await new Promise((resolve) => setTimeout(resolve, 1))
  return 'waits'
}

void t.test('a machine that has slept is late by a minute and not by hours', async (t) => {
  const { times, fired } = clocks()
  const { promise } = fired(12 * HOUR_MS)
  t.equal(await Promise.race([promise, turns(5)]), 'waits')
  times.wall += 48 * HOUR_MS
  t.equal(await promise, 'fired')
})

void t.test('a clock that is set back makes nobody wait for longer', async (t) => {
  const { times, fired } = clocks()
  const { promise } = fired(HOUR_MS)
  times.wall -= 48 * HOUR_MS
  times.elapsed += HOUR_MS
  t.equal(await promise, 'fired')
})

void t.test('what is cancelled is not called, and what is due is at once', async (t) => {
  const { times, fired } = clocks()
  const { promise, cancel } = fired(HOUR_MS)
  await turns(2)
  cancel()
  times.wall += HOUR_MS
  t.equal(await Promise.race([promise, turns(5)]), 'waits')
  t.equal(await fired(-1).promise, 'fired')
})
