// SPDX-License-Identifier: Apache-2.0
// A drain waits for the work that is under way, no longer than it may, and says what it cut.

import t from 'tap'
import { Drain } from '../../mesh/async/drain.ts'
import type { RosterMember } from '../../mesh/async/roster.ts'

interface Work extends RosterMember {
  isCut: boolean
}

/** Cuts it, if nobody has. */
function cut(work: Work): number {
  if (work.isCut) return 0
  work.isCut = true
  return 1
}

const NEVER_MS = 3_600_000

void t.test('what ends by itself is not cut, and the drain is over with the last', async (t) => {
  const drain = new Drain<Work>()
  const [first, second, late] = [{ isCut: false }, { isCut: false }, { isCut: false }]
  drain.enter(first)
  drain.enter(second)
  let isOver = false
  const drained = drain.drain(NEVER_MS, cut).then((result) => {
    isOver = true
    return result
  })
  drain.leave(first)
  drain.enter(late)
  drain.leave(second)
  await Promise.resolve()
  t.notOk(isOver, 'it waits for those that came meanwhile')
  drain.leave(late)
  t.same(await drained, { cut: 0 })
  t.same(
    [first, second, late].map(({ isCut }) => isCut),
    [false, false, false],
  )
})

void t.test('what is left at the deadline is cut, and told', async (t) => {
  const drain = new Drain<Work>()
  const [ends, stays] = [{ isCut: false }, { isCut: false }]
  drain.enter(ends)
  drain.enter(stays)
  const drained = drain.drain(1, cut)
  drain.leave(ends)
  t.same(await drained, { cut: 1 })
  t.ok(stays.isCut)
  t.notOk(ends.isCut)
  t.equal(drain.size, 1, 'cutting is the start of its end')
})

void t.test('without any time all are cut at once, even those that leave by it', async (t) => {
  const drain = new Drain<Work>()
  for (let index = 0; index < 3; index += 1) drain.enter({ isCut: false })
  const drained = await drain.drain(0, (work) => {
    drain.leave(work)
    return cut(work)
  })
  t.same(drained, { cut: 3 })
  t.equal(drain.size, 0)
  await drain.whenEmpty()
})

void t.test('of two drains at once each counts what it cut itself', async (t) => {
  const drain = new Drain<Work>()
  const work = { isCut: false }
  drain.enter(work)
  const patient = drain.drain(NEVER_MS, cut)
  t.same(await drain.drain(1, cut), { cut: 1 })
  drain.leave(work)
  t.same(await patient, { cut: 0 })
})
