// SPDX-License-Identifier: Apache-2.0
// A successor takes a node over when it can serve what its predecessor serves: certificates of its pods are a part of that.

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import t, { type Test } from 'tap'
import { pino } from 'pino'
import type { AgentServers } from '../../agent/admin/start-servers.ts'
import { meetPredecessor, type Predecessor } from '../../agent/handover/index.ts'
import type { NodeDuties } from '../../agent/node-duties.ts'
import type { WorkerPool } from '../../agent/proxy/worker/worker-pool.ts'
import type { Starting } from '../../agent/starting.ts'
import { prepare, takeCharge } from '../../agent/take-over.ts'
import { CertificateManager } from '../../mesh/identity/certificate-manager.ts'
import type { CertificateOrder, WorkloadCertificate } from '../../mesh/identity/types.ts'
import type { SpiffeId } from '../../mesh/model/types.ts'
import { until } from '../support/until.ts'
import { stopTime } from '../support/stop-time.ts'

const WEB = 'spiffe://cluster.local/ns/shop/sa/web' as SpiffeId
const NEW = 'spiffe://cluster.local/ns/shop/sa/new' as SpiffeId
/** As often as a refusal is told before it is the answer. */
const REFUSALS = 3

function certificateOf(identity: SpiffeId): WorkloadCertificate {
  return {
    identity,
    chainPem: '',
    privateKeyPem: '',
    rootsPem: '',
    serialNumber: '01',
    notBefore: new Date(),
    notAfter: new Date(Date.now() + 3_600_000),
  }
}

interface Successor {
  readonly orders: ReadonlyMap<SpiffeId, CertificateOrder>
  readonly certificates: CertificateManager
  readonly synced: () => void
  readonly predecessorEnds: () => void
  /** What the predecessor tells when it is asked again; one that was never told anything does not answer. */
  readonly tells: (later: {
    readonly identities: SpiffeId[]
    readonly certified: SpiffeId[]
  }) => void
  readonly giveUp: (reason: Error) => void
  readonly isReady: () => boolean
  /** What it has logged. */
  readonly lines: readonly string[]
  /** Once it is ready, or has failed. */
  readonly ready: ReturnType<typeof prepare>
}

/** Of a predecessor that has a certificate for one of its two identities. */
function successor(t: Test, { isAlone = false, isGivenUp = false } = {}): Successor {
  const orders = new Map<SpiffeId, CertificateOrder>()
  const lines: string[] = []
  const log = pino({ level: 'warn' }, { write: (line) => void lines.push(line) })
  const certificates = new CertificateManager({
    supply: {
      begin: (order) => void orders.set(order.identity, order),
      hasten: () => undefined,
      renewAll: () => undefined,
      retryFailed: () => undefined,
      close: () => undefined,
    },
    log,
  })
  t.teardown(() => certificates.close())
  const gone = new AbortController()
  if (isAlone) gone.abort()
  const given = new AbortController()
  if (isGivenUp) given.abort(new Error('told to end'))
  const meshSynced = Promise.withResolvers<void>()
  let later: object | undefined
  const predecessor = {
    identities: [WEB, NEW],
    certified: [WEB],
    gone: gone.signal,
    tellAgain: () => {
      Object.assign(predecessor, later)
      return Promise.resolve(later !== undefined)
    },
  }
  let isReady = false
  const ready = prepare(
    { log } as Starting,
    predecessor as unknown as Predecessor,
    { certificates, meshSynced: meshSynced.promise },
    given.signal,
  )
  ready.then(
    () => (isReady = true),
    () => undefined,
  )
  return {
    orders,
    certificates,
    synced: () => meshSynced.resolve(),
    predecessorEnds: () => gone.abort(),
    tells: (next) => (later = next),
    giveUp: (reason) => given.abort(reason),
    isReady: () => isReady,
    lines,
    ready,
  }
}

/** Everything that is due has been done. */
async function settled(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve))
}

const UNAVAILABLE = { kind: 'unavailable', message: 'nobody answers' } as const
const DENIED = { kind: 'denied', message: 'no such pod' } as const

void t.test('it waits for the certificates that its predecessor has', async (t) => {
  const tick = stopTime(t, ['setTimeout', 'setInterval'])
  const { orders, synced, ready, isReady, lines } = successor(t)
  t.same([...orders.keys()], [WEB, NEW], 'all are asked for')
  synced()
  for (let failure = 0; failure < 2 * REFUSALS; failure += 1) orders.get(WEB)?.fail(UNAVAILABLE)
  tick(60_000)
  await settled()
  t.notOk(isReady(), 'for as long as the authority is away')
  const told = lines.filter((line) => line.includes('the predecessor goes on'))
  t.equal(told.length, 1, 'and tells whose')
  t.match(told[0], `"identities":["${WEB}"]`)
  orders.get(WEB)?.give(certificateOf(WEB))
  await ready
  t.pass('and not for one that the predecessor does not have, either')
})

void t.test('it waits for the state of the mesh, too', async (t) => {
  const { orders, synced, ready, isReady } = successor(t)
  orders.get(WEB)?.give(certificateOf(WEB))
  await settled()
  t.notOk(isReady())
  synced()
  await ready
  t.ok(isReady())
})

void t.test('what is refused is waited for while the predecessor serves it', async (t) => {
  const tick = stopTime(t, ['setTimeout', 'setInterval'])
  const { orders, synced, tells, ready, isReady } = successor(t)
  synced()
  tells({ identities: [WEB], certified: [WEB] })
  for (let refusal = 1; refusal <= REFUSALS; refusal += 1) orders.get(WEB)?.fail(DENIED)
  for (let second = 0; second < 60; second += 1) {
    await settled()
    tick(1_000)
  }
  t.notOk(isReady(), 'as where it is this agent that the authority will give nothing')
  tells({ identities: [], certified: [] })
  await settled()
  tick(1_000)
  await ready
  t.pass('and no longer')
})

void t.test(
  'a pod that has come since the predecessor told of its pods is waited for, too',
  async (t) => {
    const tick = stopTime(t, ['setTimeout', 'setInterval'])
    const { orders, synced, tells, ready, isReady, certificates } = successor(t)
    orders.get(WEB)?.give(certificateOf(WEB))
    await settled()
    const late = 'spiffe://cluster.local/ns/shop/sa/late' as SpiffeId
    tells({ identities: [WEB, late], certified: [WEB, late] })
    synced()
    await settled()
    t.ok(orders.has(late), 'its certificate is asked for')
    tick(1_000)
    await settled()
    t.notOk(isReady())
    orders.get(late)?.give(certificateOf(late))
    const { release } = await ready
    release()
    t.same(certificates.status(), [], 'nor is it kept longer than the others')
  },
)

void t.test(
  'of a predecessor that cannot be asked again what is refused is not waited for',
  async (t) => {
    const { orders, synced, ready, isReady } = successor(t)
    synced()
    for (let refusal = 1; refusal < REFUSALS; refusal += 1) orders.get(WEB)?.fail(DENIED)
    await settled()
    t.notOk(isReady(), 'a first refusal may be haste')
    orders.get(WEB)?.fail(DENIED)
    await ready
    t.ok(isReady())
  },
)

void t.test('one whose predecessor is gone takes over as it is', async (t) => {
  const { predecessorEnds, ready, certificates } = successor(t)
  predecessorEnds()
  const { release } = await ready
  t.same(
    certificates.status().map(({ identity }) => identity),
    [WEB, NEW],
    'what it has asked for is kept for the pods',
  )
  release()
  t.same(certificates.status(), [])
})

void t.test('so does one whose predecessor went while it was being started', async (t) => {
  const { ready } = successor(t, { isAlone: true })
  await ready
  t.pass('without the control plane')
})

void t.test('a start that is given up says why', async (t) => {
  const { giveUp, ready } = successor(t)
  giveUp(new Error('told to end'))
  await t.rejects(ready, { message: 'told to end' })
  await t.rejects(successor(t, { isGivenUp: true }).ready, { message: 'told to end' }, 'also early')
})

void t.test('given an agent in charge, whose successor comes to nothing', async (t) => {
  const directory = await mkdtemp(path.join(tmpdir(), 'ambit-take-over-'))
  t.teardown(() => rm(directory, { recursive: true, force: true }))
  const socketPath = path.join(directory, 'agent.sock')
  const node = { isOurs: true, begun: 0 }
  await using started = new AsyncDisposableStack()
  await takeCharge({ log: pino({ level: 'silent' }), started } as unknown as Starting, {
    capture: { isSuperseded: () => false },
    pool: { pods: () => [] } as unknown as WorkerPool,
    certificates: { current: () => undefined },
    servers: {} as AgentServers,
    duties: {
      isInCharge: () => Promise.resolve(node.isOurs),
      begin: () => {
        node.begun += 1
        node.isOurs = true
        return Promise.resolve()
      },
    } as NodeDuties,
    socketPath,
    quit: () => t.fail('it goes on'),
  })
  /** As soon as the agent has heard of the end of the one before. */
  const meet = async (): Promise<Predecessor> => {
    const met: { one?: Predecessor | undefined } = {}
    await until(async () => {
      const log = pino({ level: 'silent' })
      const next = meetPredecessor({
        socketPath,
        version: '2.0.0',
        trustDomain: 'cluster.local',
        log,
      })
      met.one = await next.catch(() => undefined)
      return met.one !== undefined
    }, 'it to meet a successor')
    if (met.one === undefined) throw new Error('nobody was met')
    return met.one
  }

  await t.test('before it has begun with the pods: it goes on', async () => {
    ;(await meet()).leave()
  })

  await t.test('after it has: it takes them back at once', async (t) => {
    const successor = await meet()
    t.equal(node.begun, 0)
    node.isOurs = false
    await successor.takesBack()
    t.equal(node.begun, 1, 'when the successor lets go of them it has them')
    ;(await meet()).leave()
    t.equal(node.begun, 1)
  })

  await t.test('and where nobody says so, for it was killed', async (t) => {
    const successor = await meet()
    node.isOurs = false
    successor.leave()
    await until(() => node.begun > 1, 'the pods to be taken back')
    ;(await meet()).leave()
    t.equal(node.begun, 2)
  })
})
