// SPDX-License-Identifier: Apache-2.0
// ConfigMaps may be many: the controller asks for them once a BackendTLSPolicy may name one, and not before.

import t, { type Test } from 'tap'
import { translate } from '../../controller/core/translator.ts'
import { ObjectSources } from '../../controller/sources/object-sources.ts'
import { watchCluster } from '../../controller/sources/watch-cluster.ts'
import { draftOf } from '../../lab/kubernetes/objects/json.ts'
import { readManifests } from '../../lab/machine/manifests.ts'
import { Graph } from '../../mesh/collections/index.ts'
import {
  BACKEND_TLS_POLICIES,
  CONFIG_MAPS,
  createKubeApi,
  SERVICES,
} from '../../mesh/kube/index.ts'
import { makeRoot } from '../hbone/certs.ts'
import { FaultyApi } from '../support/faulty-api.ts'
import { Waiter } from '../support/waiter.ts'
import { silent } from '../xds/support.ts'
import { CONFIG, kubeService, ORIGIN, testSecrets } from './objects.ts'

const { pem } = await makeRoot()

function policy(name: string) {
  return {
    metadata: { name, namespace: 'shop' },
    spec: {
      targetRefs: [{ group: '', kind: 'Service', name: 'catalog' }],
      validation: {
        hostname: 'catalog.example',
        caCertificateRefs: [{ group: '', kind: 'ConfigMap', name: 'apps' }],
      },
    },
  }
}

async function startApi(t: Test): Promise<FaultyApi> {
  const kube = new FaultyApi()
  await kube.start()
  t.teardown(() => kube.stop())
  const kinds = readManifests('lab/manifests/gateway-kinds.yaml')
  const kind = kinds.find(({ name }) => name.startsWith('backendtlspolicies.'))
  if (kind === undefined) throw new Error('the lab defines BackendTLSPolicies')
  kube.local.create(
    'customresourcedefinitions.apiextensions.k8s.io',
    undefined,
    draftOf(kind.object),
  )
  kube.put(SERVICES, kubeService('catalog'))
  kube.put(CONFIG_MAPS, { metadata: { name: 'apps', namespace: 'shop' }, data: { 'ca.crt': pem } })
  return kube
}

async function follow(t: Test, kube: FaultyApi) {
  const graph = new Graph({
    onFault: ({ error }) => {
      throw error
    },
  })
  const sources = new ObjectSources(graph, { onProblems: () => undefined })
  const { backendTls } = translate(graph, sources.collections, CONFIG, testSecrets(graph))
  const waiter = new Waiter()
  const seen: (string | undefined)[] = []
  backendTls.subscribe((changes) => {
    for (const { current } of changes) seen.push(current?.fault)
    waiter.poke()
  })
  const cluster = watchCluster({
    api: createKubeApi(kube.access()),
    origin: ORIGIN,
    sources,
    logger: silent,
  })
  t.teardown(() => cluster.close())
  await cluster.synced
  sources.complete()
  const asked = (): boolean => kube.requests.some(({ url }) => url.pathname.endsWith('/configmaps'))
  return { waiter, seen, backendTls, asked }
}

void t.test('a policy that is there from the start is never without its authorities', async (t) => {
  const kube = await startApi(t)
  kube.put(BACKEND_TLS_POLICIES, policy('p'))
  const { seen } = await follow(t, kube)
  t.strictSame(seen, [undefined], 'told of once, and without a fault')
})

void t.test('one that comes later is what ConfigMaps are read for', async (t) => {
  const kube = await startApi(t)
  const { waiter, seen, backendTls, asked } = await follow(t, kube)
  t.notOk(asked(), 'nobody has asked for any')
  kube.put(BACKEND_TLS_POLICIES, policy('p'))
  await waiter.until(() => seen.length > 0 && seen.at(-1) === undefined)
  t.match([...backendTls.values()], [{ authorities: `${pem.trim()}\n` }])
  t.ok(asked())
})
