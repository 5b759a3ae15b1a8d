// SPDX-License-Identifier: Apache-2.0
// A revoked certificate opens no tunnel, at whichever end it is; and what was open with it can be cut.

import t from 'tap'
import { isRevoked } from '../../mesh/hbone/tls.ts'
import { readRevocationLists } from '../../mesh/identity/revocation-list.ts'
import { Revocations } from '../../mesh/identity/revocations.ts'
import { trustPolicy } from '../../mesh/identity/trust-policy.ts'
import { revocationList } from '../identity/revocation-lists.ts'
import { makeRoot, type TestRoot } from './certs.ts'
import { makeWorld } from './harness.ts'

const revocations = (): readonly [Revocations, ReturnType<typeof trustPolicy>] => {
  const each = new Revocations()
  return [each, trustPolicy({ trustDomain: 'cluster.local', aliases: [] }, each)]
}

async function revoke(to: Revocations, root: TestRoot, serial: string): Promise<void> {
  const lists = readRevocationLists(await revocationList(root, [serial]))
  if (!lists.ok) throw new Error(lists.error)
  to.replace(lists.value)
}

void t.test('a client whose certificate is revoked gets no tunnel, and others do', async (t) => {
  const [revoked, trust] = revocations()
  const root = await makeRoot()
  const world = await makeWorld(t, { trust, root })
  await revoke(revoked, root, world.clientCertificate.serialNumber)
  await t.rejects(world.open())
  t.match(world.refused, [{ reason: 'handshakeRevoked', message: /is revoked/ }])
  const next = await makeWorld(t, { trust, root })
  t.ok(await next.open())
})

void t.test('a server whose certificate is revoked is not called', async (t) => {
  const [revoked, trust] = revocations()
  const root = await makeRoot()
  const world = await makeWorld(t, { trust, root })
  await revoke(revoked, root, world.serverCertificate.serialNumber)
  await t.rejects(world.open(), /is revoked/)
})

void t.test('an authority that is revoked vouches for nobody', async (t) => {
  const [revoked, trust] = revocations()
  const root = await makeRoot()
  // The root's own number: it is the issuer of both, and of itself.
  await revoke(revoked, root, '01')
  const world = await makeWorld(t, { trust, root })
  await t.rejects(world.open())
})

void t.test(
  'connections that stand are cut when their peer is revoked, at both ends',
  async (t) => {
    const [revoked, trust] = revocations()
    const root = await makeRoot()
    const world = await makeWorld(t, { trust, root })
    const { tunnel } = await world.open()
    tunnel.on('error', () => undefined)
    const isOver = ({ socket }: { socket: Parameters<typeof isRevoked>[0] }): boolean =>
      isRevoked(socket, trust)
    t.equal(world.server.closeWhere(isOver, 'certificateRevoked'), 0)
    t.equal(world.pool.closeWhere(isOver, 'certificateRevoked'), 0)
    await revoke(revoked, root, world.serverCertificate.serialNumber)
    t.equal(world.server.closeWhere(isOver, 'certificateRevoked'), 0)
    t.equal(world.pool.closeWhere(isOver, 'certificateRevoked'), 1)
    if (!tunnel.closed) await new Promise<void>((resolve) => tunnel.once('close', () => resolve()))
    await revoke(revoked, root, 'ffff')
    const again = await world.open()
    again.tunnel.on('error', () => undefined)
    await revoke(revoked, root, world.clientCertificate.serialNumber)
    t.equal(world.server.closeWhere(isOver, 'certificateRevoked'), 1)
    if (!again.tunnel.closed)
      await new Promise<void>((resolve) => again.tunnel.once('close', () => resolve()))
    await t.rejects(world.open())
  },
)
