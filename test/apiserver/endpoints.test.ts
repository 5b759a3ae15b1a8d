// SPDX-License-Identifier: Apache-2.0
// Services and what stands behind them: addresses by family, endpoint slices that follow pods.

import t from 'tap'
import { at, records, text, texts } from '../../lab/kubernetes/objects/json.ts'
import type { StoredObject } from '../../lab/kubernetes/objects/stored-object.ts'
import type { LocalApi } from '../../lab/kubernetes/own/apiserver/local-api.ts'
import { startCluster, untilObject } from './cluster.ts'

const SLICES = 'endpointslices.discovery.k8s.io'

function service(api: LocalApi, name: string, spec: object): StoredObject {
  const made = api.create('services', 'default', {
    metadata: { name },
    spec: {
      selector: { app: 'web' },
      ports: [{ name: 'http', port: 80, targetPort: 'http' }],
      ...spec,
    },
  })
  if (!made.ok) throw new Error(made.error.message)
  return made.value
}

function pod(api: LocalApi, name: string, annotations = {}): void {
  const made = api.create('pods', 'default', {
    metadata: { name, labels: { app: 'web' }, annotations },
    spec: {
      containers: [{ name: 'main', image: 'host', ports: [{ name: 'http', containerPort: 8080 }] }],
    },
  })
  if (!made.ok) throw new Error(made.error.message)
}

const sliceOf = (name: string, family: string) => (slice: StoredObject) =>
  slice.metadata.labels?.['kubernetes.io/service-name'] === name && slice.addressType === family

void t.test('cluster IPs come from the family the service asks for', async (t) => {
  await using cluster = await startCluster({ nodes: 0 })
  const cases = [
    [{}, ['IPv4'], /^10\.96\./],
    [{ ipFamilies: ['IPv6'] }, ['IPv6'], /^fd98:96::/],
    [{ ipFamilyPolicy: 'RequireDualStack' }, ['IPv4', 'IPv6'], /^10\.96\./],
    [
      { ipFamilyPolicy: 'PreferDualStack', ipFamilies: ['IPv6', 'IPv4'] },
      ['IPv6', 'IPv4'],
      /^fd98:96::/,
    ],
    [{ clusterIP: '10.96.0.10' }, ['IPv4'], /^10\.96\.0\.10$/],
    [{ clusterIP: 'None' }, ['IPv4'], /^None$/],
  ] as const
  for (const [index, [spec, families, address]] of cases.entries()) {
    const made = service(cluster.api, `s${index}`, spec)
    t.strictSame(made.spec?.ipFamilies, families, JSON.stringify(spec))
    t.match(made.spec?.clusterIP, address)
    if (spec !== cases[5][0]) t.equal(texts(made.spec?.clusterIPs).length, families.length)
  }
  const taken = cluster.api.create('services', 'default', {
    metadata: { name: 'twice' },
    spec: { clusterIP: '10.96.0.10', ports: [{ port: 1 }] },
  })
  t.match(taken, { ok: false, error: { status: 422, message: /already allocated/ } })
  cluster.api.delete('services', 'default', 's4')
  t.equal(service(cluster.api, 'again', { clusterIP: '10.96.0.10' }).spec?.clusterIP, '10.96.0.10')
})

void t.test('slices name ready, serving and terminating pods of each family', async (t) => {
  await using cluster = await startCluster({ kubelet: true })
  const { api } = cluster
  service(api, 'web', { ipFamilyPolicy: 'RequireDualStack' })
  pod(api, 'one')
  pod(api, 'held', { hold: 'yes' })
  const slice = await untilObject(
    api,
    SLICES,
    (one) => sliceOf('web', 'IPv4')(one) && records(one.endpoints).length === 1,
  )
  const one = api.get('pods', 'default', 'one')
  const stored = one.ok ? one.value : undefined
  t.match(slice.endpoints, [
    {
      addresses: [stored?.status?.podIP],
      conditions: { ready: true, serving: true, terminating: false },
      nodeName: stored?.spec?.nodeName,
      targetRef: { kind: 'Pod', name: 'one', namespace: 'default', uid: stored?.metadata.uid },
    },
  ])
  t.strictSame(
    slice.ports,
    [{ name: 'http', protocol: 'TCP', port: 8080 }],
    'the named port is resolved',
  )
  await untilObject(
    api,
    SLICES,
    (one) => sliceOf('web', 'IPv6')(one) && /fd98/.test(JSON.stringify(one.endpoints)),
  )

  api.patch('pods', 'default', 'one', {
    type: 'merge',
    body: { metadata: { finalizers: ['test/hold'] } },
  })
  api.delete('pods', 'default', 'one')
  await untilObject(
    api,
    SLICES,
    (one) =>
      sliceOf('web', 'IPv4')(one) &&
      at(records(one.endpoints)[0], 'conditions', 'terminating') === true,
  )
  api.patch('pods', 'default', 'one', { type: 'merge', body: { metadata: { finalizers: null } } })
  await untilObject(
    api,
    SLICES,
    (one) => sliceOf('web', 'IPv4')(one) && records(one.endpoints).length === 0,
  )
  t.strictSame(cluster.errors, [])
})

void t.test(
  'a pod that loses its label leaves; a service that goes takes its slices along',
  async (t) => {
    await using cluster = await startCluster()
    const { api } = cluster
    service(api, 'web', {})
    pod(api, 'one')
    await untilObject(
      api,
      SLICES,
      (one) => sliceOf('web', 'IPv4')(one) && records(one.endpoints).length === 1,
    )
    const endpoints = await untilObject(
      api,
      'endpoints',
      (one) => one.metadata.name === 'web' && records(one.subsets).length === 1,
    )
    t.match(text(at(records(records(endpoints.subsets)[0]?.addresses)[0], 'ip')), /^10\.244\./)
    api.patch('pods', 'default', 'one', {
      type: 'merge',
      body: { metadata: { labels: { app: null } } },
    })
    await untilObject(
      api,
      SLICES,
      (one) => sliceOf('web', 'IPv4')(one) && records(one.endpoints).length === 0,
    )
    api.delete('services', 'default', 'web')
    await cluster.controllers.idle()
    t.match(
      api.list(SLICES, { namespace: 'default', labelSelector: 'kubernetes.io/service-name=web' }),
      { ok: true, value: [] },
    )
    t.match(api.list('endpoints', { namespace: 'default', fieldSelector: 'metadata.name=web' }), {
      ok: true,
      value: [],
    })
  },
)

void t.test('default/kubernetes leads to the API server', async (t) => {
  await using cluster = await startCluster({ nodes: 0 })
  const slice = cluster.api.get(SLICES, 'default', 'kubernetes')
  const port = Number(new URL(cluster.url).port)
  t.match(slice, {
    ok: true,
    value: { ports: [{ port }], endpoints: [{ addresses: ['127.0.0.1'] }] },
  })
})
