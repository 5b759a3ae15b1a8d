// SPDX-License-Identifier: Apache-2.0
// Many clients that are to be told much: how many at a time, in which order, and what becomes of one that does not take it.

import t, { type Test } from 'tap'
import { XdsClient } from '../../mesh/xds/client.ts'
import { meshSubscription } from '../../mesh/xds/mesh-subscription.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import { ok } from '../../mesh/result.ts'
import { nodeMessage } from '../../mesh/xds/node.ts'
import { sampleWorkload } from '../model/samples.ts'
import { until } from '../support/until.ts'
import { Waiter } from '../support/waiter.ts'
import { openStream } from './bare-stream.ts'
import { makeFiles, makePki, NODE, silent, startServer, workloadResource } from './support.ts'

const pki = await makePki()
/** Longer than any test: nobody is overdue. */
const NEVER_MS = 3_600_000
/** Clients wait longer and longer between attempts. */
const STORM_MS = 120_000

async function startBulkServer(
  t: Test,
  bulk: { readonly places: number; readonly resources?: number; readonly deadlineMs?: number },
  port = 0,
) {
  const server = await startServer(pki, port, { bulk: { deadlineMs: NEVER_MS, ...bulk } })
  t.teardown(server.stop)
  return server
}

void t.test('a crowd that asks for everything is served in turn', async (t) => {
  const server = await startBulkServer(t, { places: 2 })
  server.addresses.update([workloadResource(sampleWorkload('one'))], [])
  server.addresses.complete()
  const crowd = Array.from({ length: 6 }, () => openStream(t, server.port, pki))
  await server.clientCount(6)
  const answered = new Set<number>()
  const waiter = new Waiter()
  crowd.forEach(({ send, received }, index) => {
    send({ resourceNamesSubscribe: ['*'] })
    void received(1).then(() => {
      answered.add(index)
      waiter.poke()
    })
  })
  // Nobody acknowledges: two have places, and the others are not even read.
  await waiter.until(() => answered.size === 2)
  t.equal(
    server.xds.clients().filter(({ isAnswered }) => !isAnswered).length,
    2,
    'two hold a response, and nobody else',
  )
  for (let served = 2; served < 6; served += 1) {
    const [next] = [...answered].slice(served - 2)
    if (next === undefined) throw new Error('nobody has an answer')
    const stream = crowd[next]
    const first = await stream?.received(1)
    stream?.send({ responseNonce: first?.nonce ?? '' })
    await waiter.until(() => answered.size === served + 1)
  }
  t.equal(answered.size, 6, 'who acknowledges makes room for the next')
})

void t.test(
  'however many streams somebody has who takes in nothing, others are served',
  async (t) => {
    const names = [...Array.from({ length: 6 }, () => 'crowd'), 'other']
    const server = await startServer(pki, 0, {
      bulk: { deadlineMs: NEVER_MS, places: 3 },
      authenticate: () => Promise.resolve(ok({ name: names.shift() ?? '' })),
      ownerOf: ({ name }) => name,
    })
    t.teardown(server.stop)
    server.addresses.update([workloadResource(sampleWorkload('one'))], [])
    server.addresses.complete()
    for (let streams = 1; streams <= 6; streams += 1) {
      openStream(t, server.port, pki).send({ resourceNamesSubscribe: ['*'] })
      await server.clientCount(streams)
    }
    const other = openStream(t, server.port, pki)
    other.send({ resourceNamesSubscribe: ['*'] })
    t.equal((await other.received(1)).resources.length, 1)
    const isServed = ({ isAnswered }: { readonly isAnswered: boolean }): boolean => !isAnswered
    await until(
      () => server.xds.clients().filter(isServed).length === 3,
      'two of the crowd, and it',
    )
  },
)

void t.test('a client that does not acknowledge a whole mesh makes room', async (t) => {
  const server = await startBulkServer(t, { places: 1, deadlineMs: 1_000 })
  server.addresses.update([workloadResource(sampleWorkload('one'))], [])
  server.addresses.complete()
  const stuck = openStream(t, server.port, pki)
  stuck.send({ resourceNamesSubscribe: ['*'] })
  await stuck.received(1)
  const next = openStream(t, server.port, pki)
  next.send({ resourceNamesSubscribe: ['*'] })
  const first = await next.received(1)
  t.equal(first.resources.length, 1, 'the next is served')
  await stuck.until(() => stuck.errors.length > 0)
  t.match(stuck.errors[0], /DEADLINE_EXCEEDED.*not acknowledged/)
})

void t.test('a client that is silent loses its place, not its stream', async (t) => {
  const server = await startBulkServer(t, { places: 1, deadlineMs: 500 })
  server.addresses.update([workloadResource(sampleWorkload('one'))], [])
  server.addresses.complete()
  const silentOne = openStream(t, server.port, pki)
  await server.clientCount(1)
  const next = openStream(t, server.port, pki)
  next.send({ resourceNamesSubscribe: ['*'] })
  const first = await next.received(1)
  next.send({ responseNonce: first.nonce })
  silentOne.send({ resourceNamesSubscribe: ['*'] })
  t.equal((await silentOne.received(1)).resources.length, 1, 'it is served when it asks')
  t.strictSame(silentOne.errors, [])
})

void t.test('a wait for the first lists is nobody’s fault', async (t) => {
  const server = await startBulkServer(t, { places: 2, deadlineMs: 200 })
  const early = openStream(t, server.port, pki)
  early.send({ resourceNamesSubscribe: ['*'] })
  await server.clientCount(1)
  // It came later, and says nothing: once its time is up, that of the first is, too.
  openStream(t, server.port, pki)
  await server.clientCount(2)
  const third = openStream(t, server.port, pki)
  third.send({ node: nodeMessage(NODE), resourceNamesSubscribe: ['*'] })
  await until(
    () => server.xds.clients().some(({ node }) => node !== ''),
    () => 'the third to have the place of the silent one',
  )
  server.addresses.complete()
  await Promise.all([early.received(1), third.received(1)])
  t.strictSame([...early.errors, ...third.errors], [])
})

void t.test('a change of very much is told in turn, and small ones past it', async (t) => {
  const server = await startBulkServer(t, { places: 1, resources: 10 })
  const workloads = Array.from({ length: 20 }, (_, index) => sampleWorkload(`w-${index}`))
  server.addresses.update(workloads.map(workloadResource), [])
  server.addresses.complete()
  const [one, two] = [openStream(t, server.port, pki), openStream(t, server.port, pki)]
  for (const stream of [one, two]) {
    stream.send({ resourceNamesSubscribe: ['*'] })
    stream.send({ responseNonce: (await stream.received(1)).nonce })
  }
  const changed = (revision: string) =>
    workloads.map((workload) => workloadResource({ ...workload, canonicalRevision: revision }))
  server.addresses.update(changed('v2'), [])
  const waiter = new Waiter()
  const told: (typeof one)[] = []
  for (const stream of [one, two])
    void stream.received(2).then(() => {
      told.push(stream)
      waiter.poke()
    })
  await waiter.until(() => told.length === 1)
  const [first] = told
  const other = first === one ? two : one
  t.equal(server.xds.clients().filter(({ waiting }) => waiting === 20).length, 1)
  // Ten changes later the other still waits, and will be told once.
  server.addresses.update(changed('v3'), [])
  first?.send({ responseNonce: (await first.received(2)).nonce })
  const late = await other.received(2)
  t.equal(late.resources.length, 20)
  t.equal(other.responses.length, 2, 'in its last state')
})

void t.test('all come back after a restart, and each is served', async (t) => {
  const before = await startBulkServer(t, { places: 3 })
  const [old, kept, added] = ['old', 'kept', 'new'].map((name) => sampleWorkload(name))
  if (old === undefined || kept === undefined || added === undefined) throw new Error('no samples')
  before.addresses.update([old, kept].map(workloadResource), [])
  before.addresses.complete()
  const files = await makeFiles(pki.rootPem, 'the-right-token')
  t.teardown(files.remove)
  const waiter = new Waiter()
  const states = Array.from({ length: 25 }, () => new MeshState())
  for (const state of states) {
    const client = new XdsClient({
      address: `127.0.0.1:${before.port}`,
      roots: files.rootFile,
      tokenFile: files.tokenFile,
      node: NODE,
      logger: silent,
      subscriptions: [
        meshSubscription((changes) => {
          state.apply(changes)
          waiter.poke()
        }),
      ],
    })
    client.start()
    t.teardown(() => client.stop())
  }
  const holds = (names: readonly string[]) => (state: MeshState) =>
    state.size.workloads === names.length &&
    names.every((name) => state.workload(sampleWorkload(name).uid) !== undefined)
  await waiter.until(() => states.every(holds(['old', 'kept'])), 'all to be served', STORM_MS)
  before.stop()
  const after = await startBulkServer(t, { places: 3 }, before.port)
  after.addresses.update([kept, added].map(workloadResource), [])
  after.addresses.complete()
  await waiter.until(() => states.every(holds(['kept', 'new'])), 'all to be served again', STORM_MS)
  t.strictSame(after.refusals, [])
})
