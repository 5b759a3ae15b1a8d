// SPDX-License-Identifier: Apache-2.0
// Waiting between attempts.

import t from 'tap'
import { Backoff, delay } from '../../mesh/async/backoff.ts'

void t.test('delays double from 10 ms to 15 s, jittered, and start again after a success', (t) => {
  const backoff = new Backoff({ random: () => 1 })
  const delays = Array.from({ length: 14 }, () => backoff.next())
  t.same(delays.slice(0, 4), [10, 20, 40, 80])
  t.equal(delays.at(-1), 15_000)
  backoff.reset()
  t.equal(backoff.next(), 10)
  t.equal(new Backoff({ random: () => 0 }).next(), 5)
  t.end()
})

void t.test('a delay ends early when aborted', async (t) => {
  const aborter = new AbortController()
  const waiting = delay(60_000, aborter.signal)
  aborter.abort()
  await waiting
  await delay(60_000, aborter.signal)
  t.pass()
})
