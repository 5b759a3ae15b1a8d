// SPDX-License-Identifier: Apache-2.0
// Authorities of an operator's own: what may sign for the mesh, as OpenSSL sees it, and what each wrong one is told.

import t from 'tap'
import { execFileSync } from 'node:child_process'
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type AuthorityPem, loadAuthority } from '../../mesh/identity/authority.ts'
import { leadsTo, pathToRoot } from '../../mesh/identity/chain.ts'
import { createKeyAndCsr } from '../../mesh/identity/csr.ts'
import { splitCertificates } from '../../mesh/identity/pem.ts'
import { proveAuthority } from '../../mesh/identity/prove.ts'
import { KeyUsageFlags, OID_SERVER_AUTH } from '../../mesh/identity/x509.ts'
import type { SpiffeId } from '../../mesh/model/types.ts'
import { authorityOf, makeCa, plugIn } from './pki.ts'

const CATALOG = 'spiffe://cluster.local/ns/shop/sa/catalog' as SpiffeId
const HOUR_MS = 3_600_000

async function leafOf(pem: AuthorityPem): Promise<readonly string[]> {
  const authority = await authorityOf(pem)
  const { publicKeyDer } = await createKeyAndCsr(CATALOG)
  const signed = await authority.sign({
    names: [{ type: 'url', value: CATALOG }],
    publicKeyDer,
    notBefore: new Date(Date.now() - 1000),
    notAfter: new Date(Date.now() + HOUR_MS),
  })
  return splitCertificates(signed)
}

void t.test('openssl verifies what authorities of every key and depth sign', async (t) => {
  for (const kind of ['P-256', 'P-384', 'RSA-2048'] as const) {
    const root = await makeCa('root', { kind: 'RSA-2048' })
    const middle = await makeCa('middle', { kind: 'P-384', parent: root, pathLength: 1 })
    const issuer = await makeCa('issuer', {
      kind,
      parent: middle,
      pathLength: 0,
      keyIdentifier: 'a1b2c3d4e5f60718',
    })
    const other = await makeCa('another root')
    const chain = await leafOf(plugIn(issuer, [other, root], [middle]))
    t.equal(chain.length, 3, 'the leaf, its issuer and what is above it, without the root')
    const dir = t.testdir({})
    writeFileSync(join(dir, 'root.pem'), root.pem)
    writeFileSync(join(dir, 'leaf.pem'), chain[0] ?? '')
    writeFileSync(join(dir, 'between.pem'), chain.slice(1).join('\n'))
    const verdict = execFileSync(
      'openssl',
      [
        ...['verify', '-x509_strict', '-purpose', 'sslserver', '-CAfile', join(dir, 'root.pem')],
        ...['-untrusted', join(dir, 'between.pem'), join(dir, 'leaf.pem')],
      ],
      { encoding: 'utf8' },
    )
    t.match(verdict, /leaf\.pem: OK/, kind)
    const authority = await authorityOf(plugIn(issuer, [other, root], [middle]))
    t.equal(authority.bundlePem, root.pem + other.pem, "the issuer's own root comes first")
    t.same(await proveAuthority(authority, 'cluster.local'), { ok: true, value: undefined })
  }
})

void t.test('a root that signs itself needs no chain, and keys come in any form', async (t) => {
  const root = await makeCa('root', { kind: 'RSA-2048', pathLength: 0 })
  t.equal((await leafOf(plugIn(root, [root]))).length, 1)
  const pkcs1 = createPrivateKey(root.keyPem).export({ type: 'pkcs1', format: 'pem' })
  const bare = { certificatePem: root.pem, privateKeyPem: String(pkcs1) }
  t.equal((await leafOf(bare)).length, 1, 'PKCS#1')
  const curved = await makeCa('root', { kind: 'P-384' })
  const sec1 = createPrivateKey(curved.keyPem).export({ type: 'sec1', format: 'pem' })
  t.equal((await leafOf({ certificatePem: curved.pem, privateKeyPem: String(sec1) })).length, 1)
})

void t.test('a leaf ends when the first certificate above it does', async (t) => {
  const root = await makeCa('root', { notAfter: new Date(Date.now() + HOUR_MS / 2) })
  const issuer = await makeCa('issuer', { parent: root })
  const [leaf = ''] = await leafOf(plugIn(issuer, [root]))
  t.equal(new X509Certificate(leaf).validTo, new X509Certificate(root.pem).validTo)
})

void t.test('each wrong authority is told what is wrong, and in which part', async (t) => {
  const root = await makeCa('root')
  const other = await makeCa('other root')
  const issuer = await makeCa('issuer', { parent: root })
  const sound = plugIn(issuer, [root])
  const past = { notBefore: new Date(Date.now() - HOUR_MS), notAfter: new Date(Date.now() - 1000) }
  const below = async (
    options: Parameters<typeof makeCa>[1],
    parent = root,
  ): Promise<AuthorityPem> => plugIn(await makeCa('bad', { parent, ...options }), [root])
  const middle = await makeCa('middle', { parent: root, ...past })
  const narrow = await makeCa('narrow', { parent: root, pathLength: 0 })
  const [one, two] = [
    await makeCa('twin', { keyIdentifier: 'none' }),
    await makeCa('twin', { keyIdentifier: 'none' }),
  ]
  const weakRoot = await makeCa('weak', { kind: 'RSA-1024' })
  const table: readonly (readonly [string, AuthorityPem, string, RegExp])[] = [
    ['no certificate', { ...sound, certificatePem: 'x' }, 'certificate', /exactly one PEM/],
    ['an expired one', await below(past), 'certificate', /"O=bad" expired at/],
    [
      'one of tomorrow',
      await below({ notBefore: new Date(Date.now() + HOUR_MS) }),
      'certificate',
      /not valid before/,
    ],
    ['a leaf', await below({ isCa: false }), 'certificate', /is not a CA certificate$/],
    [
      'one that may not sign certificates',
      await below({ usage: KeyUsageFlags.digitalSignature }),
      'certificate',
      /key usage/,
    ],
    ['a weak one', await below({ kind: 'RSA-1024' }), 'certificate', /weak RSA key of 1024 bits/],
    ['another curve', await below({ kind: 'P-521' }), 'certificate', /curve secp521r1/],
    ["another's key", { ...sound, privateKeyPem: other.keyPem }, 'key', /does not belong/],
    ['no key', { ...sound, privateKeyPem: 'x' }, 'key', /not a private key/],
    ['no roots', { ...sound, rootsPem: 'x' }, 'roots', /no PEM certificate/],
    [
      'a chain to another root',
      { ...sound, rootsPem: other.pem },
      'chain',
      /does not lead from "O=issuer" to any of the roots \("O=other root"\)/,
    ],
    [
      'a chain with a gap',
      plugIn(await makeCa('far', { parent: narrow }), [root]),
      'chain',
      /does not lead/,
    ],
    [
      'an expired one between',
      plugIn(await makeCa('far', { parent: middle }), [root], [middle]),
      'chain',
      /"O=middle" expired/,
    ],
    [
      'one deeper than allowed',
      plugIn(await makeCa('deep', { parent: narrow }), [root], [narrow]),
      'chain',
      /"O=narrow" may not have 1 authorities below it/,
    ],
    [
      'an intermediate for a root',
      { ...sound, rootsPem: root.pem + issuer.pem },
      'roots',
      /not a root/,
    ],
    ['roots that nobody can tell apart', plugIn(one, [one, two]), 'roots', /two roots are named/],
    [
      'a weak root',
      { ...sound, rootsPem: root.pem + weakRoot.pem },
      'roots',
      /"O=weak" has a weak/,
    ],
  ]
  for (const [what, pem, part, reason] of table) {
    const outcome = await loadAuthority(pem)
    t.match(outcome, { ok: false, error: { part, reason } }, what)
  }
  const ended = await makeCa('ended', past)
  const withEnded = await authorityOf({ ...sound, rootsPem: ended.pem + root.pem })
  t.equal(withEnded.bundlePem, root.pem, 'a root beside it that has ended is left out')
})

void t.test(
  'what OpenSSL would refuse in a handshake is found before anything is signed',
  async (t) => {
    const root = await makeCa('root')
    const serverOnly = await makeCa('issuer', { parent: root, extendedUsage: [OID_SERVER_AUTH] })
    const authority = await authorityOf(plugIn(serverOnly, [root]))
    t.match(await proveAuthority(authority, 'cluster.local'), {
      ok: false,
      error: /as a client's it is refused: (INVALID_PURPOSE|.*unsuitable)/,
    })
  },
)

void t.test(
  'a path is found through certificates in any order, and ends at the first root',
  async (t) => {
    const root = await makeCa('root')
    const middle = await makeCa('middle', { parent: root })
    const issuer = await makeCa('issuer', { parent: middle })
    const [r, m, i] = [root, middle, issuer].map(({ pem }) => new X509Certificate(pem))
    if (r === undefined || m === undefined || i === undefined) throw new Error('three were made')
    t.same(pathToRoot(i, [r, i, m], [r]), [i, m, r])
    t.same(pathToRoot(i, [r, m], [m]), [i, m])
    t.equal(pathToRoot(i, [r], [r]), undefined)
    t.equal(pathToRoot(i, [i, m], [i])?.length, 1)
    t.equal(leadsTo(m, [r], new Date()), true)
    t.equal(leadsTo(i, [r], new Date()), false, 'nobody sent what lies between')
    t.equal(leadsTo(m, [r], new Date(Date.now() + 48 * HOUR_MS)), false, 'out of date')
    t.equal(leadsTo(m, [], new Date()), false)
  },
)

void t.test('an authority that was prolonged under its key is used in its new form', async (t) => {
  const past = { notBefore: new Date(Date.now() - HOUR_MS), notAfter: new Date(Date.now() - 1000) }
  const old = await makeCa('root', past)
  const root = await makeCa('root', { again: old })
  const oldMiddle = await makeCa('middle', { parent: old, ...past })
  const middle = await makeCa('middle', { parent: root, again: oldMiddle })
  const issuer = await makeCa('issuer', { parent: middle })
  const authority = await authorityOf(plugIn(issuer, [old, root], [oldMiddle, middle]))
  t.equal(authority.bundlePem, root.pem)
  t.equal(authority.chainPem, issuer.pem + middle.pem)
  t.same(await proveAuthority(authority, 'cluster.local'), { ok: true, value: undefined })
  const [i, o, m, oldRoot, newRoot] = [issuer, oldMiddle, middle, old, root].map(
    ({ pem }) => new X509Certificate(pem),
  )
  if (!i || !o || !m || !oldRoot || !newRoot) throw new Error('five were made')
  t.equal(leadsTo(m, [oldRoot, newRoot], new Date()), true, 'a connection that stands goes on')
  t.same(pathToRoot(i, [o, m], [oldRoot]), [i, o, oldRoot], 'where none is sound, there is a way')
})

void t.test('a way up is found in no time among many that look like it', async (t) => {
  const root = await makeCa('a')
  const other = await makeCa('b')
  // Of one name and key, and each below the other: without an end.
  const issuer = await makeCa('c', { parent: root })
  const loops: string[] = []
  for (let at = 0; at < 8; at += 1) {
    loops.push((await makeCa('a', { again: root, parent: other })).pem)
    loops.push((await makeCa('b', { again: other, parent: root })).pem)
  }
  const [i, o] = [issuer, await makeCa('elsewhere')].map(({ pem }) => new X509Certificate(pem))
  if (!i || !o) throw new Error('two were made')
  const others = loops.map((pem) => new X509Certificate(pem))
  const begun = performance.now()
  t.equal(pathToRoot(i, others, [o]), undefined)
  t.ok(performance.now() - begun < 1_000)
})
