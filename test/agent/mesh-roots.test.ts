// SPDX-License-Identifier: Apache-2.0
// Given an agent that starts before the control plane has published its roots, or before the kubelet has brought them, then it
// has them as soon as they are there.

import { rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { MeshRoots } from '../../agent/mesh-roots.ts'
import { CONFIG_MAPS, createKubeApi } from '../../mesh/kube/index.ts'
import { makeCa } from '../identity/pki.ts'
import { FaultyApi } from '../support/faulty-api.ts'
import { until } from '../support/until.ts'

interface Setting {
  readonly roots: MeshRoots
  readonly kube: FaultyApi
  readonly file: string
  changes: number
  publish(pem: string, name?: string): void
}

async function setUp(t: Test, inFile?: string): Promise<Setting> {
  const kube = new FaultyApi()
  await kube.start()
  t.teardown(() => kube.stop())
  const file = path.join(t.testdir({}), 'root-cert.pem')
  if (inFile !== undefined) writeFileSync(file, inFile)
  const log = pino({ level: 'silent' })
  const roots = new MeshRoots({ file, namespace: 'ambit-system', log })
  const setting: Setting = {
    roots,
    kube,
    file,
    changes: 0,
    publish: (pem, name = 'istio-ca-root-cert') =>
      void kube.put(CONFIG_MAPS, {
        metadata: { namespace: 'ambit-system', name },
        data: { 'root-cert.pem': pem },
      }),
  }
  roots.follow(createKubeApi(kube.access()), () => {
    setting.changes += 1
  })
  t.teardown(() => roots.close())
  await kube.until(() => kube.watches.size === 1, 'the watch')
  // The watches of files keep no process alive.
  const alive = setInterval(() => undefined, 1_000)
  t.teardown(() => clearInterval(alive))
  return setting
}

await t.test('without any it says where it looks', async (t) => {
  const { roots, publish, file } = await setUp(t)
  publish('no certificate')
  publish((await makeCa('other')).pem, 'another-map')
  await t.rejects(roots.read(), {
    message: new RegExp(`neither in ${file} nor in ConfigMap ambit-system/istio-ca-root-cert`),
  })
})

await t.test('the ConfigMap stands in for a file that is not there yet', async (t) => {
  const setting = await setUp(t)
  const [old, young] = [await makeCa('old'), await makeCa('young')]
  setting.publish(old.pem)
  await until(() => setting.changes === 1, 'news of the first')
  t.equal((await setting.roots.read()).trim(), old.pem.trim())
  writeFileSync(setting.file, old.pem)
  setting.publish(`# with a comment\n${old.pem}`)
  setting.publish(young.pem)
  t.equal((await setting.roots.read()).trim(), old.pem.trim(), 'the file comes first')
  writeFileSync(setting.file, young.pem)
  await until(() => setting.changes === 2, 'news of the others, and none of the same')
  t.equal((await setting.roots.read()).trim(), young.pem.trim())
  setting.kube.remove(CONFIG_MAPS, 'ambit-system/istio-ca-root-cert')
  rmSync(setting.file)
  t.equal(
    (await setting.roots.read()).trim(),
    young.pem.trim(),
    'what was published is still trusted',
  )
})

await t.test('roots that were there from the start are no news', async (t) => {
  const { pem } = await makeCa('root')
  const setting = await setUp(t, pem)
  setting.publish(pem)
  const young = await makeCa('young')
  writeFileSync(setting.file, young.pem)
  await until(() => setting.changes > 0, 'news')
  t.equal(setting.changes, 1)
})
