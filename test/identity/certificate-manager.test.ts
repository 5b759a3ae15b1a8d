// SPDX-License-Identifier: Apache-2.0
// The certificate manager as its users meet it: nothing waits that need not, nothing expires unnoticed.

import t from 'tap'
import { pino } from 'pino'
import type { SpiffeId } from '../../mesh/model/types.ts'
import { CertificateManager } from '../../mesh/identity/certificate-manager.ts'
import { localAuthority } from './local-authority.ts'
import { loadAuthority } from '../../mesh/identity/authority.ts'
import { createRoot } from '../../mesh/identity/root.ts'
import { refreshDelayMs, retryDelayMs } from '../../mesh/identity/schedule.ts'
import { SignedCertificates } from '../../mesh/identity/signed-certificates.ts'
import type {
  CaFailure,
  CertificateAuthority,
  SignedChain,
  SignRequest,
  WorkloadCertificate,
} from '../../mesh/identity/types.ts'
import { type Result, err, ok } from '../../mesh/result.ts'
import { createLogger } from '../../mesh/telemetry/log.ts'
import { FakeClock } from './fake-clock.ts'

const log = createLogger('test', 'silent')
const CATALOG = 'spiffe://cluster.local/ns/shop/sa/catalog' as SpiffeId
const FRONTEND = 'spiffe://cluster.local/ns/shop/sa/frontend' as SpiffeId
const numbered = (n: number): SpiffeId => `spiffe://cluster.local/ns/shop/sa/s${n}` as SpiffeId
const deadline = (): AbortSignal => AbortSignal.timeout(5000)
const DAY_MS = 86_400_000

type Answer = Result<SignedChain, CaFailure>
interface Asked {
  readonly request: SignRequest
  readonly signal: AbortSignal
  /** Signs; with other roots in the answer when some are given. */
  grant(changed?: Partial<SignedChain>): void
  refuse(kind: CaFailure['kind']): void
}

/** A CA whose every answer the test gives by hand. */
class HandAuthority implements CertificateAuthority {
  readonly #real: CertificateAuthority
  readonly #arrived: Asked[] = []
  readonly #wanted: ((asked: Asked) => void)[] = []
  asked = 0

  constructor(real: CertificateAuthority) {
    this.#real = real
  }

  sign(request: SignRequest, signal: AbortSignal): Promise<Answer> {
    this.asked += 1
    return new Promise((resolve) => {
      signal.addEventListener('abort', () =>
        resolve(err({ kind: 'unavailable', message: 'aborted' })),
      )
      const asked: Asked = {
        request,
        signal,
        grant: (changed) =>
          void this.#real
            .sign(request, signal)
            .then((signed) => resolve(signed.ok ? ok({ ...signed.value, ...changed }) : signed)),
        refuse: (kind) => resolve(err({ kind, message: `hand says ${kind}` })),
      }
      const wanted = this.#wanted.shift()
      if (wanted === undefined) this.#arrived.push(asked)
      else wanted(asked)
    })
  }

  next(): Promise<Asked> {
    const arrived = this.#arrived.shift()
    if (arrived !== undefined) return Promise.resolve(arrived)
    return new Promise((resolve) => this.#wanted.push(resolve))
  }

  /** True when nobody asks although everything that could run has run. */
  async isIdle(): Promise<boolean> {
    // Key generation runs on the thread pool: a round through it flushes what was under way.
    for (let round = 0; round < 5; round += 1) {
      await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign'])
      await new Promise((resolve) => setImmediate(resolve))
    }
    return this.#arrived.length === 0
  }
}

async function setUp(
  test: { teardown(fn: () => void): void },
  random = 1,
): Promise<{ clock: FakeClock; authority: HandAuthority; manager: CertificateManager }> {
  const root = await loadAuthority(await createRoot({ organization: 'cluster.local' }))
  if (!root.ok) throw new Error(root.error.reason)
  const clock = new FakeClock()
  const authority = new HandAuthority(localAuthority(root.value))
  const supply = new SignedCertificates({ authority, log, clock, random: () => random })
  const manager = new CertificateManager({ supply, log, clock })
  test.teardown(() => manager.close())
  return { clock, authority, manager }
}

function nextCertificate(manager: CertificateManager): Promise<WorkloadCertificate> {
  return new Promise((resolve) => {
    const unsubscribe = manager.onCertificate((certificate) => {
      unsubscribe()
      resolve(certificate)
    })
  })
}

void t.test(
  'retain() fetches ahead of need, so that the first get() answers at once',
  async (t) => {
    const { authority, manager } = await setUp(t)
    const issued = nextCertificate(manager)
    manager.retain(CATALOG)
    ;(await authority.next()).grant()
    const certificate = await issued
    t.equal(certificate.identity, CATALOG)
    const got = await manager.get(CATALOG, AbortSignal.abort())
    t.match(got, { ok: true, value: { serialNumber: certificate.serialNumber } })
    t.equal(authority.asked, 1)
  },
)

void t.test(
  'a certificate is renewed at half-life with a new key, and the old one serves until then',
  async (t) => {
    const { authority, manager, clock } = await setUp(t, 0)
    manager.retain(CATALOG)
    const first = nextCertificate(manager)
    ;(await authority.next()).grant()
    const old = await first
    clock.advance(DAY_MS / 2 - 60_000)
    t.equal(await authority.isIdle(), true, 'not before half-life')
    clock.advance(61_000)
    const renewal = await authority.next()
    t.equal(manager.current(CATALOG)?.serialNumber, old.serialNumber, 'old one still served')
    const second = nextCertificate(manager)
    renewal.grant()
    const renewed = await second
    t.not(renewed.serialNumber, old.serialNumber)
    t.not(renewed.privateKeyPem, old.privateKeyPem, 'the key is new')
  },
)

void t.test(
  'an old certificate is kept while it is valid, and refused once it has expired',
  async (t) => {
    const { authority, manager, clock } = await setUp(t, 0)
    manager.retain(CATALOG)
    const first = nextCertificate(manager)
    ;(await authority.next()).grant()
    await first
    clock.advance(DAY_MS / 2 + 1000)
    ;(await authority.next()).refuse('unavailable')
    t.equal(await authority.isIdle(), true)
    t.match(await manager.get(CATALOG, deadline()), { ok: true })
    clock.advance(DAY_MS / 2)
    ;(await authority.next()).refuse('unavailable')
    t.equal(await authority.isIdle(), true)
    t.equal(manager.current(CATALOG), undefined)
    t.match(await manager.get(CATALOG, AbortSignal.abort()), {
      ok: false,
      error: { kind: 'unavailable', message: /hand says/ },
    })
  },
)

void t.test('failures are retried after 0.5 to 1 s, then twice as long, up to 150 s', async (t) => {
  for (const random of [0, 0.5, 1]) {
    t.equal(retryDelayMs(1, random, false), 500 + 500 * random)
    t.equal(retryDelayMs(2, random, false), 1000 + 1000 * random)
    t.equal(retryDelayMs(60, random, false), 75_000 + 75_000 * random)
  }
  t.equal(refreshDelayMs(1000 + DAY_MS, 1000, 0), DAY_MS / 2)
  t.equal(refreshDelayMs(1000 + DAY_MS, 1000, 1), DAY_MS * 0.45)
  t.equal(refreshDelayMs(1000, 2000, 0), 1000, 'an expired answer does not cause a storm')
  const { authority, manager, clock } = await setUp(t, 1)
  manager.retain(CATALOG)
  ;(await authority.next()).refuse('unavailable')
  t.equal(await authority.isIdle(), true)
  for (const delay of [1000, 2000, 4000]) {
    clock.advance(delay - 1)
    t.equal(await authority.isIdle(), true, `nothing before ${delay} ms`)
    clock.advance(1)
    ;(await authority.next()).refuse('unavailable')
    t.equal(await authority.isIdle(), true)
  }
  const issued = nextCertificate(manager)
  clock.advance(8000)
  ;(await authority.next()).grant()
  t.equal((await issued).identity, CATALOG)
})

void t.test(
  'at most 8 fetches run at a time, and what a connection waits for goes first',
  async (t) => {
    const { authority, manager } = await setUp(t)
    for (let n = 0; n < 20; n += 1) manager.retain(numbered(n))
    const running = await Promise.all(Array.from({ length: 8 }, () => authority.next()))
    t.equal(await authority.isIdle(), true, 'the ninth waits')
    const waited = manager.get(numbered(19), deadline())
    running[0]?.grant()
    const urgent = await authority.next()
    t.equal(urgent.request.identity, numbered(19), 'the waited-for one overtakes')
    urgent.grant()
    t.match(await waited, { ok: true, value: { identity: numbered(19) } })
    t.equal((await authority.next()).request.identity, numbered(8), 'then in order')
  },
)

void t.test(
  'someone who waits shortens a long back-off, and a crowd of them does not put it off',
  async (t) => {
    const { authority, manager, clock } = await setUp(t, 1)
    manager.retain(CATALOG)
    for (const delay of [1000, 2000, 4000, 8000, 16_000, 32_000, 64_000]) {
      ;(await authority.next()).refuse('unavailable')
      t.equal(await authority.isIdle(), true)
      clock.advance(delay)
    }
    ;(await authority.next()).refuse('unavailable')
    t.equal(await authority.isIdle(), true)
    const crowd: Promise<Result<WorkloadCertificate, CaFailure>>[] = []
    for (let n = 0; n < 10; n += 1) {
      crowd.push(manager.get(CATALOG, deadline()))
      clock.advance(500)
    }
    ;(await authority.next()).grant()
    for (const outcome of await Promise.all(crowd)) t.match(outcome, { ok: true })
  },
)

/** As in an outage that lasts: each attempt fails when it comes. */
async function fail(
  authority: HandAuthority,
  clock: FakeClock,
  delays: readonly number[],
): Promise<void> {
  for (const delay of delays) {
    ;(await authority.next()).refuse('unavailable')
    await authority.isIdle()
    clock.advance(delay)
  }
}

const OUTAGE = [1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 128_000]

void t.test('a CA that may be back is asked at once, as if for the first time', async (t) => {
  const { authority, manager, clock } = await setUp(t, 1)
  manager.retain(CATALOG)
  await fail(authority, clock, OUTAGE)
  ;(await authority.next()).refuse('unavailable')
  t.equal(await authority.isIdle(), true, 'nobody waits: the next attempt is in 150 s')
  manager.retryFailed()
  clock.advance(1000)
  ;(await authority.next()).refuse('unavailable')
  t.equal(await authority.isIdle(), true)
  clock.advance(1000)
  const issued = nextCertificate(manager)
  ;(await authority.next()).grant()
  await issued
  manager.retryFailed()
  clock.advance(DAY_MS / 4)
  t.equal(await authority.isIdle(), true, 'and of one that has not failed there is nothing to ask')
})

void t.test('a CA that is back for one is back for all', async (t) => {
  const { authority, manager, clock } = await setUp(t, 1)
  manager.retain(CATALOG)
  manager.retain(FRONTEND)
  for (const delay of [...OUTAGE, 0]) {
    for (const asked of [await authority.next(), await authority.next()])
      asked.refuse('unavailable')
    await authority.isIdle()
    clock.advance(delay)
  }
  const waited = manager.get(FRONTEND, deadline())
  clock.advance(5000)
  const urgent = await authority.next()
  t.equal(urgent.request.identity, FRONTEND)
  urgent.grant()
  t.match(await waited, { ok: true })
  clock.advance(1000)
  t.equal((await authority.next()).request.identity, CATALOG, 'for which nobody waits')
})

void t.test(
  'a certificate that nears its end is asked for so often that it is not missed',
  async (t) => {
    for (const random of [0, 1]) {
      t.equal(retryDelayMs(60, random, false, DAY_MS), 75_000 + 75_000 * random)
      t.equal(retryDelayMs(60, random, false, 60_000), 15_000 + 15_000 * random)
      t.equal(retryDelayMs(60, random, false, 100), 2500 + 2500 * random, 'and not in a storm')
      t.equal(retryDelayMs(60, random, true, 60_000), 2500 + 2500 * random)
    }
    const { authority, manager, clock } = await setUp(t, 1)
    const first = nextCertificate(manager)
    manager.retain(CATALOG)
    ;(await authority.next()).grant()
    const old = await first
    clock.advance(DAY_MS / 2)
    await fail(authority, clock, OUTAGE)
    ;(await authority.next()).refuse('unavailable')
    await authority.isIdle()
    clock.advance(old.notAfter.getTime() - 100_000 - clock.now())
    ;(await authority.next()).refuse('unavailable')
    await authority.isIdle()
    clock.advance(50_000)
    const renewed = nextCertificate(manager)
    t.ok(manager.current(CATALOG), 'it is still valid')
    ;(await authority.next()).grant()
    t.not((await renewed).serialNumber, old.serialNumber)
  },
)

void t.test(
  'a first refusal may be haste: get() waits on; a lasting one is answered at once',
  async (t) => {
    const { authority, manager, clock } = await setUp(t, 0)
    const waiting = manager.get(CATALOG, deadline())
    for (let attempt = 0; attempt < 3; attempt += 1) {
      ;(await authority.next()).refuse('denied')
      t.equal(await authority.isIdle(), true)
      clock.advance(5000)
    }
    t.match(await waiting, { ok: false, error: { kind: 'denied' } })
  },
)

void t.test('a first refusal after an outage may be haste, too', async (t) => {
  const { authority, manager, clock } = await setUp(t, 0)
  const waiting = manager.get(CATALOG, deadline())
  for (const kind of ['unavailable', 'unavailable', 'unavailable', 'denied'] as const) {
    ;(await authority.next()).refuse(kind)
    t.equal(await authority.isIdle(), true)
    clock.advance(5000)
  }
  ;(await authority.next()).grant()
  t.match(
    await waiting,
    { ok: true },
    'whoever waits is not told the first word of one that came back',
  )
})

void t.test(
  'a lasting refusal is told each time, one that may be haste and a CA that is away are not',
  async (t) => {
    const { authority, manager, clock } = await setUp(t, 0)
    const told: string[] = []
    manager.onRefused((identity, { kind }) => told.push(`${identity} ${kind}`))
    manager.retain(CATALOG)
    for (const kind of ['denied', 'denied', 'denied', 'denied', 'unavailable'] as const) {
      ;(await authority.next()).refuse(kind)
      t.equal(await authority.isIdle(), true)
      clock.advance(150_000)
    }
    t.strictSame(told, [`${CATALOG} denied`, `${CATALOG} denied`])
    ;(await authority.next()).grant()
    await manager.get(CATALOG, deadline())
    t.equal(told.length, 2)
  },
)

void t.test(
  'the last release() aborts the fetch, forgets the certificate and leaves no timer',
  async (t) => {
    const { authority, manager, clock } = await setUp(t)
    manager.retain(CATALOG)
    manager.retain(CATALOG)
    const asked = await authority.next()
    manager.release(CATALOG)
    t.equal(asked.signal.aborted, false, 'one user is left')
    const waiting = manager.get(CATALOG, deadline())
    manager.release(CATALOG)
    t.equal(asked.signal.aborted, false, 'the one who waits is a user too')
    asked.grant()
    t.match(await waiting, { ok: true })
    t.same(manager.status(), [], 'then it is forgotten')
    t.equal(clock.pendingTimers, 0)
    manager.retain(CATALOG)
    const again = await authority.next()
    manager.release(CATALOG)
    t.equal(again.signal.aborted, true)
    t.equal(await authority.isIdle(), true)
    t.equal(clock.pendingTimers, 0)
  },
)

void t.test('an answer that never comes is given up after 10 s and asked for again', async (t) => {
  const { authority, manager, clock } = await setUp(t)
  manager.retain(CATALOG)
  const stuck = await authority.next()
  clock.advance(10_000)
  t.equal(stuck.signal.aborted, true)
  t.equal(await authority.isIdle(), true)
  clock.advance(1000)
  t.equal((await authority.next()).request.identity, CATALOG)
})

void t.test('get() gives up when its signal does and says what is known', async (t) => {
  const { authority, manager } = await setUp(t)
  manager.retain(CATALOG)
  const giveUp = new AbortController()
  const waiting = manager.get(CATALOG, giveUp.signal)
  await authority.next()
  giveUp.abort()
  t.match(await waiting, { ok: false, error: { message: /has not answered in time/ } })
  t.equal(manager.status()[0]?.state, 'initializing')
})

void t.test('close() answers everyone who waits and forgets all', async (t) => {
  const { manager, authority, clock } = await setUp(t)
  const waiting = manager.get(CATALOG, deadline())
  await authority.next()
  manager.close()
  t.match(await waiting, { ok: false, error: { kind: 'unavailable' } })
  t.match(await manager.get(CATALOG, deadline()), { ok: false })
  t.equal(await authority.isIdle(), true)
  t.equal(clock.pendingTimers, 0)
})

void t.test('when the roots change all certificates are fetched anew, soon', async (t) => {
  const { authority, manager, clock } = await setUp(t, 0)
  for (const identity of [CATALOG, FRONTEND]) {
    const issued = nextCertificate(manager)
    manager.retain(identity)
    ;(await authority.next()).grant()
    await issued
  }
  const old = [CATALOG, FRONTEND].map((identity) => manager.current(identity)?.serialNumber)
  manager.renewAll('a test')
  manager.renewAll('again, while it is still to come')
  clock.advance(1_999)
  t.equal(await authority.isIdle(), true, 'not all agents at the same moment')
  clock.advance(1)
  for (const _each of old) (await authority.next()).grant()
  t.equal(await authority.isIdle(), true, 'each of them once')
  const renewed = [CATALOG, FRONTEND].map((identity) => manager.current(identity)?.serialNumber)
  t.not(renewed[0], old[0])
  t.not(renewed[1], old[1])
})

void t.test('a CA that has not heard of new roots is asked a few times more', async (t) => {
  const { authority, manager, clock } = await setUp(t, 0)
  const issued = nextCertificate(manager)
  manager.retain(CATALOG)
  ;(await authority.next()).grant()
  const before = (await issued).rootsPem
  manager.renewAll('a test')
  clock.advance(2_000)
  ;(await authority.next()).grant()
  t.equal(await authority.isIdle(), true)
  clock.advance(62_000)
  const young = await createRoot({ organization: 'cluster.local' })
  ;(await authority.next()).grant({ rootsPem: before + young.certificatePem })
  t.equal(await authority.isIdle(), true)
  clock.advance(300_000)
  t.equal(await authority.isIdle(), true, 'and then no more')

  manager.renewAll('a change that the CA never hears of')
  for (let time = 0; time < 4; time += 1) {
    clock.advance(time === 0 ? 2_000 : 62_000)
    ;(await authority.next()).grant({ rootsPem: before + young.certificatePem })
    t.equal(await authority.isIdle(), true)
  }
  clock.advance(300_000)
  t.equal(await authority.isIdle(), true, 'four times in all')
})

void t.test('where there is no certificate nothing is said of renewing it', (t) => {
  const clock = new FakeClock()
  const lines: string[] = []
  const written = pino({}, { write: (line: string) => void lines.push(line) })
  const supply = new SignedCertificates({
    authority: { sign: () => Promise.reject(new Error('there is nothing to sign')) },
    log: written,
    clock,
    random: () => 0,
  })
  t.teardown(() => supply.close())
  supply.renewAll('a test')
  clock.advance(300_000)
  t.same(lines, [])
  t.end()
})

void t.test('a fetch that is under way when the roots change is followed by another', async (t) => {
  const { authority, manager, clock } = await setUp(t, 0)
  manager.retain(CATALOG)
  const first = await authority.next()
  manager.renewAll('a test')
  clock.advance(2_000)
  const issued = nextCertificate(manager)
  first.grant()
  const old = await issued
  const again = nextCertificate(manager)
  ;(await authority.next()).grant()
  t.not((await again).serialNumber, old.serialNumber)
  t.equal(await authority.isIdle(), true)
})

void t.test('an answer with other roots makes the others be fetched anew, too', async (t) => {
  const { authority, manager, clock } = await setUp(t, 0)
  for (const identity of [CATALOG, FRONTEND]) {
    const issued = nextCertificate(manager)
    manager.retain(identity)
    ;(await authority.next()).grant()
    await issued
    // So that their half-lives are not over at the same time.
    clock.advance(DAY_MS / 24)
  }
  const before = manager.current(FRONTEND)?.rootsPem ?? ''
  clock.advance((DAY_MS * 5) / 12)
  const young = await createRoot({ organization: 'cluster.local' })
  const roots = before + young.certificatePem
  const issued = nextCertificate(manager)
  ;(await authority.next()).grant({ rootsPem: roots })
  t.equal((await issued).identity, CATALOG)
  t.equal(await authority.isIdle(), true)
  clock.advance(2_000)
  ;(await authority.next()).grant({ rootsPem: roots })
  ;(await authority.next()).grant({ rootsPem: roots })
  t.equal(await authority.isIdle(), true)
  for (const identity of [CATALOG, FRONTEND])
    t.equal(manager.current(identity)?.rootsPem, roots, identity)
  clock.advance(10_000)
  t.equal(await authority.isIdle(), true, 'and then there is peace')
})

void t.test('what is odd about the dates of a certificate is said, and it is used', async (t) => {
  const root = await loadAuthority(await createRoot({ organization: 'cluster.local' }))
  if (!root.ok) throw new Error(root.error.reason)
  const real = localAuthority(root.value)
  /** A node whose clock is so far behind, and a CA that gives so many times the days that are asked for. */
  const ask = async (behindMs: number, times: number) => {
    const clock = new FakeClock(behindMs)
    const authority = new HandAuthority({
      sign: (request, signal) =>
        real.sign({ ...request, ttlSeconds: times * request.ttlSeconds }, signal),
    })
    const lines: string[] = []
    const written = pino({ level: 'warn' }, { write: (line: string) => void lines.push(line) })
    const supply = new SignedCertificates({ authority, log: written, clock, random: () => 0 })
    const manager = new CertificateManager({ supply, log, clock })
    t.teardown(() => manager.close())
    manager.retain(CATALOG)
    const issued = nextCertificate(manager)
    ;(await authority.next()).grant()
    await issued
    return { clock, authority, lines }
  }
  const sound = await ask(0, 1)
  t.same(sound.lines, [])
  const long = await ask(0, 365)
  t.match(long.lines, [/last longer than was asked for/])
  long.clock.advance(DAY_MS / 2 + 1_000)
  await long.authority.next()
  t.equal(long.authority.asked, 2, 'and it is renewed as if it lasted as long as was asked for')
  const behind = await ask(300_000, 1)
  t.match(behind.lines, [/not valid yet by the clock of this machine/])
})

void t.test('who waits after the clock was set forwards does not wait for hours', async (t) => {
  const { authority, manager, clock } = await setUp(t, 0)
  manager.retain(CATALOG)
  const first = nextCertificate(manager)
  ;(await authority.next()).grant()
  await first
  clock.set(2 * DAY_MS)
  t.equal(manager.current(CATALOG), undefined, 'it has ended')
  const waiting = manager.get(CATALOG, deadline())
  clock.advance(1_000)
  await authority.next()
  t.equal(authority.asked, 2, 'it is asked for anew')
  manager.close()
  t.match(await waiting, { ok: false })
})
