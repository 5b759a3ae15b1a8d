// SPDX-License-Identifier: Apache-2.0
// Timers that go on when a test says so: nobody is late by them because a process had no CPU for a moment.

import { mock } from 'node:test'

/** Until the test's end time passes by what this gives, called with milliseconds. */
export function stopTime(
  t: { teardown(fn: () => void): void },
  apis: readonly ('setTimeout' | 'setInterval')[] = ['setTimeout'],
): (milliseconds: number) => void {
  mock.timers.enable({ apis: [...apis] })
  t.teardown(() => mock.timers.reset())
  return (milliseconds) => mock.timers.tick(milliseconds)
}
