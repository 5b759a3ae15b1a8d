// SPDX-License-Identifier: Apache-2.0
// One leader at a time: taking over from the dead, the clean and the cut off.

import t from 'tap'
import { LeaderElection } from '../../controller/leader/leader-election.ts'
import { LEASES } from '../../mesh/kube/index.ts'
import { createLogger } from '../../mesh/telemetry/log.ts'
import { FakeClock } from '../identity/fake-clock.ts'
import { ScriptedKube } from '../support/scripted-kube.ts'

const log = createLogger('test', 'silent')
const LEASE = { namespace: 'ambit-system', name: 'ambit-controller' }

interface Replica {
  readonly election: LeaderElection
  readonly terms: AbortSignal[]
}

function replica(kube: ScriptedKube, clock: FakeClock, holder: string): Replica {
  const terms: AbortSignal[] = []
  const election = new LeaderElection(kube.api, {
    ...LEASE,
    holder,
    clock,
    log,
    onElected: (signal) => terms.push(signal),
  })
  election.start()
  return { election, terms }
}

/** Moves time on in small steps, letting the API's answers arrive in between. */
async function pass(clock: FakeClock, ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += 250) {
    clock.advance(250)
    for (let turn = 0; turn < 3; turn += 1) await new Promise((resolve) => setImmediate(resolve))
  }
}

async function holder(kube: ScriptedKube): Promise<string | undefined> {
  const lease = await kube.api.get(LEASES, LEASE)
  return lease.ok ? lease.value.spec?.holderIdentity : undefined
}

void t.test('of two replicas one leads, and keeps leading', async (t) => {
  const kube = new ScriptedKube()
  const clock = new FakeClock()
  const a = replica(kube, clock, 'a')
  await pass(clock, 1000)
  const b = replica(kube, clock, 'b')
  await pass(clock, 60_000)
  t.equal(a.election.isLeader, true)
  t.equal(b.election.isLeader, false)
  t.equal(a.terms.length, 1, 'one term')
  t.equal(a.terms[0]?.aborted, false)
  t.equal(await holder(kube), 'a')
  const lease = await kube.api.get(LEASES, LEASE)
  t.match(lease, {
    ok: true,
    value: { spec: { leaseDurationSeconds: 15, leaseTransitions: 0, renewTime: /\.\d{6}Z$/ } },
  })
  await Promise.all([a.election.stop(), b.election.stop()])
})

void t.test('replicas that create the lease at once do not both lead', async (t) => {
  const kube = new ScriptedKube()
  const clock = new FakeClock()
  let arrived = 0
  const { promise: bothArrived, resolve: release } = Promise.withResolvers<void>()
  kube.beforeCreate = () => {
    arrived += 1
    if (arrived === 2) release()
    return bothArrived
  }
  const a = replica(kube, clock, 'a')
  const b = replica(kube, clock, 'b')
  await pass(clock, 10_000)
  t.equal([a, b].filter(({ election }) => election.isLeader).length, 1)
  t.equal(a.terms.length + b.terms.length, 1, 'nor did they for a moment')
  await Promise.all([a.election.stop(), b.election.stop()])
})

void t.test('a leader that stops cleanly is followed within seconds', async (t) => {
  const kube = new ScriptedKube()
  const clock = new FakeClock()
  const a = replica(kube, clock, 'a')
  await pass(clock, 1000)
  const b = replica(kube, clock, 'b')
  await pass(clock, 3000)
  await a.election.stop()
  t.equal(a.terms[0]?.aborted, true)
  t.equal(await holder(kube), '', 'given back')
  await pass(clock, 2500)
  t.equal(b.election.isLeader, true)
  await b.election.stop()
})

void t.test('a clock that is set neither keeps a successor out nor lets it in', async (t) => {
  const kube = new ScriptedKube()
  const clock = new FakeClock()
  const a = replica(kube, clock, 'a')
  await pass(clock, 1000)
  const others = new FakeClock()
  const b = replica(kube, others, 'b')
  // The leader crashes: its clock does not go on.
  await pass(others, 2_500)
  others.set(3_600_000)
  await pass(others, 2_500)
  t.equal(b.election.isLeader, false, 'forwards: the lease is five seconds old')
  others.set(-48 * 3_600_000)
  await pass(others, 13_000)
  t.equal(b.election.isLeader, true, 'back: nobody waits for two days')
  await b.election.stop()
  await a.election.stop()
})

void t.test('a crashed leader is followed once its lease has run out, not before', async (t) => {
  const kube = new ScriptedKube()
  const clock = new FakeClock()
  const created = await kube.api.create(LEASES, {
    metadata: LEASE,
    spec: { holderIdentity: 'crashed', leaseDurationSeconds: 15, leaseTransitions: 4 },
  })
  t.equal(created.ok, true)
  const b = replica(kube, clock, 'b')
  await pass(clock, 14_500)
  t.equal(b.election.isLeader, false)
  await pass(clock, 3500)
  t.equal(b.election.isLeader, true)
  t.match(await kube.api.get(LEASES, LEASE), { ok: true, value: { spec: { leaseTransitions: 5 } } })
  await b.election.stop()
})

void t.test(
  'a leader cut off from the API server steps down before anyone else can lead',
  async (t) => {
    const kube = new ScriptedKube()
    const clock = new FakeClock()
    const a = replica(kube, clock, 'a')
    await pass(clock, 1000)
    t.equal(a.election.isLeader, true)
    kube.isAway = true
    await pass(clock, 8000)
    t.equal(a.election.isLeader, true, 'a short outage changes nothing')
    await pass(clock, 4000)
    t.equal(a.election.isLeader, false)
    t.equal(a.terms[0]?.aborted, true, 'its work was told to end')
    kube.isAway = false
    await pass(clock, 3000)
    t.equal(a.election.isLeader, true, 'and leads again afterwards')
    t.equal(a.terms.length, 2)
    await a.election.stop()
  },
)

void t.test('losing the lease to another ends the term', async (t) => {
  const kube = new ScriptedKube()
  const clock = new FakeClock()
  const a = replica(kube, clock, 'a')
  await pass(clock, 1000)
  const lease = await kube.api.get(LEASES, LEASE)
  if (!lease.ok) throw new Error(lease.error.message)
  await kube.api.update(LEASES, {
    ...lease.value,
    spec: { holderIdentity: 'usurper', leaseDurationSeconds: 15 },
  })
  await pass(clock, 3000)
  t.equal(a.election.isLeader, false)
  t.equal(a.terms[0]?.aborted, true)
  await a.election.stop()
  t.equal(await holder(kube), 'usurper', "another's lease is not given back")
})
