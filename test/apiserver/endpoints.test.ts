// SPDX-License-Identifier: Apache-2.0
// Services and what stands behind them: addresses by family, endpoint slices that follow pods.

import { at, records, text, texts } from '../../lab/kubernetes/objects/json.ts'
import type { StoredObject } from '../../lab/kubernetes/objects/stored-object.ts'
import type { ApiUnderTest } from './api-under-test.ts'
import { contract } from './cluster.ts'
import { untilNames, untilObject } from './waiting.ts'

const SLICES = 'endpointslices.discovery.k8s.io'

async function service(api: ApiUnderTest, name: string, spec: object): Promise<StoredObject> {
  const made = await api.create('services', 'default', {
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

async function pod(api: ApiUnderTest, name: string, annotations = {}): Promise<void> {
  const made = await api.create('pods', 'default', {
    metadata: { name, labels: { app: 'web' }, annotations },
    spec: {
      containers: [{ name: 'main', image: 'host', ports: [{ name: 'http', containerPort: 8080 }] }],
    },
  })
  if (!made.ok) throw new Error(made.error.message)
}

const sliceOf = (name: string, family: string) => (slice: StoredObject) =>
  slice.metadata.labels?.['kubernetes.io/service-name'] === name && slice.addressType === family

contract(
  'cluster IPs come from the family the service asks for',
  { nodes: 0 },
  async (t, cluster) => {
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
      const made = await service(cluster.api, `s${index}`, spec)
      t.strictSame(made.spec?.ipFamilies, families, JSON.stringify(spec))
      t.match(made.spec?.clusterIP, address)
      if (spec !== cases[5][0]) t.equal(texts(made.spec?.clusterIPs).length, families.length)
    }
    const taken = await cluster.api.create('services', 'default', {
      metadata: { name: 'twice' },
      spec: { clusterIP: '10.96.0.10', ports: [{ port: 1 }] },
    })
    t.match(taken, { ok: false, error: { status: 422, message: /already allocated/ } })
    await cluster.api.delete('services', 'default', 's4')
    const again = await service(cluster.api, 'again', { clusterIP: '10.96.0.10' })
    t.equal(again.spec?.clusterIP, '10.96.0.10')
  },
)

contract(
  'a named port may be that of a native sidecar, and not of an init container that ends',
  { kubelet: true },
  async (t, cluster) => {
    const { api } = cluster
    const ports = (name: string, containerPort: number) => [{ name, containerPort }]
    const made = await api.create('pods', 'default', {
      metadata: { name: 'with-sidecar', labels: { app: 'web' } },
      spec: {
        containers: [{ name: 'main', image: 'host' }],
        initContainers: [
          { name: 'setup', image: 'host', ports: ports('http', 7070) },
          { name: 'proxy', image: 'host', restartPolicy: 'Always', ports: ports('http', 9090) },
        ],
      },
    })
    t.match(made, { ok: true })
    await service(api, 'side', {})
    const slice = await untilObject(
      api,
      SLICES,
      (one) => sliceOf('side', 'IPv4')(one) && records(one.endpoints).length === 1,
    )
    t.match(slice.ports, [{ name: 'http', port: 9090 }])
  },
)

contract(
  'slices name ready, serving and terminating pods of each family',
  { kubelet: true },
  async (t, cluster) => {
    const { api } = cluster
    await service(api, 'web', { ipFamilyPolicy: 'RequireDualStack' })
    await pod(api, 'one')
    await pod(api, 'held', { hold: 'yes' })
    const slice = await untilObject(
      api,
      SLICES,
      (one) => sliceOf('web', 'IPv4')(one) && records(one.endpoints).length === 1,
    )
    const one = await api.get('pods', 'default', 'one')
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

    await api.patch('pods', 'default', 'one', {
      type: 'merge',
      body: { metadata: { finalizers: ['test/hold'] } },
    })
    await api.delete('pods', 'default', 'one')
    await untilObject(
      api,
      SLICES,
      (one) =>
        sliceOf('web', 'IPv4')(one) &&
        at(records(one.endpoints)[0], 'conditions', 'terminating') === true,
    )
    await api.patch('pods', 'default', 'one', {
      type: 'merge',
      body: { metadata: { finalizers: null } },
    })
    await untilObject(
      api,
      SLICES,
      (one) => sliceOf('web', 'IPv4')(one) && records(one.endpoints).length === 0,
    )
    t.strictSame(cluster.errors, [])
  },
)

contract(
  'a pod that loses its label leaves; a service that goes takes its slices along',
  {},
  async (t, cluster) => {
    const { api } = cluster
    await service(api, 'web', {})
    await pod(api, 'one')
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
    await api.patch('pods', 'default', 'one', {
      type: 'merge',
      body: { metadata: { labels: { app: null } } },
    })
    await untilObject(
      api,
      SLICES,
      (one) => sliceOf('web', 'IPv4')(one) && records(one.endpoints).length === 0,
    )
    await api.delete('services', 'default', 'web')
    await untilNames(
      api,
      SLICES,
      { namespace: 'default', labelSelector: 'kubernetes.io/service-name=web' },
      [],
    )
    await untilNames(
      api,
      'endpoints',
      { namespace: 'default', fieldSelector: 'metadata.name=web' },
      [],
    )
  },
)

contract('default/kubernetes leads to the API server', { nodes: 0 }, async (t, cluster) => {
  const slice = await cluster.api.get(SLICES, 'default', 'kubernetes')
  const port = Number(new URL(cluster.url).port)
  // A true server publishes itself, under the address that it advertises: never a loopback one.
  const address = cluster.kind === 'own' ? '127.0.0.1' : '192.0.2.1'
  t.match(slice, {
    ok: true,
    value: { ports: [{ port }], endpoints: [{ addresses: [address] }] },
  })
})
