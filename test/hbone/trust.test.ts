// SPDX-License-Identifier: Apache-2.0
// Whom the two ends of HBONE take for one of the mesh's own: authorities of every kind, several roots, aliases.

import t from 'tap'
import type { SigningAuthority } from '../../mesh/identity/authority.ts'
import { trustPolicy } from '../../mesh/identity/trust-policy.ts'
import type { SpiffeId } from '../../mesh/model/types.ts'
import { authorityOf, makeCa, plugIn, workloadCertificate } from '../identity/pki.ts'
import { makeCertificate, testIdentity } from './certs.ts'
import { makeWorld } from './harness.ts'

const CLIENT = testIdentity('client')
const SERVER = testIdentity('server')

await t.test('pods whose certificates come from intermediates of any key meet', async (t) => {
  const root = await makeCa('root', { kind: 'RSA-2048' })
  const rsa = await makeCa('rsa', { kind: 'RSA-2048', parent: root })
  const middle = await makeCa('middle', { kind: 'P-384', parent: root })
  const curved = await makeCa('curved', { parent: middle })
  const one = await authorityOf(plugIn(rsa, [root]))
  const other = await authorityOf(plugIn(curved, [root], [middle]))
  const world = await makeWorld(t, {
    clientCertificate: () => workloadCertificate(one, CLIENT),
    serverCertificate: () => workloadCertificate(other, SERVER),
  })
  t.equal((await world.open()).peerIdentity, SERVER)
  t.same(world.refused, [])
})

await t.test('roots that overlap are enough: each end need only trust the other', async (t) => {
  const [old, young] = [await makeCa('root'), await makeCa('root')]
  const before = await authorityOf(plugIn(old, [old, young]))
  const after = await authorityOf(plugIn(young, [old, young]))
  const world = await makeWorld(t, {
    clientCertificate: () => workloadCertificate(before, CLIENT),
    serverCertificate: () => workloadCertificate(after, SERVER),
  })
  t.equal((await world.open()).peerIdentity, SERVER)
})

await t.test('a certificate of a root that was taken out gets no tunnel', async (t) => {
  const [old, young] = [await makeCa('root'), await makeCa('root')]
  const before = await authorityOf(plugIn(old, [old, young]))
  const after = await authorityOf(plugIn(young, [young]))
  const world = await makeWorld(t, {
    clientCertificate: () => workloadCertificate(before, CLIENT),
    serverCertificate: () => workloadCertificate(after, SERVER),
  })
  await t.rejects(world.open())
  t.match(world.refused, [{ reason: 'tlsFailure' }])
})

await t.test('identities of an alias are peers, and are expected under either name', async (t) => {
  const root = await rootOnly()
  const alias = (id: SpiffeId): SpiffeId => id.replace('cluster.local', 'old.example') as SpiffeId
  const trust = trustPolicy({ trustDomain: 'cluster.local', aliases: ['old.example'] })
  for (const [client, server, expected] of [
    [alias(CLIENT), SERVER, SERVER],
    [CLIENT, alias(SERVER), SERVER],
    [CLIENT, SERVER, alias(SERVER)],
  ] as const) {
    const world = await makeWorld(t, {
      trust,
      clientCertificate: () => workloadCertificate(root, client),
      serverCertificate: () => workloadCertificate(root, server),
      expected: [expected],
    })
    t.equal((await world.open()).peerIdentity, server, 'called as it proved itself')
  }
  const stranger = await makeWorld(t, {
    clientCertificate: () => workloadCertificate(root, alias(CLIENT)),
    serverCertificate: () => workloadCertificate(root, SERVER),
  })
  await t.rejects(stranger.open(), 'without the alias it is another domain')
  t.match(stranger.refused, [{ reason: 'tlsFailure', message: /another trust domain/ }])
})

await t.test('an account of another name is not the one expected, alias or not', async (t) => {
  const root = await rootOnly()
  const world = await makeWorld(t, {
    trust: trustPolicy({ trustDomain: 'cluster.local', aliases: ['old.example'] }),
    clientCertificate: () => workloadCertificate(root, CLIENT),
    serverCertificate: () => workloadCertificate(root, testIdentity('thief', 'old.example')),
    expected: [SERVER],
  })
  await t.rejects(world.open(), /expected spiffe:.*server/)
})

await t.test('the certificate of an authority is nobody’s, and dots are no names', async (t) => {
  for (const [identity, isAuthority, message] of [
    [CLIENT, true, /CA:true/],
    ['spiffe://cluster.local/ns/../sa/..', false, /is not a SPIFFE ID/],
    ['spiffe://cluster.local/ns/./sa/client', false, /is not a SPIFFE ID/],
  ] as const) {
    const world = await makeWorld(t, {
      clientCertificate: (root) =>
        makeCertificate(root, identity, isAuthority ? { isAuthority } : {}),
    })
    await t.rejects(world.open())
    t.match(world.refused, [{ reason: 'tlsFailure', message }])
  }
})

async function rootOnly(): Promise<SigningAuthority> {
  const root = await makeCa('root')
  return authorityOf(plugIn(root, [root]))
}
