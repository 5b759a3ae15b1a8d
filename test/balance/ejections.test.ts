// SPDX-License-Identifier: Apache-2.0
// When an endpoint is left alone, for how long, and how it comes back: with a clock that the test moves.

import t from 'tap'
import { Ejections } from '../../mesh/balance/ejections.ts'
import { EndpointExperience } from '../../mesh/balance/endpoint-experience.ts'
import { isEndpointsFault, isWorthRetrying } from '../../mesh/balance/endpoints-fault.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import type { WorkloadUid } from '../../mesh/model/types.ts'
import { podUid, sampleWorkload } from '../model/samples.ts'

const UID = podUid('shop', 'a')
const AT = { endpoint: UID, port: 8080 }

interface Story {
  readonly experience: EndpointExperience
  readonly mesh: MeshState
  /** `+endpoint` ejected, `-endpoint` recovered. */
  readonly told: string[]
  pass(milliseconds: number): void
  /** Tries the endpoint, and says what came of it. */
  attempt(outcome: 'opens' | 'fails' | 'is given up'): void
  isEjected(): boolean
}

function story(): Story {
  const mesh = new MeshState()
  mesh.apply(
    ['a', 'b'].map((name) => ({ kind: 'workload', workload: sampleWorkload(name) }) as const),
  )
  let now = 1_000_000
  const told: string[] = []
  const experience = new EndpointExperience(
    mesh,
    {
      ejected: ({ port }, forMs) => told.push(`+${port} ${forMs}`),
      recovered: ({ port }) => told.push(`-${port}`),
    },
    () => now,
  )
  return {
    experience,
    mesh,
    told,
    pass(milliseconds) {
      now += milliseconds
    },
    attempt(outcome) {
      const attempt = experience.begin(AT)
      now += 1
      if (outcome === 'opens') attempt.opened()
      if (outcome === 'fails') attempt.failed('refused')
      attempt.end()
    },
    isEjected: () => experience.isEjected(UID, 8080),
  }
}

await t.test(
  'an endpoint that fails is left alone, for twice as long each time, and not for ever',
  (t) => {
    const { attempt, pass, isEjected, told } = story()
    for (const [round, forMs] of [1, 2, 4, 8, 16, 32, 64, 64, 64].entries()) {
      attempt('fails')
      pass(forMs * 1_000 - 1)
      t.ok(isEjected(), `round ${round}: still after ${forMs} s less a millisecond`)
      pass(1)
      t.notOk(isEjected(), `round ${round}: over after ${forMs} s`)
    }
    t.strictSame(told, ['+8080 1000'], 'told once')
    attempt('opens')
    t.strictSame(told, ['+8080 1000', '-8080'])
    attempt('fails')
    t.strictSame(told.at(-1), '+8080 1000', 'what has recovered begins anew')
    t.end()
  },
)

await t.test(
  'when its time is over one connection tries, and others go elsewhere until it tells',
  (t) => {
    const { experience, attempt, pass, isEjected, told } = story()
    attempt('fails')
    pass(1_000)
    const trial = experience.begin(AT)
    t.ok(isEjected(), 'for all others')
    const other = experience.begin(AT)
    other.end()
    t.ok(isEjected(), 'another one that ends tells nothing of the trial')
    trial.opened()
    t.notOk(isEjected(), 'it stands; how long it stays does not matter')
    t.strictSame(told, ['+8080 1000', '-8080'])
    trial.end()
    t.end()
  },
)

await t.test('a trial that is given up tells nothing, and the next one may', (t) => {
  const { attempt, pass, isEjected } = story()
  attempt('fails')
  pass(1_000)
  attempt('is given up')
  t.notOk(isEjected())
  attempt('fails')
  pass(1_999)
  t.ok(isEjected(), 'the second failure, not the third')
  t.end()
})

await t.test('a burst of failures counts as one', (t) => {
  const { experience, pass, isEjected } = story()
  const burst = Array.from({ length: 50 }, () => experience.begin(AT))
  pass(5)
  for (const each of burst.slice(0, 25)) each.failed('refused')
  pass(1_000)
  t.notOk(isEjected(), 'one second, however many they were')
  for (const each of burst.slice(25)) each.failed('timed out')
  t.notOk(isEjected(), 'nor do those count again that were begun before')
  t.end()
})

await t.test('while it is ejected and used all the same, failures do not prolong it', (t) => {
  const { attempt, pass, isEjected } = story()
  attempt('fails')
  for (let call = 0; call < 20; call += 1) attempt('fails')
  pass(1_000)
  t.notOk(isEjected())
  t.end()
})

await t.test('connections are counted from choice to end, each once', (t) => {
  const { experience } = story()
  const [one, two] = [experience.begin(AT), experience.begin({ ...AT, port: 9090 })]
  t.equal(experience.openTo(UID), 2, 'the endpoint’s, over all its ports')
  one.opened()
  t.equal(experience.openTo(UID), 2)
  one.end()
  one.end()
  t.equal(experience.openTo(UID), 1)
  two.failed('refused')
  two.end()
  t.equal(experience.openTo(UID), 0)
  t.end()
})

await t.test('one port of an endpoint is ejected, the other is not', (t) => {
  const { experience, attempt } = story()
  attempt('fails')
  t.ok(experience.isEjected(UID, 8080))
  t.notOk(experience.isEjected(UID, 9090))
  t.notOk(experience.isEjected(podUid('shop', 'b'), 8080))
  t.end()
})

await t.test('what is kept ends with its endpoint', (t) => {
  const { experience, mesh, attempt, told } = story()
  attempt('fails')
  experience.forget(UID)
  t.notOk(experience.hasEjected)
  const late = experience.begin(AT)
  mesh.apply([{ kind: 'workloadRemoved', uid: UID }])
  late.failed('gone')
  t.notOk(experience.hasEjected, 'a late failure of one that left leaves nothing')
  t.strictSame(told, ['+8080 1000'])
  t.end()
})

await t.test('however many endpoints fail, a bounded number is kept', (t) => {
  let now = 0
  const ejections = new Ejections(() => now)
  for (let at = 0; at < 10_000; at += 1) {
    now += 1
    ejections.failed({ endpoint: `e${at}` as WorkloadUid, port: 80 }, now)
  }
  t.equal(ejections.size, 256)
  t.ok(ejections.isEjected('e9999' as WorkloadUid, 80), 'the newest are')
  t.notOk(ejections.isEjected('e0' as WorkloadUid, 80))
  for (let at = 0; at < 300; at += 1) {
    now += 1
    ejections.failed({ endpoint: 'one' as WorkloadUid, port: at }, now)
  }
  t.ok(ejections.size <= 256, 'those of one endpoint, too')
  t.end()
})

await t.test(
  'what says something of an endpoint, and what of us, of the rules or of the app',
  (t) => {
    const says = (failure: Partial<Parameters<typeof isEndpointsFault>[0]>): boolean =>
      isEndpointsFault({ reason: 'connectFailed', message: '', ...failure })
    for (const code of ['ECONNREFUSED', 'ETIMEDOUT', 'EHOSTUNREACH', 'ECONNRESET'])
      t.ok(says({ code }), code)
    for (const code of ['EADDRNOTAVAIL', 'EMFILE', 'ENOBUFS', 'EPERM', 'EACCES', undefined])
      t.notOk(says({ code }), `${code}: our own ports, descriptors, rules`)
    t.ok(says({ reason: 'hboneRefused', status: 503 }))
    for (const status of [400, 401, 403, 404, 429, 500])
      t.notOk(says({ reason: 'hboneRefused', status }), `${status}`)
    t.ok(says({ reason: 'connectTimeout' }))
    for (const code of ['ETIMEDOUT', 'ECONNRESET'])
      t.ok(says({ reason: 'tlsFailure', code }), `a handshake that ended with ${code}`)
    for (const reason of [
      'policyDenied',
      'peerIdentityMismatch',
      'tlsFailure',
      'identityError',
      'drained',
      'clientReset',
      'serverReset',
      'outOfDescriptors',
      'floodRefused',
    ] as const)
      t.notOk(says({ reason }), reason)
    t.end()
  },
)

void t.test(
  'another endpoint is tried for what it may not share, not for what the pod lacks',
  (t) => {
    const tried = (failure: Partial<Parameters<typeof isWorthRetrying>[0]>): boolean =>
      isWorthRetrying({ reason: 'connectFailed', message: '', ...failure })
    // No code: the endpoint has no address of a family that the pod has.
    for (const code of ['ECONNREFUSED', 'ETIMEDOUT', 'EADDRNOTAVAIL', 'EADDRINUSE', undefined])
      t.ok(tried({ code }), `${code}`)
    for (const code of ['EMFILE', 'ENFILE', 'ENOMEM', 'ENOBUFS', 'EPERM', 'EACCES'])
      t.notOk(tried({ code }), code)
    t.ok(tried({ reason: 'hboneRefused', status: 503 }))
    t.notOk(tried({ reason: 'hboneRefused', status: 403 }))
    t.notOk(tried({ reason: 'policyDenied' }))
    t.end()
  },
)
