// SPDX-License-Identifier: Apache-2.0
// Certificates signed by a signer of the cluster, through CertificateSigningRequests: what is asked for, what is believed of the
// answer, and what is left behind. The API server is one that knows this kind, and a signer that the test writes.

import type { IncomingMessage, ServerResponse } from 'node:http'
import t, { type Test } from 'tap'
import { KubernetesSigner } from '../../controller/ca/kubernetes-signer.ts'
import { LIFETIME_LIMITS, signRequest } from '../../controller/ca/sign-request.ts'
import { loadAuthority, type SigningAuthority } from '../../mesh/identity/authority.ts'
import { createKeyAndCsr } from '../../mesh/identity/csr.ts'
import { splitCertificates } from '../../mesh/identity/pem.ts'
import { createRoot } from '../../mesh/identity/root.ts'
import { type CertificateSigningRequest, createKubeApi } from '../../mesh/kube/index.ts'
import type { SpiffeId } from '../../mesh/model/types.ts'
import { createLogger } from '../../mesh/telemetry/log.ts'
import { FaultyApi } from '../support/faulty-api.ts'

const SIGNER = 'issuers.cert-manager.io/mesh.ca'
const CATALOG = 'spiffe://cluster.local/ns/shop/sa/catalog' as SpiffeId
const CART = 'spiffe://cluster.local/ns/shop/sa/cart' as SpiffeId
const HOUR_MS = 3_600_000
const PATH = /certificatesigningrequests/
const log = createLogger('test', 'silent')

type Status = NonNullable<CertificateSigningRequest['status']>
/** Answers an approved request, or leaves it lying. */
type Script = (request: CertificateSigningRequest) => Promise<Status | undefined>

const certificate = (pem: string): Status => ({
  certificate: Buffer.from(pem).toString('base64'),
})

async function authorityOf(organization: string): Promise<SigningAuthority> {
  const loaded = await loadAuthority(await createRoot({ organization }))
  if (!loaded.ok) throw new Error(loaded.error.reason)
  return loaded.value
}

const mesh = await authorityOf('cluster.local')
const stranger = await authorityOf('elsewhere')
const key = await createKeyAndCsr(CATALOG)
const otherKey = await createKeyAndCsr(CATALOG)

/** A leaf as it should be, or not. */
function leaf(
  by: SigningAuthority,
  { identity = CATALOG, publicKeyDer = key.publicKeyDer, fromHours = -1, hours = 24 } = {},
): Promise<string> {
  const now = Date.now()
  return by.sign({
    names: [{ type: 'url', value: identity }],
    publicKeyDer,
    notBefore: new Date(now + fromHours * HOUR_MS),
    notAfter: new Date(now + hours * HOUR_MS),
  })
}

/** An API server with requests, each of which the script answers once it is approved. */
async function world(
  t: Test,
  script: Script,
  { deadlineMs = 60_000, forbidsApproval = false, isSilent = false } = {},
) {
  const api = new FaultyApi()
  await api.start()
  t.teardown(() => api.stop())
  const requests = new Map<string, CertificateSigningRequest>()
  const seen: CertificateSigningRequest[] = []
  const watches = new Set<ServerResponse>()
  const tell = (type: string, object: CertificateSigningRequest): void => {
    for (const watch of watches) watch.write(`${JSON.stringify({ type, object })}\n`)
  }
  const answer = (response: ServerResponse, code: number, body: object): void => {
    response.writeHead(code, { 'content-type': 'application/json' })
    response.end(JSON.stringify(body))
  }
  const sent = (): CertificateSigningRequest =>
    JSON.parse(api.requests.at(-1)?.body ?? '') as CertificateSigningRequest
  const put = (type: string, request: CertificateSigningRequest): CertificateSigningRequest => {
    const resourceVersion = String(seen.push(request) + 100)
    const stored = { ...request, metadata: { ...request.metadata, resourceVersion } }
    requests.set(request.metadata?.name ?? '', stored)
    tell(type, stored)
    return stored
  }
  api.fail('GET', PATH, Infinity, (request, response) => {
    if (request.url?.includes('watch=true') !== true) {
      const items = [...requests.values()]
      answer(response, 200, {
        kind: 'CertificateSigningRequestList',
        metadata: { resourceVersion: '100' },
        items,
      })
      return
    }
    response.writeHead(200, { 'content-type': 'application/json' })
    response.flushHeaders()
    watches.add(response)
    response.on('close', () => watches.delete(response))
  })
  api.fail('POST', PATH, Infinity, (_request, response) => {
    if (!isSilent) answer(response, 201, put('ADDED', sent()))
  })
  api.fail('PUT', /\/approval$/, Infinity, (_request, response) => {
    if (forbidsApproval) {
      const message = 'user ambit-controller is not permitted to approve requests of this signer'
      answer(response, 403, { kind: 'Status', code: 403, reason: 'Forbidden', message })
      return
    }
    const approved = put('MODIFIED', sent())
    answer(response, 200, approved)
    void script(approved).then((status) => {
      if (status !== undefined)
        put('MODIFIED', { ...approved, status: { ...approved.status, ...status } })
    })
  })
  api.fail('DELETE', PATH, Infinity, (request: IncomingMessage, response) => {
    const name = request.url?.split('/').at(-1) ?? ''
    const gone = requests.get(name)
    requests.delete(name)
    if (gone !== undefined) tell('DELETED', gone)
    answer(response, gone === undefined ? 404 : 200, { kind: 'Status' })
  })
  const signer = new KubernetesSigner(createKubeApi(api.access()), {
    signerName: SIGNER,
    log,
    deadlineMs,
  })
  t.teardown(() => signer.close())
  await api.until(() => watches.size > 0, 'requests are watched')
  const sign = () =>
    signRequest(
      mesh,
      { identity: CATALOG, csrPem: key.csrPem, ttlSeconds: 0 },
      LIFETIME_LIMITS,
      Date.now(),
      signer,
    )
  const nothingLeft = async (): Promise<void> =>
    await api.until(() => requests.size === 0, 'no request to be left')
  return { api, seen, sign, nothingLeft }
}

void t.test('a request is made, approved, signed and taken away again', async (t) => {
  const issued = await leaf(mesh)
  const { sign, seen, nothingLeft } = await world(t, () => Promise.resolve(certificate(issued)))
  const signed = await sign()
  if (!signed.ok) throw new Error(signed.error.reason)
  t.equal(signed.value.identity, CATALOG)
  t.strictSame(splitCertificates(signed.value.chainPem), splitCertificates(issued).slice(0, 1))
  t.equal(signed.value.rootsPem, mesh.bundlePem)
  const [created, approved] = seen
  t.match(created?.spec, {
    signerName: SIGNER,
    request: Buffer.from(key.csrPem).toString('base64'),
    expirationSeconds: LIFETIME_LIMITS.defaultSeconds,
    usages: ['digital signature', 'client auth', 'server auth'],
  })
  t.match(approved?.status?.conditions, [{ type: 'Approved', status: 'True' }])
  await nothingLeft()
})

void t.test('many at once have one watch, and each its own certificate', async (t) => {
  const { api, sign, nothingLeft } = await world(t, async () => certificate(await leaf(mesh)))
  const all = await Promise.all(Array.from({ length: 8 }, sign))
  t.ok(all.every(({ ok }) => ok))
  t.equal(api.requests.filter(({ url }) => url.searchParams.has('watch')).length, 1)
  await nothingLeft()
})

for (const [what, make, reason] of [
  [
    'for another identity',
    () => leaf(mesh, { identity: CART }),
    /is for spiffe:.*sa\/cart, not for/,
  ],
  [
    'for another key',
    () => leaf(mesh, { publicKeyDer: otherKey.publicKeyDer }),
    /not for the key of the request/,
  ],
  ['that lasts for a week', () => leaf(mesh, { hours: 168 }), /longer than was asked for/],
  ['that has ended', () => leaf(mesh, { hours: -0.5 }), /ended at/],
  ['of tomorrow', () => leaf(mesh, { fromHours: 1 }), /not valid before .* clock ahead/],
  ['of a root that the mesh does not know', () => leaf(stranger), /none of the mesh's roots/],
  [
    'of an authority itself',
    () => Promise.resolve(splitCertificates(mesh.bundlePem).join('\n')),
    /names no identity/,
  ],
  ['that is none', () => Promise.resolve('hello'), /nothing was signed/],
  [
    'that is damaged',
    () => Promise.resolve('-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'),
    /no certificate/,
  ],
] as const)
  void t.test(`a certificate ${what} goes to nobody`, async (t) => {
    const issued = await make()
    const { sign, nothingLeft } = await world(t, () => Promise.resolve(certificate(issued)))
    const refused = await sign()
    t.match(refused, { ok: false, error: { kind: 'unavailable', reason } })
    await nothingLeft()
  })

void t.test('a signer that refuses is quoted', async (t) => {
  const condition = {
    type: 'Failed',
    status: 'True',
    reason: 'Policy',
    message: 'no SPIFFE names here',
  }
  const { sign, nothingLeft } = await world(t, () => Promise.resolve({ conditions: [condition] }))
  t.match(await sign(), { ok: false, error: { reason: /failed \(Policy: no SPIFFE names here\)/ } })
  await nothingLeft()
})

void t.test('a request that nobody signs is given up, and says whom it waited for', async (t) => {
  const { sign, nothingLeft } = await world(t, () => Promise.resolve(undefined), {
    deadlineMs: 2_000,
  })
  t.match(await sign(), {
    ok: false,
    error: { reason: /is there a signer of issuers.cert-manager/ },
  })
  await nothingLeft()
})

void t.test('without the right to approve there is no certificate, and no request', async (t) => {
  const { sign, nothingLeft } = await world(t, () => Promise.resolve(undefined), {
    forbidsApproval: true,
  })
  t.match(await sign(), { ok: false, error: { kind: 'unavailable', reason: /not permitted/ } })
  await nothingLeft()
})

void t.test('an API server that answers nothing is named while somebody waits', async (t) => {
  const { sign, nothingLeft } = await world(t, () => Promise.resolve(undefined), {
    deadlineMs: 500,
    isSilent: true,
  })
  t.match(await sign(), { ok: false, error: { reason: /has not taken the request within 0\.5 s/ } })
  await nothingLeft()
})
