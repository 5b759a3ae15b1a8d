// SPDX-License-Identifier: Apache-2.0
// The roots reach every namespace, also when some will not have them.

import t from 'tap'
import { publishRoot } from '../../controller/ca/root-publisher.ts'
import { CONFIG_MAPS, createKubeApi, NAMESPACES } from '../../mesh/kube/index.ts'
import { ROOT_LABEL } from '../../mesh/model/names.ts'
import { createLogger } from '../../mesh/telemetry/log.ts'
import { authorityOf, makeCa, plugIn } from '../identity/pki.ts'
import { FaultyApi } from '../support/faulty-api.ts'
import { HeldAuthority } from './held-authority.ts'

void t.test('namespaces that refuse the roots keep them from no other', async (t) => {
  const stub = new FaultyApi()
  await stub.start()
  t.teardown(() => stub.stop())
  // More than there are writers, and first in order.
  const stubborn = ['a1', 'a2', 'a3', 'a4', 'a5', 'a6']
  for (const name of stubborn) stub.put(NAMESPACES, { metadata: { name } })
  stub.fail('PATCH', /\/namespaces\/a\d\//, Number.POSITIVE_INFINITY, 422, 'Invalid')
  stub.put(NAMESPACES, { metadata: { name: 'shop' } })

  const root = await makeCa('root')
  const authority = new HeldAuthority(await authorityOf(plugIn(root, [root])))
  const ending = new AbortController()
  const log = createLogger('test', 'silent')
  const publishing = publishRoot(createKubeApi(stub.access()), {
    authority,
    log,
    signal: ending.signal,
  })
  t.teardown(async () => {
    ending.abort()
    await publishing
  })
  const published = (): unknown => stub.get(CONFIG_MAPS, 'shop/istio-ca-root-cert')?.data
  await stub.until(() => published() !== undefined, 'the root in the shop')
  t.same(published(), { 'root-cert.pem': root.pem })

  stub.heal()
  await stub.until(
    () => stubborn.every((name) => stub.get(CONFIG_MAPS, `${name}/istio-ca-root-cert`)),
    'the root in those that now take it',
  )
  t.pass('and those who let it in later get it then')
})

void t.test("another mesh's words for the same roots stay, but for the label", async (t) => {
  const stub = new FaultyApi()
  await stub.start()
  t.teardown(() => stub.stop())
  const root = await makeCa('root')
  const name = 'istio-ca-root-cert'
  const theirs = `# of istiod\n${root.pem.trim()}`
  for (const namespace of ['shop', 'bank']) {
    stub.put(NAMESPACES, { metadata: { name: namespace } })
    stub.put(CONFIG_MAPS, {
      metadata: { namespace, name, labels: { [ROOT_LABEL]: 'published' } },
      data: { 'root-cert.pem': namespace === 'shop' ? theirs : 'nothing' },
    })
  }
  const ending = new AbortController()
  const publishing = publishRoot(createKubeApi(stub.access()), {
    authority: new HeldAuthority(await authorityOf(plugIn(root, [root]))),
    log: createLogger('test', 'silent'),
    signal: ending.signal,
  })
  t.teardown(async () => {
    ending.abort()
    await publishing
  })
  const dataOf = (namespace: string) => stub.get(CONFIG_MAPS, `${namespace}/${name}`)?.data
  await stub.until(
    () => dataOf('bank')?.['root-cert.pem'] === root.pem,
    'the other to be put right',
  )
  t.equal(dataOf('shop')?.['root-cert.pem'], theirs)
  t.notOk(
    stub.requests.some(({ method, url }) => method === 'PATCH' && url.pathname.includes('/shop/')),
    'two that share their roots do not overwrite one another',
  )
})

void t.test('a root that does not say whose it is gets the label', async (t) => {
  const stub = new FaultyApi()
  await stub.start()
  t.teardown(() => stub.stop())
  const root = await makeCa('root')
  const name = 'istio-ca-root-cert'
  stub.put(NAMESPACES, { metadata: { name: 'shop' } })
  // As the version before this one has published it, and somebody has labelled it.
  stub.put(CONFIG_MAPS, {
    metadata: { namespace: 'shop', name, labels: { mine: 'yes' } },
    data: { 'root-cert.pem': root.pem },
  })
  const ending = new AbortController()
  const publishing = publishRoot(createKubeApi(stub.access()), {
    authority: new HeldAuthority(await authorityOf(plugIn(root, [root]))),
    log: createLogger('test', 'silent'),
    signal: ending.signal,
  })
  t.teardown(async () => {
    ending.abort()
    await publishing
  })
  const labels = (): unknown => stub.get(CONFIG_MAPS, `shop/${name}`)?.metadata?.labels
  const isMarked = (): boolean =>
    (labels() as Readonly<Record<string, string>>)[ROOT_LABEL] !== undefined
  await stub.until(isMarked, 'the label')
  t.match(labels(), { mine: 'yes', [ROOT_LABEL]: 'published' })
})
