// SPDX-License-Identifier: Apache-2.0
// Given two pods of different nodes that talk, when the certificate of one is revoked, then what they have open ends and nothing new
// begins, whichever end hears of it; and other pods notice nothing.

import { once } from 'node:events'
import type { Socket } from 'node:net'
import t from 'tap'
import { readRevocationLists, type RevocationList } from '../../mesh/identity/revocation-list.ts'
import type { IpAddress, MeshChange } from '../../mesh/model/types.ts'
import type { ConnectionDump } from '../../agent/proxy/open-connections.ts'
import { makeCertificate, makeRoot, type TestRoot } from '../hbone/certs.ts'
import { revocationList } from '../identity/revocation-lists.ts'
import {
  inService,
  startAgent,
  startApp,
  testPod,
  testService,
  workloadOf,
} from './loopback-world.ts'

async function listsOf(root: TestRoot, serial: string): Promise<readonly RevocationList[]> {
  const lists = readRevocationLists(await revocationList(root, [serial]))
  if (!lists.ok) throw new Error(lists.error)
  return lists.value
}

async function heard(socket: Socket, word: string): Promise<string> {
  socket.write(word)
  const [chunk] = (await once(socket, 'data')) as [Buffer]
  return String(chunk)
}

/** Resolves when the socket is closed; an end by a reset is none of the test's failures. */
function ended(socket: Socket): Promise<unknown> {
  return new Promise((resolve) => socket.on('error', () => undefined).once('close', resolve))
}

for (const revoked of ['client', 'server'] as const)
  await t.test(`the ${revoked}'s certificate is revoked under traffic`, async (t) => {
    const root = await makeRoot()
    const [near, far] = [await startAgent(t, { root }), await startAgent(t, { root })]
    const frontend = await near.servePod(testPod('frontend'))
    const other = await near.servePod(testPod('other'))
    const catalog = await far.servePod(testPod('catalog'))
    const [serverAddress] = catalog.pod.addresses as [IpAddress]
    const appPort = await startApp(t, serverAddress, (socket) => socket.pipe(socket))
    const vip = { address: '10.96.0.20' as IpAddress, port: 80 }
    const service = testService('catalog', vip.address)
    const changes: MeshChange[] = [
      { kind: 'service', service },
      { kind: 'workload', workload: workloadOf(frontend.pod) },
      { kind: 'workload', workload: workloadOf(other.pod) },
      { kind: 'workload', workload: workloadOf(catalog.pod, inService(service, appPort)) },
    ]
    for (const agent of [near, far]) {
      agent.send({ kind: 'mesh', changes })
      agent.send({ kind: 'meshSynced' })
    }
    const { identity } = revoked === 'client' ? frontend.pod : catalog.pod
    const certificate = await makeCertificate(root, identity)
    const [holder, judge] = revoked === 'client' ? [near, far] : [far, near]
    holder.send({ kind: 'certificate', certificate })

    const held = await frontend.call(vip)
    t.equal(await heard(held, 'before'), 'before')
    const dump = (await near.ask({ kind: 'dump' })) as ReadonlyMap<
      string,
      readonly ConnectionDump[]
    >
    const outbound = dump.get(frontend.pod.uid)?.filter(({ direction }) => direction === 'outbound')
    t.match(
      outbound,
      [{ originalDst: '10.96.0.20:80', protocol: 'HBONE' }],
      'it is listed by what the app called, not by the endpoint behind it',
    )
    const bystander = await other.call(vip)
    t.equal(await heard(bystander, 'before'), 'before')

    const cut = ended(held)
    judge.send({ kind: 'revocations', lists: await listsOf(root, certificate.serialNumber) })
    await cut
    await judge.line(
      (line) =>
        /certificate is revoked/.test(String(line['error'])) && line['direction'] !== undefined,
    )
    const again = await frontend.call(vip)
    await ended(again)
    t.pass('nothing new begins')
    await judge.line((line) => /refused in the handshake/.test(String(line['error'])))

    if (revoked === 'client') t.equal(await heard(bystander, 'after'), 'after')
    bystander.destroy()
    judge.send({ kind: 'revocations', lists: [] })
    const forgiven = await frontend.call(vip)
    t.equal(await heard(forgiven, 'again'), 'again')
    forgiven.destroy()
  })
