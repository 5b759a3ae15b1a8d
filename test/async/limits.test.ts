// SPDX-License-Identifier: Apache-2.0
// Token buckets, counts per source, and waiting in time: what one may do is bounded, and the others do not notice.

import t from 'tap'
import { Bucket } from '../../mesh/async/bucket.ts'
import { inTime, LATE } from '../../mesh/async/deadline.ts'
import { KeyedBuckets } from '../../mesh/async/keyed-buckets.ts'
import { PerSource } from '../../mesh/async/per-source.ts'

void t.test('Bucket: a burst passes, then only the rate', (t) => {
  let now = 0
  const bucket = new Bucket({ burst: 10, perSecond: 2 }, () => now)
  const takeMany = (count: number): number =>
    Array.from({ length: count }, () => bucket.take()).filter(Boolean).length
  t.equal(takeMany(30), 10)
  now += 1_000
  t.equal(takeMany(30), 2)
  now += 3_600_000
  t.equal(takeMany(30), 10, 'a long silence gives the burst and no more')
  t.end()
})

void t.test('Bucket: all or nothing for several tokens, and a debt of one burst at most', (t) => {
  let now = 0
  const bucket = new Bucket({ burst: 10, perSecond: 1 }, () => now)
  t.equal(bucket.take(8), true)
  t.equal(bucket.take(3), false, 'two are left, and stay')
  t.equal(bucket.take(2), true)
  bucket.charge(1_000)
  t.equal(bucket.hasToken, false)
  now += 10_000
  t.equal(bucket.hasToken, false, 'the debt is paid, no more')
  now += 1_000
  t.equal(bucket.hasToken, true)
  t.end()
})

void t.test('KeyedBuckets: each key has a burst of its own, and earns more with time', (t) => {
  let now = 0
  const buckets = new KeyedBuckets({ perSecond: 10, burst: 3 }, () => now)
  const take = (key: string): boolean => buckets.take(key)
  t.same([take('a'), take('a'), take('a'), take('a')], [true, true, true, false])
  t.equal(take('b'), true, 'another key is not affected')
  now += 100
  t.same([take('a'), take('a')], [true, false])
  now += 60_000
  t.same(
    [take('a'), take('a'), take('a'), take('a')],
    [true, true, true, false],
    'no more than the burst',
  )
  t.end()
})

void t.test('KeyedBuckets: who has spent is remembered longer than crowds that come once', (t) => {
  const buckets = new KeyedBuckets({ perSecond: 1, burst: 2 }, () => 0)
  for (let key = 0; key < 9_000; key += 1) buckets.of(`passer-by ${key}`)
  buckets.take('spender', 2)
  for (let key = 9_000; key < 10_500; key += 1) buckets.of(`passer-by ${key}`)
  t.equal(buckets.take('spender'), false, 'not forgotten by the crowd')
  t.ok(buckets.keys <= 10_000, 'bounded')
  t.end()
})

void t.test('KeyedBuckets: of those that have spent, the longest unused go first', (t) => {
  const buckets = new KeyedBuckets({ perSecond: 1, burst: 1 }, () => 0)
  for (let key = 0; key < 10_000; key += 1) buckets.take(`spender ${key}`)
  t.equal(buckets.take('spender 0'), false, 'the first, used once more')
  buckets.take('one more')
  t.equal(buckets.keys, 9_000, 'a tenth made room')
  t.equal(buckets.peek('spender 0'), false)
  t.equal(buckets.peek('spender 1'), true, 'the longest unused is forgotten')
  t.equal(buckets.peek('spender 9999'), false)
  t.equal(buckets.peek('one more'), false, 'who has just come is not')
  t.end()
})

void t.test('KeyedBuckets: asking about a key takes nothing and remembers nothing', (t) => {
  const buckets = new KeyedBuckets({ perSecond: 1, burst: 1 }, () => 0)
  t.equal(buckets.peek('a'), true)
  t.equal(buckets.keys, 0)
  t.equal(buckets.take('a'), true)
  t.equal(buckets.peek('a'), false)
  t.end()
})

void t.test(
  'PerSource: one source cannot use up what all share, and leaves nothing behind',
  (t) => {
    const counts = new PerSource({ perSource: 2, total: 3 })
    t.same([counts.enter('a'), counts.enter('a'), counts.enter('a')], [true, true, false])
    t.equal(counts.enter('b'), true)
    t.equal(counts.enter('c'), false, 'all together are at their limit')
    t.equal(counts.hasRoom('b'), false, 'which can be asked')
    counts.leave('a')
    t.equal(counts.hasRoom('a'), true)
    t.equal(counts.enter('c'), true)
    counts.leave('nobody')
    t.same([counts.total, counts.of('a'), counts.of('nobody')], [3, 1, 0])
    t.end()
  },
)

void t.test('inTime() gives the value, the failure, or LATE', async (t) => {
  t.equal(await inTime(Promise.resolve(7), 1_000), 7)
  await t.rejects(inTime(Promise.reject(new Error('broken')), 1_000), { message: 'broken' })
  t.equal(await inTime(new Promise(() => undefined), 1), LATE)
})
