// SPDX-License-Identifier: Apache-2.0
// Roots and leaves as OpenSSL sees them, and who a certificate says it is.

import t from 'tap'
import fc from 'fast-check'
import { execFileSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { SpiffeId } from '../../mesh/model/types.ts'
import { assembleCertificate } from '../../mesh/identity/assemble.ts'
import { createKeyAndCsr } from '../../mesh/identity/csr.ts'
import { loadAuthority, type SigningAuthority } from '../../mesh/identity/authority.ts'
import type { LeafName } from '../../mesh/identity/issue.ts'
import { localAuthority } from './local-authority.ts'
import { type CaOptions, makeCa, type TestCa } from './pki.ts'
import { peerSpiffeId, spiffeIdOfDer } from '../../mesh/identity/peer.ts'
import { readCertificate } from '../../mesh/identity/der.ts'
import {
  KeyUsageFlags,
  OID_CLIENT_AUTH,
  OID_SERVER_AUTH,
  SubjectAlternativeNameExtension,
  X509Certificate as GeneralCertificate,
} from '../../mesh/identity/x509.ts'
import { parseSpiffeId } from '../../mesh/identity/spiffe.ts'
import { createRoot } from '../../mesh/identity/root.ts'

const CATALOG = 'spiffe://cluster.local/ns/shop/sa/catalog' as SpiffeId
const FRONTEND = 'spiffe://cluster.local/ns/shop/sa/frontend' as SpiffeId

async function signingRoot(): Promise<SigningAuthority> {
  const loaded = await loadAuthority(await createRoot({ organization: 'cluster.local' }))
  if (!loaded.ok) throw new Error(loaded.error.reason)
  return loaded.value
}

async function leafFor(
  root: SigningAuthority,
  names: readonly LeafName[],
): Promise<X509Certificate> {
  const key = await createKeyAndCsr(CATALOG)
  const pem = await root.sign({
    names,
    publicKeyDer: key.publicKeyDer,
    notBefore: new Date(Date.now() - 1000),
    notAfter: new Date(Date.now() + 3_600_000),
  })
  return new X509Certificate(pem)
}

void t.test(
  'openssl verifies an issued chain and reads the identity from the critical SAN',
  async (t) => {
    const root = await signingRoot()
    const key = await createKeyAndCsr(CATALOG)
    const signed = await localAuthority(root).sign(
      { identity: CATALOG, csrPem: key.csrPem, ttlSeconds: 3600 },
      AbortSignal.timeout(5000),
    )
    if (!signed.ok) throw new Error(signed.error.message)
    const dir = t.testdir({})
    writeFileSync(join(dir, 'root.pem'), signed.value.rootsPem)
    writeFileSync(join(dir, 'leaf.pem'), signed.value.chainPem)
    writeFileSync(join(dir, 'csr.pem'), key.csrPem)
    for (const purpose of ['sslserver', 'sslclient'])
      t.match(
        openssl(
          'verify',
          '-x509_strict',
          '-purpose',
          purpose,
          '-CAfile',
          join(dir, 'root.pem'),
          join(dir, 'leaf.pem'),
        ),
        /leaf\.pem: OK/,
        `valid as ${purpose}`,
      )
    const text = openssl('x509', '-in', join(dir, 'leaf.pem'), '-noout', '-text')
    t.match(
      text,
      /Subject Alternative Name: critical\s+URI:spiffe:\/\/cluster\.local\/ns\/shop\/sa\/catalog\n/,
    )
    t.match(text, /Basic Constraints: critical\s+CA:FALSE/)
    t.match(text, /Key Usage: critical\s+Digital Signature\n/)
    t.match(text, /ASN1 OID: prime256v1/)
    const request = openssl('req', '-in', join(dir, 'csr.pem'), '-noout', '-text', '-verify')
    t.match(request, /Subject: *\n/, 'the request has an empty subject')
    t.match(request, /URI:spiffe:\/\/cluster\.local\/ns\/shop\/sa\/catalog/)
  },
)

void t.test('peerSpiffeId() takes exactly one URI SAN of the mesh form', async (t) => {
  const root = await signingRoot()
  const good = peerSpiffeId(await leafFor(root, [{ type: 'url', value: CATALOG }]))
  t.same(good, { ok: true, value: CATALOG })
  const withDns = peerSpiffeId(
    await leafFor(root, [
      { type: 'dns', value: 'catalog.shop' },
      { type: 'url', value: CATALOG },
    ]),
  )
  t.same(withDns, { ok: true, value: CATALOG }, 'DNS names beside it do not matter')
  const refused: readonly (readonly [string, string, readonly LeafName[]])[] = [
    ['no URI SAN', 'no-uri-san', [{ type: 'dns', value: 'catalog.shop' }]],
    [
      'two URI SANs',
      'several-uri-sans',
      [
        { type: 'url', value: CATALOG },
        { type: 'url', value: FRONTEND },
      ],
    ],
    [
      'the same URI SAN twice',
      'several-uri-sans',
      [
        { type: 'url', value: CATALOG },
        { type: 'url', value: CATALOG },
      ],
    ],
    [
      'another scheme',
      'not-spiffe',
      [{ type: 'url', value: 'https://cluster.local/ns/shop/sa/catalog' }],
    ],
    [
      'a name that quotes another',
      'not-spiffe',
      [{ type: 'url', value: `${CATALOG}, URI:${FRONTEND}` }],
    ],
    ['a NUL in the name', 'not-spiffe', [{ type: 'url', value: `${CATALOG}\0.evil` }]],
    [
      'a DNS name that looks like a URI',
      'no-uri-san',
      [{ type: 'dns', value: `x, URI:${CATALOG}` }],
    ],
    ['a trailing path', 'not-spiffe', [{ type: 'url', value: `${CATALOG}/extra` }]],
  ]
  for (const [what, kind, names] of refused)
    t.match(peerSpiffeId(await leafFor(root, names)), { ok: false, error: { kind } }, what)
})

void t.test('spiffeIdOfDer() answers garbage with a reason, never with an exception', (t) => {
  for (const der of [
    Buffer.alloc(0),
    Buffer.from('garbage'),
    Buffer.from([0x30, 0x82, 0xff, 0xff]),
  ])
    t.match(spiffeIdOfDer(der), { ok: false, error: { kind: 'malformed' } })
  t.end()
})

void t.test('the strict reader and a general parser agree on every certificate', async (t) => {
  const root = await signingRoot()
  const name = fc.oneof(
    fc.record({ type: fc.constant<'url'>('url'), value: fc.webUrl() }),
    fc.record({ type: fc.constant<'url'>('url'), value: fc.constantFrom(CATALOG, FRONTEND) }),
    fc.record({ type: fc.constant<'dns'>('dns'), value: fc.domain() }),
    fc.record({ type: fc.constant<'ip'>('ip'), value: fc.ipV4() }),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(name, { minLength: 1, maxLength: 12 }), async (names) => {
      const certificate = await leafFor(root, names)
      const parsed = new GeneralCertificate(new Uint8Array(certificate.raw))
      const general = parsed.getExtension(SubjectAlternativeNameExtension)?.names.items ?? []
      const expected = general.filter(({ type }) => type === 'url').map(({ value }) => value)
      const read = readCertificate(certificate.raw)
      return read.ok && JSON.stringify(read.value.uris) === JSON.stringify(expected)
    }),
    { numRuns: 60 },
  )
  t.same(readCertificate(new X509Certificate(root.bundlePem).raw), {
    ok: true,
    value: { uris: [], isAuthority: true, maySign: true },
  })
})

void t.test(
  'spiffeIdOfDer() of a damaged certificate never throws and never invents a form',
  async (t) => {
    const certificate = await leafFor(await signingRoot(), [{ type: 'url', value: CATALOG }])
    const damage = fc.record({ at: fc.nat(certificate.raw.length - 1), byte: fc.nat(255) })
    let refused = 0
    fc.assert(
      fc.property(fc.array(damage, { minLength: 1, maxLength: 8 }), fc.nat(), (spots, cut) => {
        const der = Buffer.from(certificate.raw)
        for (const { at, byte } of spots) der.writeUInt8(byte, at)
        const read = spiffeIdOfDer(cut % 3 === 0 ? der.subarray(0, cut % der.length) : der)
        if (!read.ok) refused += 1
        return !read.ok || parseSpiffeId(read.value) !== undefined
      }),
      { numRuns: 500 },
    )
    t.ok(refused > 50, `${refused} of 500 were refused`)
  },
)

void t.test(
  'assembleCertificate() refuses an answer for another identity, another key, or out of date',
  async (t) => {
    const root = await signingRoot()
    const key = await createKeyAndCsr(CATALOG)
    const other = await createKeyAndCsr(CATALOG)
    const signed = await localAuthority(root).sign(
      { identity: CATALOG, csrPem: key.csrPem, ttlSeconds: 60 },
      AbortSignal.timeout(5000),
    )
    if (!signed.ok) throw new Error(signed.error.message)
    const now = new Date()
    t.match(assembleCertificate(CATALOG, key, signed.value, now), { ok: true })
    t.match(assembleCertificate(FRONTEND, key, signed.value, now), {
      ok: false,
      error: { message: /one for spiffe.*catalog/ },
    })
    t.match(assembleCertificate(CATALOG, other, signed.value, now), {
      ok: false,
      error: { message: /not for the key/ },
    })
    t.match(assembleCertificate(CATALOG, key, signed.value, new Date(Date.now() + 61_000)), {
      ok: false,
      error: { message: /expired/ },
    })
    t.match(assembleCertificate(CATALOG, key, { ...signed.value, rootsPem: '' }, now), {
      ok: false,
      error: { message: /no root/ },
    })
    t.match(assembleCertificate(CATALOG, key, { ...signed.value, chainPem: '' }, now), {
      ok: false,
      error: { message: /no certificate/ },
    })
  },
)

void t.test(
  'assembleCertificate() refuses what no peer would accept, or a worker read',
  async (t) => {
    const root = await makeCa('root')
    const other = await makeCa('other root')
    const middle = await makeCa('middle', { parent: root, pathLength: 1 })
    const issuer = await makeCa('issuer', { parent: middle, pathLength: 0 })
    const key = await createKeyAndCsr(CATALOG)
    const usual: CaOptions = {
      isCa: false,
      usage: KeyUsageFlags.digitalSignature,
      names: [CATALOG],
      publicKeyDer: key.publicKeyDer,
    }
    const leaf = async (parent: TestCa, options: CaOptions = {}): Promise<string> =>
      (await makeCa('leaf', { parent, ...usual, ...options })).pem
    const past = { notBefore: new Date(Date.now() - 9_000), notAfter: new Date(Date.now() - 1_000) }
    const tomorrow = { notBefore: new Date(Date.now() + 9_000_000) }
    const expired = await makeCa('expired', { parent: root, ...past })
    const early = await makeCa('early', { parent: root, ...tomorrow })
    const noCa = await makeCa('no authority', { parent: root, isCa: false })
    const deep = await makeCa('deep', { parent: issuer })
    const garbage = '-----BEGIN CERTIFICATE-----\nMAAwAA==\n-----END CERTIFICATE-----\n'
    const good = await leaf(issuer)
    const between = middle.pem + issuer.pem
    const table: readonly (readonly [string, string, string, RegExp])[] = [
      [
        'a root that cannot be read',
        good + between,
        root.pem + garbage,
        /roots that are not readable/,
      ],
      ['an intermediate that cannot be read', good + garbage, root.pem, /one that is not readable/],
      [
        'a chain with a gap',
        good + issuer.pem,
        root.pem,
        /leads to none of the roots \("O=root"\)/,
      ],
      ['the roots of another mesh', good + between, other.pem, /leads to none of the roots/],
      [
        'a server alone',
        await leaf(root, { extendedUsage: [OID_SERVER_AUTH] }),
        root.pem,
        /a client/,
      ],
      [
        'a client alone',
        await leaf(root, { extendedUsage: [OID_CLIENT_AUTH] }),
        root.pem,
        /a server/,
      ],
      [
        'a key that may not sign',
        await leaf(root, { usage: KeyUsageFlags.keyEncipherment }),
        root.pem,
        /may not sign by its key usage/,
      ],
      [
        'an issuer that has ended',
        (await leaf(expired)) + expired.pem,
        root.pem,
        /which expired at/,
      ],
      ['an issuer of tomorrow', (await leaf(early)) + early.pem, root.pem, /check the clocks/],
      ['an issuer that is none', (await leaf(noCa)) + noCa.pem, root.pem, /which is no authority/],
      ['an issuer too many', (await leaf(deep)) + deep.pem + between, root.pem, /path length/],
      ['itself for a root', good, good, /is a root itself/],
    ]
    for (const [what, chainPem, rootsPem, message] of table) {
      const outcome = assembleCertificate(CATALOG, key, { chainPem, rootsPem }, new Date())
      t.match(outcome, { ok: false, error: { kind: 'invalid', message } }, what)
    }
    const mixed = { chainPem: good + between + root.pem, rootsPem: other.pem + root.pem }
    t.match(
      assembleCertificate(CATALOG, key, mixed, new Date()),
      { ok: true, value: { chainPem: good + issuer.pem + middle.pem } },
      'what stands in another order is put right',
    )
  },
)

void t.test('loadAuthority() names the part that is wrong', async (t) => {
  const good = await createRoot({ organization: 'cluster.local' })
  const another = await createRoot({ organization: 'cluster.local' })
  const expired = await createRoot({
    organization: 'x',
    now: new Date(Date.now() - 10_000),
    lifetimeMs: 1000,
  })
  const leaf = await leafFor(await signingRoot(), [{ type: 'url', value: CATALOG }])
  t.match(await loadAuthority(good), { ok: true })
  const broken = [
    [{ ...good, certificatePem: 'x' }, 'certificate', /exactly one PEM certificate, found 0/],
    [
      { ...good, certificatePem: good.certificatePem + another.certificatePem },
      'certificate',
      /found 2/,
    ],
    [{ ...good, certificatePem: leaf.toString() }, 'certificate', /not a CA/],
    [expired, 'certificate', /expired/],
    [{ ...good, privateKeyPem: 'x' }, 'key', /not a private key/],
    [{ ...good, privateKeyPem: another.privateKeyPem }, 'key', /does not belong/],
  ] as const
  for (const [pem, part, reason] of broken)
    t.match(await loadAuthority(pem), { ok: false, error: { part, reason } })
})

function openssl(...args: readonly string[]): string {
  return execFileSync('openssl', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}
