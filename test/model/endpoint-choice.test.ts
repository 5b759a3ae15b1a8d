// SPDX-License-Identifier: Apache-2.0
// How connections spread over equally good endpoints: by distributions, with random numbers that are the same each time.

import t from 'tap'
import { lessBusyOfTwo, ownEndpoint } from '../../mesh/model/endpoint-choice.ts'
import { type Experience, type PickRequest, pickEndpoint } from '../../mesh/model/load-balance.ts'
import type { Service, Workload, WorkloadUid } from '../../mesh/model/types.ts'
import { ip, sampleService, sampleWorkload } from './samples.ts'

/** Chi-square beyond which one run in 10,000 of a fair choice comes, by degrees of freedom. */
const CHI_SQUARE_LIMIT = [0, 15.14, 18.42, 21.11, 23.51, 25.74, 27.86, 29.88, 31.83, 33.72]

/** Numbers in [0, 1), the same for the same seed (mulberry32). */
function seeded(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

function endpoints(capacities: readonly number[]): readonly Workload[] {
  return capacities.map((capacity, index) => endpoint(`e${index}`, { capacity }))
}

const service = sampleService('catalog')

function endpoint(name: string, overrides: Partial<Workload> = {}): Workload {
  const services: Workload['services'] = new Map([
    [service.key, [{ servicePort: 80, targetPort: 8080, appProtocol: 'http1', family: 'any' }]],
  ])
  return sampleWorkload(name, { services, ...overrides })
}

function chiSquare(seen: readonly number[], expected: readonly number[]): number {
  return seen.reduce((sum, count, at) => {
    const should = expected[at] ?? 0
    return sum + (count - should) ** 2 / should
  }, 0)
}

/** Connections by endpoint, as they are open. */
class Counts {
  readonly #open = new Map<WorkloadUid, number>()
  readonly of = (uid: WorkloadUid): number => this.#open.get(uid) ?? 0

  change(uid: WorkloadUid, by: number): void {
    this.#open.set(uid, this.of(uid) + by)
  }
}

const none = (): number => 0

await t.test('without open connections the lot decides, by capacity', (t) => {
  for (const capacities of [
    [1, 1],
    [1, 1, 1, 1, 1],
    [1, 2, 3],
    [5, 1],
  ]) {
    const list = endpoints(capacities)
    const random = seeded(7)
    const seen = list.map(() => 0)
    const draws = 20_000
    for (let draw = 0; draw < draws; draw += 1) {
      const at = lessBusyOfTwo(list, none, random)
      seen[at] = (seen[at] ?? 0) + 1
    }
    const total = capacities.reduce((sum, capacity) => sum + capacity, 0)
    const expected = capacities.map((capacity) => (draws * capacity) / total)
    const limit = CHI_SQUARE_LIMIT[list.length - 1] ?? 0
    t.ok(chiSquare(seen, expected) < limit, `${capacities.join()}: ${seen.join()}`)
  }
  t.end()
})

await t.test('connections that stay are spread far more evenly than by lot', (t) => {
  const list = endpoints(Array.from({ length: 10 }, () => 1))
  const random = seeded(11)
  const spreadOf = (choose: (counts: Counts) => number): number => {
    const counts = new Counts()
    for (let opened = 0; opened < 1_000; opened += 1)
      counts.change(list[choose(counts)]?.uid ?? ('' as WorkloadUid), 1)
    const all = list.map(({ uid }) => counts.of(uid))
    return Math.max(...all) - Math.min(...all)
  }
  const ofTwo = spreadOf((counts) => lessBusyOfTwo(list, counts.of, random))
  const byLot = spreadOf(() => Math.floor(random() * list.length))
  t.ok(ofTwo <= 6, `100 each, but for ${ofTwo}`)
  t.ok(byLot > 20, `by lot ${byLot}: the comparison says something`)
  t.end()
})

await t.test('connections that stay follow capacity', (t) => {
  const list = endpoints([1, 2, 5])
  const random = seeded(13)
  const counts = new Counts()
  for (let opened = 0; opened < 800; opened += 1)
    counts.change(list[lessBusyOfTwo(list, counts.of, random)]?.uid ?? ('' as WorkloadUid), 1)
  const seen = list.map(({ uid }) => counts.of(uid))
  for (const [at, expected] of [100, 200, 500].entries())
    t.ok(Math.abs((seen[at] ?? 0) - expected) <= expected * 0.1, `${expected}: ${seen[at]}`)
  t.end()
})

await t.test('an endpoint that holds each connection ten times as long gets fewer', (t) => {
  const list = endpoints([1, 1, 1])
  const [slow] = list
  const random = seeded(17)
  const counts = new Counts()
  const got = new Counts()
  const ends: { readonly at: number; readonly uid: WorkloadUid }[] = []
  for (let now = 0; now < 3_000; now += 1) {
    for (const each of ends.filter((end) => end.at === now)) counts.change(each.uid, -1)
    const chosen = list[lessBusyOfTwo(list, counts.of, random)] ?? list[0]
    if (chosen === undefined) throw new Error('no endpoint')
    counts.change(chosen.uid, 1)
    got.change(chosen.uid, 1)
    ends.push({ at: now + (chosen === slow ? 100 : 10), uid: chosen.uid })
  }
  const [ofSlow = 0, ...ofOthers] = list.map(({ uid }) => got.of(uid))
  for (const other of ofOthers) t.ok(other > 3 * ofSlow, `slow ${ofSlow}, other ${other}`)
  t.ok(ofSlow > 100, 'but it is not shut out')
  t.end()
})

/** The endpoint of each of so many clients, in both families. */
function clients(count: number): readonly string[] {
  return Array.from({ length: count }, (_, at) =>
    at % 2 === 0 ? `10.244.${at >> 8}.${at & 255}` : `fd98:244::${at.toString(16)}`,
  )
}

const port = (): number => 8080

await t.test('clients are spread over their own endpoints by capacity, in both families', (t) => {
  for (const capacities of [
    [1, 1],
    [1, 1, 1, 1, 1, 1, 1, 1],
    [1, 3],
  ]) {
    const list = endpoints(capacities)
    const seen = list.map(() => 0)
    for (const client of clients(8_000)) {
      const at = ownEndpoint(list, port, client, service.key)
      seen[at] = (seen[at] ?? 0) + 1
    }
    const total = capacities.reduce((sum, capacity) => sum + capacity, 0)
    const expected = capacities.map((capacity) => (8_000 * capacity) / total)
    const limit = CHI_SQUARE_LIMIT[list.length - 1] ?? 0
    t.ok(chiSquare(seen, expected) < limit, `${capacities.join()}: ${seen.join()}`)
  }
  t.end()
})

await t.test('a client stays with its endpoint, whatever their order, and moves little', (t) => {
  const five = endpoints([1, 1, 1, 1, 1])
  const own = (list: readonly Workload[], client: string): string | undefined =>
    list[ownEndpoint(list, port, client, service.key)]?.name
  let [movedToNew, movedFromGone] = [0, 0]
  const newcomer = endpoint('new')
  const [gone] = five
  for (const client of clients(5_000)) {
    const before = own(five, client)
    t.equal(own([...five].reverse(), client), before)
    const more = own([...five, newcomer], client)
    if (more !== before) {
      t.equal(more, 'new', 'only the one that came takes')
      movedToNew += 1
    }
    const less = own(five.slice(1), client)
    if (before === gone?.name) movedFromGone += 1
    else t.equal(less, before, 'only the clients of the one that went move')
  }
  t.ok(movedToNew > 700 && movedToNew < 970, `a sixth: ${movedToNew} of 5000`)
  t.ok(movedFromGone > 850 && movedFromGone < 1_150, `a fifth: ${movedFromGone} of 5000`)
  t.end()
})

await t.test('one client has its endpoints by service, and by port where one has several', (t) => {
  const list = endpoints([1, 1, 1, 1])
  const services = Array.from({ length: 40 }, (_, at) => `shop/s${at}.shop.svc.cluster.local`)
  const of = services.map((key) => ownEndpoint(list, port, '10.244.0.9', key))
  t.equal(new Set(of).size, 4, 'not the same one for every service')
  const [one = endpoint('one')] = list
  const twice = clients(400).map((client) =>
    ownEndpoint([one, one], (place) => 8080 + place, client, service.key),
  )
  t.equal(new Set(twice).size, 2)
  t.equal(ownEndpoint([], port, '10.244.0.9', service.key), -1)
  t.equal(lessBusyOfTwo([], none, seeded(1)), -1)
  t.end()
})

const requested = ip('10.96.0.50')
const clientAddress = ip('10.244.9.9')
const sticky: Service = {
  ...service,
  loadBalancing: { ...service.loadBalancing, sessionAffinity: 'clientIp' },
}

const pick = (list: readonly Workload[], overrides: Partial<PickRequest>): string | undefined =>
  pickEndpoint(list, {
    service,
    servicePort: 80,
    client: undefined,
    clientAddress,
    requested,
    random: seeded(3),
    ...overrides,
  })?.workload.name

/** Of a caller to which these endpoints' port 8080 is ejected. */
const without = (...ejected: readonly string[]): Experience => {
  const uids = new Set(ejected.map((name) => endpoint(name).uid))
  return {
    openTo: none,
    isEjected: (uid, port) => port === 8080 && uids.has(uid),
    hasEjected: uids.size > 0,
  }
}

const picked = (list: readonly Workload[], overrides: Partial<PickRequest>): string => {
  const random = seeded(19)
  const names = new Set<string | undefined>()
  for (let draw = 0; draw < 200; draw += 1) names.add(pick(list, { ...overrides, random }))
  return [...names].toSorted().join()
}

await t.test('an ejected endpoint gets none, until more than half are', (t) => {
  const four = endpoints([1, 1, 1, 1])
  t.equal(picked(four, { experience: without('e0') }), 'e1,e2,e3')
  t.equal(picked(four, { experience: without('e0', 'e1') }), 'e2,e3')
  t.equal(picked(four, { experience: without('e0', 'e1', 'e2') }), 'e0,e1,e2,e3')
  t.equal(picked(four, { experience: without('e0', 'e1', 'e2', 'e3') }), 'e0,e1,e2,e3')
  t.equal(picked(four.slice(0, 1), { experience: without('e0') }), 'e0', 'the only one is used')
  t.equal(picked(four.slice(0, 2), { experience: without('e0') }), 'e1')
  t.end()
})

await t.test(
  'where the near ones are ejected the far ones serve, unless only near ones may',
  (t) => {
    const near = { node: 'node-b' }
    const list = [endpoint('e0', near), endpoint('e1'), endpoint('e2')]
    const client = sampleWorkload('client', near)
    const balanced = (mode: 'failover' | 'strict'): Service => ({
      ...service,
      loadBalancing: { ...service.loadBalancing, mode, routingPreference: ['node'] },
    })
    const asked = { client, experience: without('e0') }
    t.equal(picked(list, { ...asked, service: balanced('failover') }), 'e1,e2')
    t.equal(picked(list, { ...asked, service: balanced('strict') }), 'e0')
    t.end()
  },
)

await t.test(
  'a client whose own endpoint is ejected has another meanwhile, always the same',
  (t) => {
    const four = endpoints([1, 1, 1, 1])
    const own = pick(four, { service: sticky }) ?? ''
    t.equal(picked(four, { service: sticky }), own)
    const other = picked(four, { service: sticky, experience: without(own) })
    t.not(other, own)
    t.notMatch(other, ',')
    t.end()
  },
)

await t.test('strict by node takes nobody for near who is on no node', (t) => {
  const local: Service = {
    ...service,
    loadBalancing: { ...service.loadBalancing, mode: 'strict', routingPreference: ['node'] },
  }
  const nowhere = { node: '' }
  const client = sampleWorkload('client', nowhere)
  t.equal(pick([endpoint('external', nowhere)], { service: local, client }), undefined)
  t.end()
})
