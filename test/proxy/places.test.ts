// SPDX-License-Identifier: Apache-2.0
// Who gives way when places run short: always whoever has the most, and never anybody while there are enough.

import fc from 'fast-check'
import t from 'tap'
import { ConnectionCounts, countTable } from '../../agent/proxy/connection-counts.ts'
import type { LocalPod } from '../../agent/proxy/local-pod.ts'
import { placeLimits } from '../../agent/proxy/place-limits.ts'
import { type Place, type PlaceLimits, Places } from '../../agent/proxy/places.ts'
import { handshakeBounds } from '../../mesh/hbone/limits.ts'
import { testPod } from './loopback-world.ts'

const pods = ['a', 'b', 'c', 'd'].map((name, index) => ({ ...testPod(name), seat: index }))
const [victim, other] = pods as [LocalPod, LocalPod, ...LocalPod[]]

/** One worker's places, and those who sit in them: in `here` while nobody needed their place. */
class Setting {
  readonly places: Places
  readonly counts: ConnectionCounts
  readonly here = new Map<Place, string>()

  constructor(limits: Omit<PlaceLimits, 'handshakes'>, table = countTable(1), worker = 0) {
    this.counts = new ConnectionCounts(table, worker)
    this.places = new Places(this.counts, { ...limits, handshakes: 100 })
    t.teardown(() => this.places.close())
  }

  enter(pod: LocalPod, caller: string, descriptors = 2): Place | undefined {
    const place = this.places.enter(pod, caller, descriptors)
    if (place === undefined) return undefined
    this.here.set(place, caller)
    place.occupy({ cut: () => this.here.delete(place) })
    return place
  }

  /** As many as get in of so many. */
  crowd(pod: LocalPod, caller: string, count: number): number {
    return Array.from({ length: count }, () => this.enter(pod, caller)).filter(Boolean).length
  }

  count(caller: string): number {
    return [...this.here.values()].filter((each) => each === caller).length
  }
}

void t.test('a stranger that fills a pod locks out neither others nor the pod itself', (t) => {
  const setting = new Setting({ descriptors: 10_000, perPod: 100 })
  t.equal(setting.crowd(victim, 'stranger', 300), 100, 'up to what the pod may have')
  t.equal(setting.crowd(victim, 'neighbour', 20), 20)
  t.equal(setting.crowd(victim, 'itself', 20), 20)
  t.equal(setting.counts.of(victim.seat), 100, 'each took a place of the stranger')
  t.equal(setting.count('stranger'), 60)
  t.equal(setting.crowd(victim, 'neighbour', 20), 6, 'until it has half of what the greediest has')
  t.equal(setting.crowd(other, 'stranger', 10), 10, 'other pods are other pods')
  t.end()
})

void t.test('callers that have as many as one another do not push one another out', (t) => {
  const setting = new Setting({ descriptors: 10_000, perPod: 100 })
  for (let caller = 0; caller < 100; caller += 1) setting.enter(victim, `caller ${caller}`)
  t.equal(setting.enter(victim, 'one more'), undefined)
  t.equal(setting.here.size, 100)
  t.end()
})

void t.test('the oldest of the greediest goes first', (t) => {
  const setting = new Setting({ descriptors: 1_000, perPod: 5 })
  const [first, second] = [1, 2, 3, 4, 5].map(() => setting.enter(victim, 'greedy'))
  setting.enter(victim, 'modest')
  t.equal(first?.isLeft, true)
  t.equal(second?.isLeft, false)
  t.end()
})

void t.test('pods that came first do not keep the descriptors from those that come', (t) => {
  const setting = new Setting({ descriptors: 1_000, perPod: 1_000 })
  t.equal(
    setting.crowd(victim, 'greedy', 1_000),
    401,
    'from 4/5 on no more than a fair share of two',
  )
  t.equal(setting.crowd(other, 'modest', 100), 100)
  t.ok(setting.places.used <= 1_000)
  t.equal(setting.count('modest'), 100, 'none of the modest gave way')
  t.equal(setting.crowd(pods[2] ?? other, 'third', 150), 125, 'a fair share of four')
  t.ok(setting.count('greedy') < 300, 'the greediest made room')
  t.ok(setting.places.used <= 1_000)
  t.end()
})

void t.test('a pod that came back while it was leaving gives way as any other', (t) => {
  const setting = new Setting({ descriptors: 1_000, perPod: 1_000 })
  setting.enter(victim, 'of its last stay')
  setting.crowd({ ...victim, seat: 9 }, 'greedy', 1_000)
  t.equal(setting.crowd(other, 'modest', 120), 120)
  t.equal(setting.count('modest'), 120)
  t.end()
})

void t.test("a pod does not give way for calls whose descriptors are their callers'", (t) => {
  const setting = new Setting({ descriptors: 1_000, perPod: 1_000 })
  const [, , third, fourth] = pods as [LocalPod, LocalPod, LocalPod, LocalPod]
  // Inside the node: victim is called by the two greedy ones, and makes a few calls itself.
  for (let call = 0; call < 300; call += 1) setting.enter(victim, 'neighbours', 0)
  setting.crowd(victim, 'own', 10)
  setting.crowd(third, 'greedy', 200)
  setting.crowd(fourth, 'greedy', 185)
  t.equal(setting.crowd(other, 'modest', 95), 95)
  t.ok(setting.places.used <= 900)
  t.equal(setting.count('neighbours'), 300, 'to cut them would have freed nothing at once')
  t.equal(setting.count('own'), 10)
  t.ok(setting.count('greedy') < 385)
  t.end()
})

void t.test('a pod of one worker gives way to one of another', (t) => {
  const table = countTable(2)
  const limits = { descriptors: 1_000, perPod: 1_000 }
  const one = new Setting(limits, table, 0)
  const two = new Setting(limits, table, 1)
  one.crowd(victim, 'greedy', 1_000)
  t.ok(two.crowd(other, 'modest', 200) >= 50, 'what is left until the other worker looks')
  one.places.relieve()
  t.ok(one.places.used <= 900)
  t.equal(two.count('modest') + two.crowd(other, 'modest', 20) >= 70, true)
  t.end()
})

void t.test('idle HBONE connections of a few callers leave the descriptors to the others', (t) => {
  const setting = new Setting({ descriptors: 1_000, perPod: 1_000 })
  let greedy = 0
  while (setting.places.takeDescriptor(false)) greedy += 1
  t.equal(greedy, 250, 'a quarter')
  t.equal(setting.places.takeDescriptor(true), true, 'one of the first few of somebody else')
  t.equal(setting.crowd(victim, 'modest', 100), 100)
  for (let connection = 0; connection <= greedy; connection += 1) setting.places.giveDescriptor()
  t.equal(setting.places.used, 200)
  t.equal(setting.places.takeDescriptor(false), true)
  setting.places.giveDescriptor()
  t.end()
})

void t.test('whatever comes and goes, descriptors are never overdrawn and all come back', (t) => {
  const event = fc.record({
    pod: fc.nat({ max: 3 }),
    caller: fc.nat({ max: 5 }),
    cost: fc.constantFrom(0, 1, 2),
    leaves: fc.boolean(),
  })
  fc.assert(
    fc.property(fc.array(event, { maxLength: 400 }), (events) => {
      const setting = new Setting({ descriptors: 100, perPod: 40 })
      for (const { pod, caller, cost, leaves } of events) {
        const [oldest] = setting.here.keys()
        if (leaves && oldest !== undefined) {
          setting.here.delete(oldest)
          oldest.leave()
        } else setting.enter(pods[pod] ?? victim, String(caller), cost)
        const real = [...setting.here.keys()].reduce((sum, place) => sum + place.descriptors, 0)
        if (real !== setting.places.used || real > 100) return false
      }
      for (const place of [...setting.here.keys()]) place.leave()
      const counts = pods.map(({ seat }) => setting.counts.of(seat))
      setting.places.close()
      return (
        setting.places.used === 0 && setting.counts.activePods === 0 && counts.every((n) => n === 0)
      )
    }),
    { numRuns: 200 },
  )
  t.end()
})

void t.test('what a pod may have follows from the limit of open files', (t) => {
  t.same(placeLimits(1_048_576, 16_384), {
    descriptors: 943_718,
    perPod: 16_384,
    handshakes: 52_428,
  })
  t.same(placeLimits(20_000, 16_384), { descriptors: 18_000, perPod: 4_500, handshakes: 1_000 })
  t.same(placeLimits(1_024, 16_384), { descriptors: 512, perPod: 128, handshakes: 256 })
  t.equal(placeLimits(1_048_576, 100).perPod, 100, 'the operator may allow less')
  t.end()
})

void t.test(
  'strangers in their handshake find fewer places where there are few descriptors',
  (t) => {
    t.same(handshakeBounds(52_428 / 8), {
      unauthenticated: 2_048,
      unauthenticatedPerSource: 256,
      reservedForMesh: 512,
    })
    const { unauthenticated, unauthenticatedPerSource, reservedForMesh } = handshakeBounds(
      1_000 / 2,
    )
    t.equal(unauthenticated, 500, 'two workers: half of what is reserved at 20,000 open files')
    t.ok(unauthenticatedPerSource < unauthenticated / 4 && reservedForMesh < unauthenticated / 2)
    t.equal(handshakeBounds(10).unauthenticated, 64)
    t.end()
  },
)
