// SPDX-License-Identifier: Apache-2.0
import t from 'tap'
import { CalmGrowth, type Look } from '../../mesh/program/memory/calm-growth.ts'

const MIB = 1024 * 1024
const OPTIONS = {
  slackBytes: 8 * MIB,
  slackPart: 1 / 2,
  crowd: 500,
  calmMs: 3_000,
  pausePart: 1 / 200,
  restMs: 10_000,
  longestRestMs: 30_000,
}
/** Long enough for any rest to be over. */
const LATER_MS = 60_000

/** A heap that is looked at once a second, and was collected at its first calm moment. */
function collected({
  mib,
  descriptors = 0,
  pauseMs = 10,
}: {
  readonly mib: number
  readonly descriptors?: number
  readonly pauseMs?: number
}): (after: number, look: { mib: number; isBusy?: boolean; descriptors?: number }) => boolean {
  const growth = new CalmGrowth(OPTIONS)
  growth.collected({ now: 0, bytes: mib * MIB, descriptors }, pauseMs)
  return (after, look) =>
    growth.look({
      now: after,
      isBusy: look.isBusy ?? false,
      bytes: look.mib * MIB,
      descriptors: look.descriptors ?? 0,
    })
}

/** Whether it is time after as many looks, a second apart, as make a calm moment. */
function afterCalm(
  heap: ReturnType<typeof collected>,
  from: number,
  look: { mib: number; descriptors?: number },
): boolean {
  let told = false
  for (const second of [0, 1, 2, 3]) told = heap(from + second * 1_000, look)
  return told
}

await t.test('CalmGrowth', async (t) => {
  await t.test('is for a collection at the first calm moment of a thread', async (t) => {
    const growth = new CalmGrowth(OPTIONS)
    const look = (now: number, isBusy: boolean): boolean =>
      growth.look({ now, isBusy, bytes: 20 * MIB, descriptors: 0 } satisfies Look)
    t.notOk(look(0, true))
    t.notOk(look(1_000, false))
    t.notOk(look(3_999, false))
    t.ok(look(4_000, false))
  })

  await t.test('lets a heap be that has grown little, however long it is calm', async (t) => {
    t.notOk(afterCalm(collected({ mib: 10 }), LATER_MS, { mib: 18 }))
    t.ok(afterCalm(collected({ mib: 10 }), LATER_MS, { mib: 19 }))
    t.notOk(afterCalm(collected({ mib: 100 }), LATER_MS, { mib: 149 }), 'in proportion')
    t.ok(afterCalm(collected({ mib: 100 }), LATER_MS, { mib: 151 }))
  })

  await t.test('measures growth from the least there was since', async (t) => {
    const heap = collected({ mib: 100 })
    t.notOk(heap(LATER_MS, { mib: 20 }), 'V8 collected by itself')
    t.ok(afterCalm(heap, LATER_MS + 1_000, { mib: 31 }))
  })

  await t.test('never disturbs a thread that has something to do', async (t) => {
    const heap = collected({ mib: 10 })
    for (let second = 0; second < 60; second += 1)
      t.notOk(heap(LATER_MS + second * 1_000, { mib: 200, isBusy: second % 3 === 0 }))
  })

  await t.test('knows that a crowd has left, though nothing has grown', async (t) => {
    const crowd = { mib: 100, descriptors: 10_000 }
    t.notOk(afterCalm(collected(crowd), LATER_MS, { mib: 100, descriptors: 5_001 }))
    t.ok(afterCalm(collected(crowd), LATER_MS, { mib: 100, descriptors: 5_000 }))
    const few = { mib: 100, descriptors: 499 }
    t.notOk(afterCalm(collected(few), LATER_MS, { mib: 100, descriptors: 0 }), 'a few are no crowd')
  })

  await t.test('rests after each collection, the longer the longer that took', async (t) => {
    const grown = { mib: 200 }
    for (const { pauseMs, restMs } of [
      { pauseMs: 10, restMs: 10_000 },
      { pauseMs: 100, restMs: 20_000 },
      { pauseMs: 1_000, restMs: 30_000 },
    ]) {
      const heap = collected({ mib: 10, pauseMs })
      t.notOk(afterCalm(heap, restMs - 3_001, grown), `${pauseMs} ms`)
      t.ok(heap(restMs, grown), `${pauseMs} ms`)
    }
  })
})
