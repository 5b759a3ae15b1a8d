// SPDX-License-Identifier: Apache-2.0
// The certificate service over real gRPC and TLS, as an agent meets it.

import t from 'tap'
import { execFileSync } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { type AddressInfo, connect as connectTcp, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { connect } from 'node:tls'
import { Server } from '@grpc/grpc-js'
import { CERTIFICATE_RATE } from '../../controller/ca/service.ts'
import { AuditJournal } from '../../mesh/audit/journal.ts'
import { KeyedBuckets } from '../../mesh/async/keyed-buckets.ts'
import {
  type CertificateServiceOptions,
  addCertificateService,
} from '../../controller/ca/service.ts'
import { ServingCertificate } from '../../controller/ca/serving-certificate.ts'
import { TokenAuthenticator } from '../../controller/auth/token-authenticator.ts'
import { assembleCertificate } from '../../mesh/identity/assemble.ts'
import { CaClient } from '../../mesh/identity/ca-client.ts'
import { CertificateManager } from '../../mesh/identity/certificate-manager.ts'
import { SignedCertificates } from '../../mesh/identity/signed-certificates.ts'
import { createKeyAndCsr } from '../../mesh/identity/csr.ts'
import { loadAuthority, type SigningAuthority } from '../../mesh/identity/authority.ts'
import { createRoot } from '../../mesh/identity/root.ts'
import type { CaFailure, SignedChain } from '../../mesh/identity/types.ts'
import { PODS, type Pod } from '../../mesh/kube/index.ts'
import type { SpiffeId } from '../../mesh/model/types.ts'
import type { Result } from '../../mesh/result.ts'
import { createLogger } from '../../mesh/telemetry/log.ts'
import { kubePod, type PodChoices } from '../core/objects.ts'
import { FakeClock } from '../identity/fake-clock.ts'
import { acceptedToken, type ReviewedToken, ScriptedKube } from '../support/scripted-kube.ts'
import { HeldAuthority } from './held-authority.ts'
import { type PodSource, startPodSource } from './pod-source.ts'

const log = createLogger('test', 'silent')
const CATALOG = 'spiffe://cluster.local/ns/shop/sa/catalog' as SpiffeId
const AGENT_POD = { name: 'agent-a', uid: 'uid-agent-a' }
const HALF_DAY_MS = 43_200_000
const deadline = (): AbortSignal => AbortSignal.timeout(8000)

interface TestScope {
  teardown(fn: () => void): void
  testdir(content: Record<string, never>): string
}

interface Cluster {
  readonly kube: ScriptedKube
  readonly pods: PodSource
  readonly root: SigningAuthority
  /** Another authority takes over. */
  change(authority: SigningAuthority): void
  readonly clock: FakeClock
  readonly serving: ServingCertificate
  readonly tokenFile: string
  readonly rootFile: string
  readonly dir: string
  readonly port: number
  /** Stops the server; the answer starts it again on the same port. */
  restart(): Promise<() => Promise<void>>
  client(options?: {
    token?: string
    clusterId?: string
    impersonate?: boolean
    rootFile?: string
  }): CaClient
}

/** A pod of the shop, of an account of its own name unless another is said. */
function podOn(
  nodeName: string,
  name: string,
  choices: PodChoices & { account?: string } = {},
): Pod {
  const { account = name, spec, ...others } = choices
  return kubePod(name, { ...others, spec: { nodeName, serviceAccountName: account, ...spec } })
}

/** Two nodes with an agent each; catalog runs on node b, frontend on node a. */
async function cluster(
  t: TestScope,
  write: (line: string) => void = () => undefined,
): Promise<Cluster> {
  const loaded = await loadAuthority(await createRoot({ organization: 'cluster.local' }))
  if (!loaded.ok) throw new Error(loaded.error.reason)
  const root = loaded.value
  const authority = new HeldAuthority(root)
  const kube = new ScriptedKube()
  const pods = startPodSource()
  const agent = { namespace: 'ambit-system', account: 'ambit-agent', spec: { hostNetwork: true } }
  for (const pod of [
    podOn('node-b', AGENT_POD.name, agent),
    podOn('node-a', 'agent-z', agent),
    podOn('node-b', 'catalog'),
    podOn('node-a', 'frontend'),
  ])
    pods.upsert(kube.put(PODS, pod))
  kube.tokens.set('agent', acceptedToken('ambit-system', 'ambit-agent', AGENT_POD))

  const clock = new FakeClock(HALF_DAY_MS)
  const serving = new ServingCertificate(authority, {
    names: [
      { type: 'dns', value: 'localhost' },
      { type: 'ip', value: '127.0.0.1' },
    ],
    clock,
    log,
  })
  await serving.start()
  const service: CertificateServiceOptions = {
    api: kube.api,
    pods: pods.index,
    authority,
    log,
    // Its clock stands: no account of lines fills up again, however long a test takes.
    audit: new AuditJournal({ write, now: () => 0 }),
    clusterId: 'Kubernetes',
    trustDomain: 'cluster.local',
    trustedNodeAccounts: new Set(['ambit-system/ambit-agent']),
    authenticator: new TokenAuthenticator(kube.api, { audience: 'istio-ca' }),
    // As the journal's.
    limiter: new KeyedBuckets({ ...CERTIFICATE_RATE, burst: 30 }, () => 0),
  }
  let server: Server | undefined
  const listen = async (wanted: number): Promise<number> => {
    const fresh = new Server()
    server = fresh
    addCertificateService(fresh, service)
    return new Promise((resolve, reject) => {
      const credentials = serving.serverCredentials()
      fresh.bindAsync(`127.0.0.1:${wanted}`, credentials, (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      )
    })
  }
  const port = await listen(0)
  t.teardown(() => {
    server?.forceShutdown()
    serving.close()
  })
  const dir = t.testdir({})
  const rootFile = join(dir, 'root.pem')
  const tokenFile = join(dir, 'token')
  writeFileSync(rootFile, root.bundlePem)
  writeFileSync(tokenFile, 'agent')
  let tokens = 0
  return {
    kube,
    pods,
    change: (next) => authority.change(next),
    root,
    clock,
    serving,
    tokenFile,
    rootFile,
    dir,
    port,
    restart: async () => {
      server?.forceShutdown()
      return async () => void (await listen(port))
    },
    client({ token, clusterId = 'Kubernetes', impersonate = true, rootFile: otherRoot } = {}) {
      let file = tokenFile
      if (token !== undefined) {
        file = join(dir, `token-${(tokens += 1)}`)
        writeFileSync(file, token)
      }
      const client = new CaClient({
        address: `localhost:${port}`,
        roots: otherRoot ?? rootFile,
        tokenFile: file,
        clusterId,
        impersonate,
      })
      t.teardown(() => client.close())
      return client
    },
  }
}

async function ask(
  client: CaClient,
  identity: string,
  options: { csrPem?: string; ttlSeconds?: number } = {},
): Promise<Result<SignedChain, CaFailure>> {
  const csrPem = options.csrPem ?? (await createKeyAndCsr(identity as SpiffeId)).csrPem
  const request = { identity: identity as SpiffeId, csrPem, ttlSeconds: options.ttlSeconds ?? 3600 }
  return client.sign(request, deadline())
}

function refused(kind: CaFailure['kind'], message: RegExp): object {
  return { ok: false, error: { kind, message } }
}

void t.test(
  "an agent gets certificates for its node's pods, and openssl agrees with them",
  async (t) => {
    const { client, rootFile, dir } = await cluster(t)
    const key = await createKeyAndCsr(CATALOG)
    const signed = await ask(client(), CATALOG, { csrPem: key.csrPem, ttlSeconds: 3600 })
    if (!signed.ok) throw new Error(signed.error.message)
    const certificate = assembleCertificate(CATALOG, key, signed.value, new Date())
    if (!certificate.ok) throw new Error(certificate.error.message)
    const lifetime = certificate.value.notAfter.getTime() - Date.now()
    t.ok(lifetime > 3590_000 && lifetime <= 3600_000, 'lives as long as asked')
    t.ok(
      Date.now() - certificate.value.notBefore.getTime() >= 119_000,
      'backdated for skewed clocks',
    )
    const leafFile = join(dir, 'leaf.pem')
    writeFileSync(leafFile, signed.value.chainPem)
    t.match(openssl('verify', '-x509_strict', '-CAfile', rootFile, leafFile), /OK/)
    const text = openssl('x509', '-in', leafFile, '-noout', '-text')
    t.match(
      text,
      /X509v3 Subject Alternative Name: critical\s+URI:spiffe:\/\/cluster\.local\/ns\/shop\/sa\/catalog\n/,
    )
    t.match(text, /TLS Web Server Authentication, TLS Web Client Authentication/)
  },
)

void t.test('lifetimes are a day by default and at most, since nothing is revoked', async (t) => {
  const { client } = await cluster(t)
  for (const [asked, given, before] of [
    [0, 86_400, 600],
    [3600, 3600, 600],
    [1e9, 86_400, 600],
    [60, 60, 30],
  ] as const) {
    const key = await createKeyAndCsr(CATALOG)
    const signed = await ask(client(), CATALOG, { csrPem: key.csrPem, ttlSeconds: asked })
    if (!signed.ok) throw new Error(signed.error.message)
    const certificate = assembleCertificate(CATALOG, key, signed.value, new Date())
    if (!certificate.ok) throw new Error(certificate.error.message)
    const seconds = (certificate.value.notAfter.getTime() - Date.now()) / 1000
    t.ok(Math.abs(seconds - given) < 10, `${asked} gives ${given}, was ${seconds}`)
    const since = (Date.now() - certificate.value.notBefore.getTime()) / 1000
    t.ok(Math.abs(since - before) < 10, 'also for clocks that are behind')
  }
  t.match(await ask(client(), CATALOG, { ttlSeconds: -1 }), refused('invalid', /negative/))
})

void t.test(
  'a pod that only the API server knows yet is served; that is how the CNI asks',
  async (t) => {
    const { client, kube } = await cluster(t)
    const fresh = 'spiffe://cluster.local/ns/shop/sa/fresh'
    t.match(
      await ask(client(), fresh),
      refused('denied', /no pod with the identity .*fresh runs on node node-b/),
    )
    kube.put(PODS, podOn('node-b', 'fresh'))
    t.match(await ask(client(), fresh), { ok: true })
  },
)

void t.test('an agent is refused whatever is not its own', async (t) => {
  const { client, kube, pods } = await cluster(t)
  for (const [name, never] of [
    ['job', { status: { phase: 'Succeeded' } }],
    ['host', { spec: { hostNetwork: true } }],
    ['opted-out', { labels: { 'istio.io/dataplane-mode': 'none' } }],
    ['gateway', { annotations: { 'sidecar.istio.io/status': '{}' } }],
    ['ambit-controller', { namespace: 'ambit-system' }],
    ['dns', { namespace: 'kube-system' }],
  ] satisfies [string, PodChoices][])
    pods.upsert(kube.put(PODS, podOn('node-b', name, never)))
  const id = (rest: string): string => `spiffe://cluster.local/${rest}`
  const table: readonly (readonly [string, string, CaFailure['kind'], RegExp])[] = [
    ['a pod of another node', id('ns/shop/sa/frontend'), 'denied', /no pod .* runs on node node-b/],
    ['another service account', id('ns/shop/sa/other'), 'denied', /no pod/],
    ['another namespace', id('ns/other/sa/catalog'), 'denied', /no pod/],
    ['a pod that has ended', id('ns/shop/sa/job'), 'denied', /no pod/],
    ['a pod on the host network', id('ns/shop/sa/host'), 'denied', /no pod/],
    ['a pod that has opted out', id('ns/shop/sa/opted-out'), 'denied', /no pod/],
    ['a pod with a sidecar', id('ns/shop/sa/gateway'), 'denied', /no pod/],
    ['the controller', id('ns/ambit-system/sa/ambit-controller'), 'denied', /no pod/],
    ['a pod of the cluster itself', id('ns/kube-system/sa/dns'), 'denied', /no pod/],
    ['another trust domain', 'spiffe://evil.example/ns/shop/sa/catalog', 'denied', /trust domain/],
    ['no SPIFFE ID', 'https://cluster.local/', 'invalid', /not a SPIFFE ID/],
    ['a path that continues', id('ns/shop/sa/catalog/x'), 'invalid', /not a SPIFFE ID/],
    ['a namespace with a slash', id('ns/shop/sa/catalog%2f'), 'invalid', /not a SPIFFE ID/],
  ]
  const { csrPem } = await createKeyAndCsr(CATALOG)
  for (const [what, identity, kind, reason] of table)
    t.match(await ask(client(), identity, { csrPem }), refused(kind, reason), what)
})

void t.test('a node account must prove its pod', async (t) => {
  const { client, kube, pods } = await cluster(t)
  const account = ['ambit-system', 'ambit-agent'] as const
  const table: readonly (readonly [string, ReviewedToken, RegExp])[] = [
    ['no pod in the token', acceptedToken(...account), /must be bound to a pod/],
    [
      'a pod that never was',
      acceptedToken(...account, { name: 'ghost', uid: 'uid-ghost' }),
      /does not exist/,
    ],
    [
      'a successor of the same name',
      acceptedToken(...account, { name: 'agent-a', uid: 'uid-old' }),
      /does not exist/,
    ],
    [
      'a pod of another account',
      acceptedToken(...account, { name: 'other', uid: 'uid-other' }),
      /runs as ambit-system\/other/,
    ],
    [
      'a pod of another namespace',
      acceptedToken(...account, { name: 'catalog', uid: 'uid-catalog' }),
      /ambit-system\/catalog does not exist/,
    ],
  ]
  pods.upsert(kube.put(PODS, podOn('node-a', 'other', { namespace: 'ambit-system' })))
  for (const [what, verdict, reason] of table) {
    kube.tokens.set(what.replaceAll(' ', '-'), verdict)
    const outcome = await ask(client({ token: what.replaceAll(' ', '-') }), CATALOG)
    t.match(outcome, refused('denied', reason), what)
  }
  t.match(await ask(client(), CATALOG), { ok: true })
  kube.remove(PODS, 'ambit-system/agent-a')
  pods.remove('ambit-system', 'agent-a')
  t.match(
    await ask(client(), CATALOG),
    refused('denied', /agent-a does not exist any more/),
    'a deleted pod',
  )
})

void t.test('tokens that the API server does not vouch for are refused', async (t) => {
  const { client, kube } = await cluster(t)
  kube.tokens.set('expired', { authenticated: false, error: 'token has expired' })
  kube.tokens.set('other-audience', { ...acceptedToken('shop', 'catalog'), audiences: ['api'] })
  kube.tokens.set('no-audience', {
    authenticated: true,
    user: { username: 'system:serviceaccount:shop:catalog' },
  })
  kube.tokens.set('person', {
    authenticated: true,
    audiences: ['istio-ca'],
    user: { username: 'admin' },
  })
  const table = [
    ['expired', /UNAUTHENTICATED.*expired/],
    ['other-audience', /not for the audience istio-ca/],
    ['no-audience', /not for the audience istio-ca/],
    ['person', /belongs to no service account/],
    ['never-seen', /UNAUTHENTICATED/],
    ['x'.repeat(5000), /UNAUTHENTICATED/],
  ] as const
  for (const [token, reason] of table)
    t.match(await ask(client({ token }), CATALOG), refused('denied', reason), token.slice(0, 20))
  t.match(
    await ask(client({ clusterId: 'elsewhere' }), CATALOG),
    refused('denied', /cluster "elsewhere" is not known/),
  )
  t.match(await ask(client({ token: ' \n' }), CATALOG), refused('unavailable', /is empty/))
})

void t.test(
  'a waypoint has its own identity by its own token, and nobody else has it or lends it one',
  async (t) => {
    const { client, kube, pods } = await cluster(t)
    const labels = {
      'gateway.networking.k8s.io/gateway-name': 'waypoint',
      'istio.io/dataplane-mode': 'none',
    }
    for (const namespace of ['shop', 'bank']) {
      const name = `waypoint-${namespace}`
      const place = { namespace, labels, account: 'waypoint' }
      pods.upsert(kube.put(PODS, podOn('node-b', name, place)))
      kube.tokens.set(name, acceptedToken(namespace, 'waypoint', { name, uid: `uid-${name}` }))
    }
    const own = 'spiffe://cluster.local/ns/shop/sa/waypoint'
    t.match(await ask(client({ token: 'waypoint-shop', impersonate: false }), own), { ok: true })
    const others = refused('denied', /may not ask for the identity of others/)
    t.match(await ask(client({ token: 'waypoint-shop' }), CATALOG), others, 'a pod of its own node')
    t.match(await ask(client({ token: 'waypoint-bank' }), own), others, 'of another namespace')
    t.match(
      await ask(client({ token: 'agent' }), own),
      refused('denied', /no pod with the identity .*\/waypoint runs on node node-b/),
      'the agent of its node has no use for it',
    )
  },
)

void t.test('anybody but an agent gets their own identity and no other', async (t) => {
  const { client, kube } = await cluster(t)
  kube.tokens.set(
    'frontend',
    acceptedToken('shop', 'frontend', { name: 'frontend', uid: 'uid-frontend' }),
  )
  const own = 'spiffe://cluster.local/ns/shop/sa/frontend'
  t.match(await ask(client({ token: 'frontend', impersonate: false }), own), { ok: true })
  t.match(
    await ask(client({ token: 'frontend' }), own),
    { ok: true },
    'asking for oneself is no impersonation',
  )
  t.match(
    await ask(client({ token: 'frontend' }), CATALOG),
    refused('denied', /may not ask for the identity of others/),
  )
  const { csrPem } = await createKeyAndCsr(CATALOG)
  t.match(
    await ask(client({ token: 'frontend', impersonate: false }), own, { csrPem }),
    refused('invalid', /names "spiffe.*catalog" but was authorised for .*frontend/),
    'a CSR cannot smuggle another name in',
  )
})

void t.test('requests that are not sound CSRs are refused with what is wrong', async (t) => {
  const { client, dir } = await cluster(t)
  const good = (await createKeyAndCsr(CATALOG)).csrPem
  const der = Buffer.from(good.replace(/-----[^-]+-----|\s/g, ''), 'base64')
  const tampered = Buffer.from(der)
  tampered.writeUInt8(tampered.readUInt8(tampered.length - 1) ^ 0xff, tampered.length - 1)
  const pem = (bytes: Buffer): string =>
    `-----BEGIN CERTIFICATE REQUEST-----\n${bytes.toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`
  const table: readonly (readonly [string, string, RegExp])[] = [
    ['empty', '', /is empty/],
    ['garbage', 'garbage', /not exactly one PEM/],
    ['two', good + good, /not exactly one PEM/],
    ['cut short', pem(der.subarray(0, 40)), /cannot be read/],
    ['a wrong signature', pem(tampered), /not signed by its own key|cannot be read/],
    ['oversized', `${good}${' '.repeat(20_000)}`, /at most 16384/],
    ['P-384', opensslCsr(dir, 'ec', { namedCurve: 'secp384r1' }), /curve secp384r1/],
    ['RSA 1024', opensslCsr(dir, 'rsa', { modulusLength: 1024 }), /RSA key of 1024 bits/],
    ['Ed25519', opensslCsr(dir, 'ed25519', {}), /type ed25519/],
  ]
  for (const [what, csrPem, reason] of table)
    t.match(await ask(client(), CATALOG, { csrPem }), refused('invalid', reason), what)
  t.match(
    await ask(client(), CATALOG, { csrPem: opensslCsr(dir, 'rsa', { modulusLength: 2048 }) }),
    { ok: true },
    'RSA 2048',
  )
})

void t.test(
  'while the API server is away only what is known is served; the rest fails closed',
  async (t) => {
    const { client, kube } = await cluster(t)
    const agent = client()
    t.match(await ask(agent, CATALOG), { ok: true })
    kube.isAway = true
    t.match(await ask(agent, CATALOG), { ok: true }, 'token verdict and pod are cached')
    t.match(
      await ask(agent, 'spiffe://cluster.local/ns/shop/sa/new'),
      refused('unavailable', /UNAVAILABLE.*ECONNREFUSED/),
    )
    t.match(
      await ask(client({ token: 'not-yet-seen' }), CATALOG),
      refused('unavailable', /cannot review the token/),
    )
    kube.isAway = false
    kube.tokens.set('not-yet-seen', acceptedToken('ambit-system', 'ambit-agent', AGENT_POD))
    t.match(
      await ask(client({ token: 'not-yet-seen' }), CATALOG),
      { ok: true },
      'not being able to ask is not remembered',
    )
  },
)

void t.test(
  'a token is reviewed once for a crowd, and a caller in a loop is slowed down',
  async (t) => {
    const { client, kube } = await cluster(t)
    const agent = client()
    const outcomes = await Promise.all(Array.from({ length: 40 }, () => ask(agent, CATALOG)))
    const issued = outcomes.filter((outcome) => outcome.ok).length
    t.equal(issued, 30, 'the burst was served')
    t.match(
      outcomes.find((outcome) => !outcome.ok),
      refused('unavailable', /RESOURCE_EXHAUSTED/),
    )
    t.equal(kube.calls.filter((call) => call === 'create tokenreviews').length, 1)
  },
)

void t.test(
  'the client reads token and root anew, and trusts no server outside the root file',
  async (t) => {
    const { client, tokenFile, rootFile, kube, root } = await cluster(t)
    const agent = client()
    t.match(await ask(agent, CATALOG), { ok: true })
    writeFileSync(tokenFile, 'rotated\n')
    kube.tokens.set('rotated', acceptedToken('ambit-system', 'ambit-agent', AGENT_POD))
    kube.tokens.delete('agent')
    t.match(await ask(agent, CATALOG), { ok: true }, 'the new token')
    const stranger = await createRoot({ organization: 'stranger' })
    writeFileSync(rootFile, stranger.certificatePem)
    t.match(
      await ask(agent, CATALOG),
      refused('unavailable', /self.signed certificate|unable to (get|verify)/),
    )
    writeFileSync(rootFile, stranger.certificatePem + root.bundlePem)
    t.match(await ask(agent, CATALOG), { ok: true }, 'a bundle of old and new roots')
  },
)

void t.test('the serving certificate is renewed at half-life without a restart', async (t) => {
  const { client, clock, serving, port } = await cluster(t)
  const agent = client()
  t.match(await ask(agent, CATALOG), { ok: true })
  const first = await servedSerial(port)
  t.equal(await servedSerial(port), first, 'stays the same meanwhile')
  const renewed = new Promise<void>((resolve) => serving.onRenewed(resolve))
  clock.advance(HALF_DAY_MS)
  await renewed
  t.not(await servedSerial(port), first, 'new connections meet the new certificate')
  t.match(await ask(agent, CATALOG), { ok: true }, 'the old connection lives on')
  t.match(await ask(client(), CATALOG), { ok: true })
})

void t.test(
  'the CA may be dialled by IP address or under another name, if its certificate says so',
  async (t) => {
    const { port, rootFile, tokenFile } = await cluster(t)
    const dial = (
      address: string,
      serverName?: string,
    ): Promise<Result<SignedChain, CaFailure>> => {
      const names = serverName === undefined ? {} : { serverName }
      const client = new CaClient({
        address,
        roots: rootFile,
        tokenFile,
        clusterId: 'Kubernetes',
        ...names,
      })
      t.teardown(() => client.close())
      return ask(client, CATALOG)
    }
    t.match(await dial(`127.0.0.1:${port}`), { ok: true })
    t.match(await dial(`127.0.0.1:${port}`, 'localhost'), { ok: true })
    t.match(
      await dial(`127.0.0.1:${port}`, 'impostor'),
      refused('unavailable', /altnames|does not match/),
    )
  },
)

void t.test('of a CA that does not answer it is said why it was given up', async (t) => {
  const { rootFile, tokenFile } = await cluster(t)
  const silent = createServer().listen(0, '127.0.0.1')
  await once(silent, 'listening')
  const { port } = silent.address() as AddressInfo
  const address = `127.0.0.1:${port}`
  const client = new CaClient({ address, roots: rootFile, tokenFile, clusterId: 'Kubernetes' })
  t.teardown(() => {
    client.close()
    silent.close()
  })
  const { csrPem } = await createKeyAndCsr(CATALOG)
  const givingUp = new AbortController()
  silent.on('connection', (socket) => {
    t.teardown(() => socket.destroy())
    givingUp.abort(new Error('no answer within 10 s'))
  })
  const asked = client.sign({ identity: CATALOG, csrPem, ttlSeconds: 3600 }, givingUp.signal)
  t.match(await asked, refused('unavailable', new RegExp(`${address}: no answer within 10 s`)))
})

void t.test('a CA whose node is gone without a word is looked for anew', async (t) => {
  const { port, rootFile, tokenFile } = await cluster(t)
  const open: Socket[] = []
  const way = createServer((socket) => {
    const onwards = connectTcp({ port, host: '127.0.0.1' })
    open.push(
      socket.on('error', () => undefined),
      onwards.on('error', () => undefined),
    )
    socket.pipe(onwards).pipe(socket)
  }).listen(0, '127.0.0.1')
  await once(way, 'listening')
  const client = new CaClient({
    address: `127.0.0.1:${(way.address() as AddressInfo).port}`,
    roots: rootFile,
    tokenFile,
    clusterId: 'Kubernetes',
  })
  t.teardown(() => {
    client.close()
    for (const socket of open) socket.destroy()
    way.close()
  })
  t.match(await ask(client, CATALOG), { ok: true })
  const [before] = open
  before?.unpipe()
  const givingUp = new AbortController()
  before?.resume().once('data', () => givingUp.abort(new Error('no answer within 10 s')))
  const { csrPem } = await createKeyAndCsr(CATALOG)
  const asked = client.sign({ identity: CATALOG, csrPem, ttlSeconds: 3600 }, givingUp.signal)
  t.match(await asked, refused('unavailable', /no answer within 10 s/))
  t.match(await ask(client, CATALOG), { ok: true }, 'the Service leads to another by now')
})

void t.test('a CA that comes back is reached by the very next request', async (t) => {
  const { client, restart } = await cluster(t)
  const agent = client()
  t.match(await ask(agent, CATALOG), { ok: true })
  const comeBack = await restart()
  for (let attempt = 0; attempt < 3; attempt += 1)
    t.match(await ask(agent, CATALOG), refused('unavailable', /ECONNREFUSED/))
  await comeBack()
  t.match(await ask(agent, CATALOG), { ok: true })
})

void t.test('manager and service together keep an identity', async (t) => {
  const { client } = await cluster(t)
  const manager = new CertificateManager({
    supply: new SignedCertificates({ authority: client(), log }),
    log,
  })
  t.teardown(() => manager.close())
  manager.retain(CATALOG)
  const got = await manager.get(CATALOG, deadline())
  t.match(got, { ok: true, value: { identity: CATALOG } })
})

/** The serial number of the certificate that a new connection meets. */
function servedSerial(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { port, host: '127.0.0.1', ALPNProtocols: ['h2'], rejectUnauthorized: false }
    const socket = connect(options, () => {
      resolve(socket.getPeerCertificate().serialNumber)
      socket.destroy()
    })
    socket.on('error', reject)
  })
}

function opensslCsr(dir: string, type: 'ec' | 'rsa' | 'ed25519', options: object): string {
  const generate = generateKeyPairSync as (
    type: string,
    options: object,
  ) => { privateKey: { export(o: object): string } }
  const { privateKey } = generate(type, options)
  const keyFile = join(dir, `key-${Math.random()}.pem`)
  writeFileSync(keyFile, privateKey.export({ type: 'pkcs8', format: 'pem' }))
  return openssl(
    'req',
    '-new',
    '-key',
    keyFile,
    '-subj',
    '/',
    '-addext',
    `subjectAltName=critical,URI:${CATALOG}`,
  )
}

function openssl(...args: readonly string[]): string {
  return execFileSync('openssl', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

void t.test(
  'a pod that is refused again and again does not fill the audit, nor hide an agent',
  async (t) => {
    const lines: string[] = []
    const { kube, client } = await cluster(t, (line) => void lines.push(line))
    kube.tokens.set(
      'pod',
      acceptedToken('shop', 'catalog', { name: 'catalog', uid: 'uid-catalog' }),
    )
    const pod = client({ token: 'pod', impersonate: false })
    const ofPod = (): number => lines.filter((line) => line.includes('"shop/catalog"')).length
    for (let count = 0; count < 300; count += 1)
      t.match(await ask(pod, CATALOG, { csrPem: 'no request' }), { ok: false })
    t.equal(ofPod(), 200, 'lines for 300 refusals')
    const agent = client()
    t.match(await ask(agent, CATALOG.replace('catalog', 'nobody')), { ok: false })
    t.match(lines.at(-1), /"who":"ambit-system\/ambit-agent"/)
    t.match(JSON.parse(lines[0] ?? ''), {
      audit: 'certificate.refused',
      namespace: 'shop',
      who: 'shop/catalog',
      pod: 'catalog',
      reason: 'invalid',
    })
  },
)
