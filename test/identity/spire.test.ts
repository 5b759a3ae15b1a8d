// SPDX-License-Identifier: Apache-2.0
// Identities from SPIRE, over real gRPC on a real Unix socket: what is given is used at once, what is not the wanted identity never, and what
// was given serves while SPIRE is away, until it expires.

import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { create } from '@bufbuild/protobuf'
import { status } from '@grpc/grpc-js'
import fc from 'fast-check'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import type { SigningAuthority } from '../../mesh/identity/authority.ts'
import { CertificateManager } from '../../mesh/identity/certificate-manager.ts'
import { splitCertificates } from '../../mesh/identity/pem.ts'
import { DelegatedIdentities } from '../../mesh/identity/spire/delegated-identities.ts'
import { splitDer } from '../../mesh/identity/spire/svid.ts'
import { WorkloadApi } from '../../mesh/identity/spire/workload-api.ts'
import type { CertificateSupply, WorkloadCertificate } from '../../mesh/identity/types.ts'
import type { SpiffeId } from '../../mesh/model/types.ts'
import { X509SVIDResponseSchema } from '../../mesh/proto/gen/spiffe_workload_api_pb.js'
import { until, within } from '../support/until.ts'
import { FakeClock } from './fake-clock.ts'
import { authorityOf, makeCa, plugIn } from './pki.ts'
import {
  bundlesAnswer,
  delegatedAnswer,
  derOf,
  SpireServer,
  svidFor,
  type TestSvid,
} from './spire-server.ts'

const CATALOG = 'spiffe://cluster.local/ns/shop/sa/catalog' as SpiffeId
const FRONTEND = 'spiffe://cluster.local/ns/shop/sa/frontend' as SpiffeId
const HOUR_MS = 3_600_000
const MINUTE_MS = 60_000
/** As many failures as make it wait longest. */
const MANY = 10
/** A stream that broke once is opened again after so long. */
const REOPEN_MS = 1_000
/** A stream that stands is opened anew after so long, when it has brought nothing of use. */
const RETRY_MS = 5_000

/** A root and what it signs. */
async function authority(name: string): Promise<SigningAuthority> {
  const ca = await makeCa(name)
  return authorityOf(plugIn(ca, [ca]))
}

/** tap's own directories have longer paths than a socket may. */
async function shortDirectory(t: Test): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'ambit-spire-'))
  t.teardown(() => rm(directory, { recursive: true, force: true }))
  return directory
}

interface Started {
  readonly clock: FakeClock
  readonly server: SpireServer
  readonly socket: string
  readonly manager: CertificateManager
  /** Every line that was logged, as text. */
  readonly logged: () => string
}

interface Choices {
  readonly aliases?: readonly string[]
  readonly pods?: () => readonly string[]
  readonly supply?: 'delegated' | 'workload'
}

async function start(t: Test, choices: Choices = {}): Promise<Started> {
  const clock = new FakeClock()
  const server = new SpireServer()
  const socket = `unix://${await shortDirectory(t)}/s`
  await server.listen(socket)
  t.teardown(() => server.close())
  let lines = ''
  const sink = new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines += chunk.toString()
      done()
    },
  })
  const log = pino({ level: 'trace' }, sink)
  const trust = { trustDomain: 'cluster.local', aliases: choices.aliases ?? [] }
  const common = { socket, trust, clock, random: () => 0 }
  const supply: CertificateSupply =
    choices.supply === 'workload'
      ? new WorkloadApi(common)
      : new DelegatedIdentities({ ...common, podsOf: choices.pods ?? ((): [] => []), log })
  const manager = new CertificateManager({ supply, log, clock })
  t.teardown(() => manager.close())
  return { clock, server, socket, manager, logged: () => lines }
}

function nextCertificate(manager: CertificateManager): Promise<WorkloadCertificate> {
  const { promise, resolve } = Promise.withResolvers<WorkloadCertificate>()
  const unsubscribe = manager.onCertificate((certificate) => {
    unsubscribe()
    resolve(certificate)
  })
  return within(promise, 'a certificate')
}

const failureOf = (manager: CertificateManager): string =>
  manager.status()[0]?.lastFailure?.message ?? ''

/** The first failure whose message is such. */
async function failed(manager: CertificateManager, message: RegExp): Promise<void> {
  await until(
    () => message.test(failureOf(manager)),
    () => `${message} of ${JSON.stringify(failureOf(manager))}`,
  )
}

/** SPIRE with one root, and a client that has it and waits for its first SVID. */
async function withRoots(t: Test, choices: Choices = {}) {
  const started = await start(t, choices)
  const root = await authority('spire')
  started.manager.retain(CATALOG)
  const bundles = await started.server.bundles.next()
  bundles.send(bundlesAnswer({ 'cluster.local': derOf(root.bundlePem) }))
  const stream = await started.server.svids.next()
  const svid = (lifetimeMs?: number): Promise<TestSvid> =>
    svidFor(root, CATALOG, started.clock.now(), { ...(lifetimeMs && { lifetimeMs }) })
  return { ...started, root, bundles, stream, svid }
}

void t.test('a pod has the SVID of its account, asked for by account and pods', async (t) => {
  const pods = ['pod-1', 'pod-2']
  const { stream, manager, svid, root, logged } = await withRoots(t, { pods: () => pods })
  t.same(
    stream.request.selectors.map(({ type, value }) => `${type}:${value}`),
    ['k8s:ns:shop', 'k8s:sa:catalog', 'k8s:pod-uid:pod-1', 'k8s:pod-uid:pod-2'],
  )
  const waiting = manager.get(CATALOG, AbortSignal.timeout(60_000))
  const given = await svid()
  stream.send(delegatedAnswer([given]))
  const got = await waiting
  t.match(got, { ok: true, value: { identity: CATALOG, serialNumber: given.serialNumber } })
  if (!got.ok) return
  t.same(derOf(got.value.rootsPem), derOf(root.bundlePem))
  t.match(got.value.privateKeyPem, /PRIVATE KEY/)

  await t.test('whose key is in no log and in no status', (t) => {
    const key = got.value.privateKeyPem.split('\n')[1] ?? ''
    const shown = `${logged()}${JSON.stringify(manager.status())}`
    t.match(logged(), given.serialNumber, 'that it came is logged')
    t.notMatch(shown, 'PRIVATE KEY')
    t.notOk(shown.includes(key))
    t.notOk(shown.includes(given.key.toString('base64')))
    t.end()
  })
})

void t.test('of several SVIDs, the one of the identity that lasts longest is used', async (t) => {
  const { stream, manager, svid, root, clock } = await withRoots(t)
  const long = await svid(2 * HOUR_MS)
  const first = nextCertificate(manager)
  stream.send(
    delegatedAnswer([await svidFor(root, FRONTEND, clock.now()), await svid(), long, await svid()]),
  )
  t.equal((await first).serialNumber, long.serialNumber)
})

void t.test("what lies between the leaf and SPIRE's root goes with the leaf", async (t) => {
  const { server, manager, clock } = await start(t)
  const root = await makeCa('upstream')
  const between = await makeCa('spire', { parent: root })
  const spire = await authorityOf(plugIn(between, [root]))
  manager.retain(CATALOG)
  const given = await svidFor(spire, CATALOG, clock.now())
  t.equal(given.chain.length, 2)
  const told = nextCertificate(manager)
  const stream = await server.svids.next()
  stream.send(delegatedAnswer([given]))
  const bundles = await server.bundles.next()
  bundles.send(bundlesAnswer({ 'cluster.local': derOf(root.pem) }))
  t.same(derOf((await told).chainPem), given.chain, 'also where roots come later')
})

void t.test('a new SVID takes the place of the one before as soon as it is told', async (t) => {
  const { stream, manager, svid, clock } = await withRoots(t)
  const [old, renewed] = [await svid(), await svid(2 * HOUR_MS)]
  let told = nextCertificate(manager)
  stream.send(delegatedAnswer([old]))
  t.equal((await told).serialNumber, old.serialNumber)

  const heard: string[] = []
  manager.onCertificate(({ serialNumber }) => heard.push(serialNumber))
  // SPIRE tells of whatever changes, of others' entries, too.
  stream.send(delegatedAnswer([old]))
  told = nextCertificate(manager)
  stream.send(delegatedAnswer([renewed]))
  t.equal((await told).serialNumber, renewed.serialNumber)
  t.same(heard, [renewed.serialNumber], 'the same one again is no news')
  t.equal(manager.current(CATALOG)?.serialNumber, renewed.serialNumber)

  clock.advance(HOUR_MS + 1)
  t.equal(manager.current(CATALOG)?.serialNumber, renewed.serialNumber)
  clock.advance(HOUR_MS)
  t.equal(manager.current(CATALOG), undefined, 'an expired one is not used')
})

void t.test('without an entry a pod has no identity, and hears why', async (t) => {
  const { server, stream, manager, svid, clock } = await withRoots(t, { pods: () => ['uid-7'] })
  const refused: string[] = []
  manager.onRefused((identity) => refused.push(identity))
  stream.send(delegatedAnswer([]))
  await failed(manager, /SPIRE has no entry for spiffe:\/\/cluster.local\/ns\/shop\/sa\/catalog/)
  t.match(failureOf(manager), '(selectors k8s:ns:shop, k8s:sa:catalog, k8s:pod-uid:uid-7)')
  t.equal(manager.current(CATALOG), undefined)
  t.same(refused, [], 'the entry may be on its way')

  let newest = stream
  for (let round = 0; round < 2; round += 1) {
    clock.advance(RETRY_MS)
    newest = await server.svids.next()
    const failures = nextFailure(manager)
    newest.send(delegatedAnswer([]))
    await failures
  }
  t.same(refused, [CATALOG])
  t.match(await manager.get(CATALOG, AbortSignal.timeout(60_000)), {
    ok: false,
    error: { kind: 'denied', message: /SPIRE has no entry/ },
  })

  const cured = nextCertificate(manager)
  newest.send(delegatedAnswer([await svid()]))
  t.equal((await cured).identity, CATALOG, 'an entry that is made helps at once')
  t.equal(failureOf(manager), '')
})

/** Resolves at the next attempt that fails; by the count that the log would have. */
function nextFailure(manager: CertificateManager): Promise<void> {
  const before = manager.status()[0]?.lastFailure
  return until(() => manager.status()[0]?.lastFailure !== before, 'another failure')
}

void t.test('who is not the wanted identity is refused', async (t) => {
  await t.test('an entry with another SPIFFE ID, by its name', async (t) => {
    const { stream, manager, root, clock } = await withRoots(t)
    stream.send(
      delegatedAnswer([await svidFor(root, 'spiffe://cluster.local/catalog', clock.now())]),
    )
    await failed(manager, /SPIRE has no entry for .*sa\/catalog/)
    t.match(failureOf(manager), 'it has entries for spiffe://cluster.local/catalog')
    t.equal(manager.current(CATALOG), undefined)
  })
  await t.test('a certificate that names another than SPIRE says', async (t) => {
    const { stream, manager, root, clock } = await withRoots(t)
    const lie = await svidFor(root, FRONTEND, clock.now(), { id: CATALOG })
    stream.send(delegatedAnswer([lie]))
    await failed(manager, /SPIRE answered one for spiffe:\/\/cluster.local\/ns\/shop\/sa\/frontend/)
    t.equal(manager.current(CATALOG), undefined)
  })
  await t.test('a certificate that none of the roots vouches for', async (t) => {
    const { stream, manager, clock } = await withRoots(t)
    const stranger = await svidFor(await authority('stranger'), CATALOG, clock.now())
    stream.send(delegatedAnswer([stranger]))
    await failed(manager, /SPIRE answered one that leads to none of the roots/)
  })
  await t.test('and what was held before goes on', async (t) => {
    const { stream, manager, svid, root, clock } = await withRoots(t)
    const good = await svid()
    const told = nextCertificate(manager)
    stream.send(delegatedAnswer([good]))
    await told
    stream.send(delegatedAnswer([await svidFor(root, FRONTEND, clock.now())]))
    await failed(manager, /it has entries for/)
    t.equal(manager.current(CATALOG)?.serialNumber, good.serialNumber)
  })
})

void t.test('SPIRE goes away and comes back', async (t) => {
  const { server, socket, stream, manager, svid, root, clock, logged } = await withRoots(t)
  const held = await svid()
  let told = nextCertificate(manager)
  stream.send(delegatedAnswer([held]))
  await told
  server.close()
  await failed(manager, /SPIRE at unix:\/\/.* cannot be asked: /)
  await until(() => logged().includes("SPIRE's roots ended"), 'the end of both streams')
  t.equal(manager.current(CATALOG)?.serialNumber, held.serialNumber, 'what was given serves')

  await server.listen(socket)
  clock.advance(REOPEN_MS)
  const bundles = await server.bundles.next()
  const again = await server.svids.next()
  const renewed = await svid(3 * HOUR_MS)
  told = nextCertificate(manager)
  again.send(delegatedAnswer([renewed]))
  t.equal((await told).serialNumber, renewed.serialNumber, 'by the roots that were told before')
  t.equal(failureOf(manager), '')

  const other = await authority('later')
  told = nextCertificate(manager)
  bundles.send(
    bundlesAnswer({ 'cluster.local': [...derOf(root.bundlePem), ...derOf(other.bundlePem)] }),
  )
  t.equal(splitCertificates((await told).rootsPem).length, 2, 'and roots go on changing')

  server.close()
  await failed(manager, /cannot be asked/)
  clock.advance(3 * HOUR_MS)
  t.equal(manager.current(CATALOG), undefined, 'until it expires')
  t.match(await manager.get(CATALOG, AbortSignal.abort()), {
    ok: false,
    error: { kind: 'unavailable', message: /cannot be asked/ },
  })
})

void t.test(
  'however often it failed, it asks again before the SVID that is held ends',
  async (t) => {
    const { server, stream, manager, svid, clock } = await withRoots(t)
    const told = nextCertificate(manager)
    stream.send(delegatedAnswer([await svid(MINUTE_MS)]))
    await told
    for (let failures = 0; failures < MANY; failures += 1) {
      const failure = nextFailure(manager)
      stream.send(delegatedAnswer([]))
      await failure
    }
    clock.advance(MINUTE_MS / 3)
    t.ok(await server.svids.next())
    t.ok(manager.current(CATALOG), 'which serves meanwhile')
  },
)

void t.test('the roots change, and the SVID does not', async (t) => {
  const { bundles, stream, manager, svid, root } = await withRoots(t, {
    aliases: ['old.example', 'never.told'],
  })
  const [next, old, foreign] = [
    await authority('next'),
    await authority('old'),
    await authority('foreign'),
  ]
  const given = await svid()
  const federatesWith = ['spiffe://old.example', 'spiffe://never.told', 'spiffe://foreign.example']
  let told = nextCertificate(manager)
  stream.send(delegatedAnswer([given], federatesWith))
  t.same(derOf((await told).rootsPem), derOf(root.bundlePem))

  told = nextCertificate(manager)
  bundles.send(
    bundlesAnswer({
      'foreign.example': derOf(foreign.bundlePem),
      'cluster.local': [...derOf(root.bundlePem), ...derOf(next.bundlePem)],
      'old.example': derOf(old.bundlePem),
    }),
  )
  const changed = await told
  t.equal(changed.serialNumber, given.serialNumber)
  t.same(
    derOf(changed.rootsPem),
    [root, next, old].flatMap(({ bundlePem }) => derOf(bundlePem)),
    'its own, and an alias that it federates with; no other domain',
  )

  told = nextCertificate(manager)
  stream.send(delegatedAnswer([given]))
  t.same(
    derOf((await told).rootsPem),
    [root, next].flatMap(({ bundlePem }) => derOf(bundlePem)),
    'an alias that it does not federate with is left out',
  )

  bundles.send(bundlesAnswer({ 'old.example': derOf(old.bundlePem) }))
  await failed(manager, /SPIRE has no roots of the trust domain cluster.local \(--trust-domain\)/)
  t.equal(manager.current(CATALOG)?.serialNumber, given.serialNumber)
})

void t.test('SPIRE does not trust the agent as a delegate', async (t) => {
  const { stream, manager } = await withRoots(t)
  stream.refuse(status.PERMISSION_DENIED, 'no identity issued')
  await failed(manager, /SPIRE does not give this agent the identities of pods/)
  t.match(failureOf(manager), '(PERMISSION_DENIED: no identity issued)')
})

void t.test('who hangs is given up, and asked anew', async (t) => {
  await t.test('before the first answer', async (t) => {
    const { clock, server, manager } = await start(t)
    manager.retain(CATALOG)
    await server.bundles.next()
    const silent = await server.svids.next()
    clock.advance(10_000)
    await failed(manager, /no answer within 10000 ms/)
    await until(() => silent.over.aborted, 'the silent stream to be left')
    clock.advance(RETRY_MS)
    await server.svids.next()
  })
  await t.test('where not even a connection comes about', async (t) => {
    const clock = new FakeClock()
    const socket = `${await shortDirectory(t)}/s`
    const mute = createServer()
    await new Promise<void>((resolve) => mute.listen(socket, resolve))
    t.teardown(() => mute.close())
    const supply = new WorkloadApi({
      socket: `unix://${socket}`,
      trust: { trustDomain: 'cluster.local', aliases: [] },
      clock,
    })
    const manager = new CertificateManager({ supply, log: pino({ level: 'silent' }), clock })
    t.teardown(() => manager.close())
    manager.retain(CATALOG)
    clock.advance(10_000)
    await failed(manager, /no answer within 10000 ms/)
  })
  await t.test('when the next SVID is overdue', async (t) => {
    const { stream, server, manager, svid, clock } = await withRoots(t)
    const held = await svid()
    let told = nextCertificate(manager)
    stream.send(delegatedAnswer([held]))
    await told
    clock.advance((HOUR_MS * 2) / 3)
    const anew = await server.svids.next()
    await until(() => stream.over.aborted, 'the stream to be left')
    const renewed = await svid()
    told = nextCertificate(manager)
    anew.send(delegatedAnswer([renewed]))
    t.equal((await told).serialNumber, renewed.serialNumber)
  })
})

void t.test('absurd answers are refused by name, and harm nothing', async (t) => {
  const junk = Buffer.from('this is no DER at all')
  const cases: readonly (readonly [string, Partial<TestSvid>, RegExp])[] = [
    ['a chain', { chain: [junk] }, /SPIRE answered a chain that cannot be read/],
    ['no chain', { chain: [] }, /SPIRE answered no certificate/],
    ['a key', { key: junk }, /SPIRE answered a key that cannot be read/],
    ['no key', { key: Buffer.alloc(0) }, /SPIRE answered a key that cannot be read/],
  ]
  for (const [what, absurd, reason] of cases)
    await t.test(what, async (t) => {
      const { stream, manager, svid, logged } = await withRoots(t)
      stream.send(delegatedAnswer([{ ...(await svid()), ...absurd }]))
      await failed(manager, reason)
      t.match(failureOf(manager), CATALOG)
      t.notMatch(logged(), junk.toString())
      const cured = nextCertificate(manager)
      stream.send(delegatedAnswer([await svid()]))
      t.equal((await cured).identity, CATALOG)
    })
  await t.test("another's key", async (t) => {
    const { stream, manager, svid } = await withRoots(t)
    const { key } = await svid()
    stream.send(delegatedAnswer([{ ...(await svid()), key }]))
    await failed(manager, /the certificate is not for the key that goes with it/)
  })
  await t.test('an expired certificate', async (t) => {
    const { stream, manager, svid } = await withRoots(t)
    stream.send(delegatedAnswer([await svid(-1_000)]))
    await failed(manager, /it expired at/)
  })
  await t.test('roots', async (t) => {
    const { bundles, stream, manager, svid } = await withRoots(t)
    const first = nextCertificate(manager)
    stream.send(delegatedAnswer([await svid()]))
    await first
    bundles.send(bundlesAnswer({ 'cluster.local': [junk] }))
    await failed(manager, /SPIRE's roots of the trust domain cluster.local are no row of certif/)
    bundles.send(bundlesAnswer({ 'cluster.local': [Buffer.from([0x30, 0x01, 0x00])] }))
    await failed(manager, /one of SPIRE's roots of the trust domain cluster.local cannot be read/)
    t.ok(manager.current(CATALOG))
  })
  await t.test('what is no message at all', async (t) => {
    const { server, stream, manager, svid, clock } = await withRoots(t)
    server.rawSvids = Buffer.from('ffffffffffffffffffff', 'hex')
    stream.send(delegatedAnswer([]))
    await failed(manager, /cannot be asked/)
    server.rawSvids = undefined
    clock.advance(RETRY_MS)
    const told = nextCertificate(manager)
    ;(await server.svids.next()).send(delegatedAnswer([await svid()]))
    t.equal((await told).identity, CATALOG)
  })
  await t.test('any bytes', (t) => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        const rows = splitDer(bytes)
        return rows === undefined || Buffer.concat(rows).equals(Buffer.from(bytes))
      }),
    )
    t.end()
  })
})

void t.test('the entry of a pod that goes leaves its account to those that stay', async (t) => {
  let pods = ['first', 'second']
  const { server, stream, manager, svid, clock } = await withRoots(t, { pods: () => pods })
  let told = nextCertificate(manager)
  const held = await svid()
  stream.send(delegatedAnswer([held]))
  await told
  pods = ['second']
  stream.send(delegatedAnswer([]))
  await failed(manager, /SPIRE has no entry/)
  t.equal(manager.current(CATALOG)?.serialNumber, held.serialNumber)
  clock.advance(RETRY_MS)
  const anew = await server.svids.next()
  t.match(anew.request.selectors.at(-1), { type: 'k8s', value: 'pod-uid:second' })
  t.equal(anew.request.selectors.length, 3)
  told = nextCertificate(manager)
  const renewed = await svid()
  anew.send(delegatedAnswer([renewed]))
  t.equal((await told).serialNumber, renewed.serialNumber)
})

void t.test('an identity that nobody uses any more leaves no stream, and no timer', async (t) => {
  const { stream, manager, svid, clock, server } = await withRoots(t)
  const told = nextCertificate(manager)
  stream.send(delegatedAnswer([await svid()]))
  await told
  manager.release(CATALOG)
  await until(() => stream.over.aborted, 'the stream to end')
  t.equal(clock.pendingTimers, 0)
  manager.retain(FRONTEND)
  const other = await server.svids.next()
  t.match(other.request.selectors, [{ value: 'ns:shop' }, { value: 'sa:frontend' }])
  t.equal(server.bundles.opened, 1, 'roots come by one stream for all')
})

void t.test('a waypoint has its own SVID by the Workload API', async (t) => {
  const { server, manager, clock } = await start(t, {
    supply: 'workload',
    aliases: ['old.example'],
  })
  const [root, old] = [await authority('spire'), await authority('old')]
  manager.retain(CATALOG)
  const stream = await server.workload.next()
  t.same(stream.metadata.get('workload.spiffe.io'), ['true'])
  const own = await svidFor(root, CATALOG, clock.now())
  const others = await svidFor(root, 'spiffe://cluster.local/node-helper', clock.now())
  const message = (svids: readonly TestSvid[], roots: readonly SigningAuthority[]) =>
    create(X509SVIDResponseSchema, {
      federatedBundles: {
        'spiffe://old.example': Buffer.concat(derOf(old.bundlePem)),
        'spiffe://foreign.example': Buffer.concat(derOf(old.bundlePem)),
      },
      svids: svids.map(({ id, chain, key }) => ({
        spiffeId: id,
        x509Svid: Buffer.concat(chain),
        x509SvidKey: key,
        bundle: Buffer.concat(roots.flatMap(({ bundlePem }) => derOf(bundlePem))),
      })),
    })
  let told = nextCertificate(manager)
  stream.send(message([others, own], [root]))
  const first = await told
  t.equal(first.serialNumber, own.serialNumber)
  t.same(
    derOf(first.rootsPem),
    [root, old].flatMap(({ bundlePem }) => derOf(bundlePem)),
  )

  const next = await authority('next')
  const renewed = await svidFor(next, CATALOG, clock.now())
  told = nextCertificate(manager)
  stream.send(message([renewed], [root, next]))
  t.equal((await told).serialNumber, renewed.serialNumber)

  stream.send(message([{ ...own, chain: [Buffer.from('junk')] }], [root]))
  await failed(manager, /SPIRE answered a chain that cannot be read/)

  stream.refuse(status.PERMISSION_DENIED, 'no identity issued')
  await failed(
    manager,
    /SPIRE has no entry for .*catalog \(PERMISSION_DENIED: no identity issued\)/,
  )
  t.equal(manager.current(CATALOG)?.serialNumber, renewed.serialNumber)
})
