// SPDX-License-Identifier: Apache-2.0
// What the mesh has forgotten while the world has not: a pod that runs on though its object says that it has ended, and a Service that the
// nodes lead to its endpoints though it is deleted. Neither is called in plaintext.

import t from 'tap'
import { missing } from '../helpers.ts'
import { HTTP_PORT } from './programs/ports.ts'
import {
  type AccessLine,
  applyAll,
  captureFabric,
  configDump,
  linesWhere,
  meshLab,
  NEEDS,
  waitForCapture,
  waitForNews,
} from './support/mesh-lab.ts'
import {
  get,
  namespaceManifest,
  podAddress,
  serverManifest,
  serviceManifest,
} from './support/pods.ts'

const skip = missing(...NEEDS)
const [SECRET, OPEN_SECRET] = ['ambit-secret-of-the-mesh', 'ambit-secret-of-the-street']

const MESH_IDENTITY = 'spiffe://cluster.local/ns/mesh/sa/default'

await t.test('what the mesh has just forgotten', { skip }, async (t) => {
  const lab = await meshLab(t)
  await applyAll(lab, [
    namespaceManifest('mesh'),
    namespaceManifest('plain', false),
    serverManifest({ namespace: 'mesh', name: 'client', node: 'node-a' }),
    serverManifest({ namespace: 'mesh', name: 'near', node: 'node-a' }),
    serverManifest({ namespace: 'mesh', name: 'far', node: 'node-b' }),
    serverManifest({ namespace: 'mesh', name: 'web', node: 'node-b' }),
    serviceManifest('mesh', 'web', { app: 'web' }),
    serverManifest({ namespace: 'plain', name: 'client', node: 'node-a' }),
  ])
  await lab.waitForPods()
  await waitForCapture(lab, 'mesh', true)
  await waitForNews(lab, 'node-a', 'mesh', { web: 1 })
  const near = await podAddress(lab, 'mesh/near', 4)
  const far = await podAddress(lab, 'mesh/far', 4)
  const hasForgotten = (kind: 'workloads' | 'services', ...names: readonly string[]) =>
    lab.waitFor(`the agent to have forgotten ${names.join()}`, async () => {
      const known: readonly { readonly name: string }[] = (await configDump(lab, 'node-a'))[kind]
      return known.some(({ name }) => names.includes(name)) ? undefined : true
    })
  const endCapture = await captureFabric(t, lab)

  await t.test('pods that run on though their objects say Failed', async (t) => {
    for (const name of ['near', 'far'])
      await lab.kubectl(
        ...['patch', 'pod', '-n=mesh', name, '--subresource=status', '--type=merge'],
        '--patch={"status":{"phase":"Failed"}}',
      )
    await hasForgotten('workloads', 'near', 'far')
    for (const [name, ip, address] of [
      ['near', near, `${near}:${HTTP_PORT}`],
      ['far', far, `${far}:15008`],
    ] as const) {
      t.equal((await get(lab, 'mesh/client', `http://${ip}:${HTTP_PORT}/?${SECRET}`)).pod, name)
      const isMeant = (line: AccessLine): boolean => line['dst.workload'] === name
      const [line] = await linesWhere(lab, 'node-a', `a line of ${name}`, isMeant)
      t.match(line, { 'dst.addr': address, 'dst.identity': MESH_IDENTITY }, `a call of ${name}`)
    }
    t.equal(
      (await get(lab, 'plain/client', `http://${far}:${HTTP_PORT}/?${OPEN_SECRET}`)).pod,
      'far',
    )
  })

  await t.test('one that has ended by now', async (t) => {
    await lab.kubectl('delete', 'pod', '-n=mesh', 'far')
    await t.rejects(get(lab, 'mesh/client', `http://${far}:${HTTP_PORT}/?${SECRET}`))
    const isMeant = (line: AccessLine): boolean =>
      line['dst.workload'] === 'far' && line.error !== undefined
    const [line] = await linesWhere(lab, 'node-a', 'the line of a call that failed', isMeant)
    t.match(line, { error: /the address was pod mesh\/far's, which is gone/ })
  })

  await t.test('a Service that is deleted, which the node leads on', async (t) => {
    const service = await lab.kubectl(
      'get',
      'service',
      '-n=mesh',
      'web',
      '-o=jsonpath={.spec.clusterIP}',
    )
    const web = await podAddress(lab, 'mesh/web', 4)
    const rule = `ip daddr ${service} tcp dport 80 dnat to ${web}:${HTTP_PORT}`
    const chain = `type nat hook prerouting priority dstnat + 1; ${rule};`
    const { code, stderr } = await lab.nodeExec('node-a', [
      ...['nft', `table ip ambit-late { chain prerouting { ${chain} }\n}\n`],
    ])
    t.equal(code, 0, stderr)
    t.equal((await get(lab, 'mesh/client', `http://${service}/?${SECRET}`)).pod, 'web')
    await lab.kubectl('delete', 'service', '-n=mesh', 'web')
    await hasForgotten('services', 'web')
    t.equal((await get(lab, 'plain/client', `http://${service}/`)).pod, 'web', 'it is led on')
    await t.rejects(get(lab, 'mesh/client', `http://${service}/?${SECRET}`))
    const isMeant = ({ error = '' }: AccessLine): boolean => error.includes('mesh/web')
    const [line] = await linesWhere(lab, 'node-a', 'its refusal', isMeant)
    t.match(line, { 'dst.addr': `${service}:80`, error: /is deleted/ })
  })

  const packets = await endCapture()
  t.ok(packets.includes(OPEN_SECRET), 'who is not of the mesh is read on the way')
  t.notOk(packets.includes(SECRET), 'who is of it is not')
})
