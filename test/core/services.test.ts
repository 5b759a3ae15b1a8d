// SPDX-License-Identifier: Apache-2.0
// What a Service becomes in the mesh, and which workloads are its endpoints.

import t from 'tap'
import { serviceKey } from '../model/samples.ts'
import { endpointOf, kubePod, kubeService, kubeSlice, running, startTranslator } from './objects.ts'

type Spec = NonNullable<Parameters<typeof kubeService>[1]>

function translate(spec: Spec, annotations: Record<string, string> = {}) {
  const run = startTranslator()
  run.translator.complete()
  run.translator.upsert('Service', kubeService('catalog', spec, { annotations }))
  return { ...run, result: run.service('catalog') }
}

void t.test('a Service keeps its host name, addresses and TCP ports', async (t) => {
  const { result, problems } = translate({
    clusterIPs: ['10.96.0.50', 'fd98:96::50'],
    ipFamilies: ['IPv4', 'IPv6'],
    ports: [
      { name: 'http', port: 80, targetPort: 8080 },
      { name: 'grpc-api', port: 90, targetPort: 'api' },
      { name: 'web', port: 91, appProtocol: 'kubernetes.io/h2c' },
      { name: 'https', port: 443 },
      { name: 'dns', port: 53, protocol: 'UDP' },
    ],
  })
  t.match(result, {
    key: 'shop/catalog.shop.svc.cluster.local',
    hostname: 'catalog.shop.svc.cluster.local',
    canonical: true,
    ipFamilies: 'dual',
  })
  t.strictSame(
    result?.addresses.map(({ address }) => address),
    ['10.96.0.50', 'fd98:96::50'],
  )
  t.strictSame(result?.ports, [
    { servicePort: 80, targetPort: 8080, appProtocol: 'http1' },
    { servicePort: 90, targetPort: 0, appProtocol: 'grpc' },
    { servicePort: 91, targetPort: 91, appProtocol: 'http2' },
    { servicePort: 443, targetPort: 443, appProtocol: 'tls' },
  ])
  t.strictSame(problems, [])
})

void t.test(
  'headless Services have no address, ExternalName ones are not in the mesh',
  async (t) => {
    const headless = translate({ clusterIP: 'None', clusterIPs: ['None'] })
    t.strictSame(headless.result?.addresses, [])
    t.strictSame(headless.problems, [])
    const external = translate({ type: 'ExternalName', externalName: 'db.example.com' })
    t.equal(external.result, undefined)
  },
)

void t.test('traffic settings become load balancing', async (t) => {
  const annotation = 'networking.istio.io/traffic-distribution'
  const near = ['network', 'region', 'zone']
  const cases: readonly (readonly [Spec, Record<string, string>, object])[] = [
    [{}, {}, { mode: 'standard', routingPreference: [], healthPolicy: 'onlyHealthy' }],
    [{ internalTrafficPolicy: 'Local' }, {}, { mode: 'strict', routingPreference: ['node'] }],
    [{ trafficDistribution: 'PreferClose' }, {}, { mode: 'failover', routingPreference: near }],
    [{ trafficDistribution: 'PreferSameZone' }, {}, { mode: 'failover', routingPreference: near }],
    [
      { trafficDistribution: 'PreferSameNode' },
      {},
      { mode: 'failover', routingPreference: [...near, 'subzone', 'node'] },
    ],
    [{}, { [annotation]: 'PreferClose' }, { mode: 'failover', routingPreference: near }],
    [
      { internalTrafficPolicy: 'Local', trafficDistribution: 'PreferClose' },
      {},
      { mode: 'strict', routingPreference: ['node'] },
    ],
    [{}, {}, { sessionAffinity: 'none' }],
    [{ sessionAffinity: 'None' }, {}, { sessionAffinity: 'none' }],
    [{ sessionAffinity: 'ClientIP' }, {}, { mode: 'standard', sessionAffinity: 'clientIp' }],
    [
      { sessionAffinity: 'ClientIP', internalTrafficPolicy: 'Local' },
      {},
      { mode: 'strict', sessionAffinity: 'clientIp' },
    ],
    [{ publishNotReadyAddresses: true }, {}, { mode: 'standard', healthPolicy: 'allowAll' }],
  ]
  for (const [spec, annotations, expected] of cases)
    t.match(translate(spec, annotations).result?.loadBalancing, expected)
  const unknown = translate({ trafficDistribution: 'PreferMoon' })
  t.equal(unknown.result?.loadBalancing.mode, 'standard')
  t.match(unknown.problems, [{ field: 'spec.trafficDistribution', reason: /"PreferMoon" is none/ }])
})

void t.test('a namespace’s wish holds for its Services until one has its own', async (t) => {
  const { translator, service } = translate({})
  const namespace = (value?: string) =>
    translator.upsert('Namespace', {
      metadata: {
        name: 'shop',
        annotations:
          value === undefined ? {} : { 'networking.istio.io/traffic-distribution': value },
      },
    })
  namespace('PreferClose')
  t.equal(service('catalog')?.loadBalancing.mode, 'failover')
  namespace()
  t.equal(service('catalog')?.loadBalancing.mode, 'standard')
  namespace('PreferClose')
  translator.delete('Namespace', '', 'shop')
  t.equal(service('catalog')?.loadBalancing.mode, 'standard')
  namespace('PreferClose')
  translator.upsert('Service', kubeService('catalog', { trafficDistribution: 'PreferSameNode' }))
  t.equal(service('catalog')?.loadBalancing.routingPreference.length, 5)
})

void t.test('slices alone say which pods belong to a Service, and at which ports', async (t) => {
  const { translator, pod, state } = startTranslator()
  translator.complete()
  const key = serviceKey('shop', 'catalog')
  const targetOf = (name: string) =>
    pod(name)
      ?.services.get(key)
      ?.map((port) => port.targetPort)
  const members = () =>
    state
      .endpoints(key)
      .map(({ name }) => name)
      .sort()
  const early = kubePod('early')
  const late = kubePod('late', { status: running('10.244.0.2') })
  const stranger = kubePod('stranger', {
    labels: { app: 'basket' },
    status: running('10.244.0.3'),
  })
  const put = (slice: string, pods: readonly (typeof early)[], port: number) =>
    translator.upsert(
      'EndpointSlice',
      kubeSlice(
        slice,
        'catalog',
        pods.map((each) => endpointOf(each)),
        [{ name: 'http', port }],
      ),
    )
  translator.upsert('Pod', early)
  translator.upsert(
    'Service',
    kubeService('catalog', { ports: [{ name: 'http', port: 80, targetPort: 'http' }] }),
  )
  t.strictSame(members(), [], 'a selector says it to whoever writes slices, and to nobody else')
  // A named port that differs from pod to pod: one slice for each number.
  put('catalog-1', [early], 8080)
  put('catalog-2', [late, stranger], 7070)
  t.strictSame(members(), ['early'])
  translator.upsert('Pod', late)
  translator.upsert('Pod', stranger)
  t.strictSame(members(), ['early', 'late', 'stranger'], 'also whom the selector does not select')
  t.strictSame(
    [targetOf('early'), targetOf('late'), targetOf('stranger')],
    [[8080], [7070], [7070]],
  )

  // An endpoint that moves belongs somewhere all the time; where both slices have it, it is one.
  put('catalog-1', [early, late], 8080)
  t.strictSame(targetOf('late'), [8080, 7070])
  put('catalog-2', [stranger], 7070)
  t.strictSame(targetOf('late'), [8080])
  translator.delete('EndpointSlice', 'shop', 'catalog-2')
  t.strictSame(members(), ['early', 'late'])
  put('catalog-2', [stranger], 7070)
  t.strictSame(members(), ['early', 'late', 'stranger'])
  put('catalog-2', [late, stranger], 8080)
  t.strictSame(targetOf('late'), [8080], 'twice the same is once')

  translator.upsert('Service', kubeService('catalog', { ports: [{ name: 'web', port: 80 }] }))
  t.strictSame([members().length, targetOf('early')], [3, []], 'no port of theirs is of that name')
  translator.delete('Service', 'shop', 'catalog')
  t.strictSame(members(), [])
})

void t.test('each endpoint is as fit as its slice says, whatever its pod says', async (t) => {
  const { translator, pod, state } = startTranslator()
  translator.complete()
  const key = serviceKey('shop', 'catalog')
  const unready: NonNullable<Parameters<typeof kubePod>[1]> = {
    status: { ...running('10.244.0.1'), conditions: [{ type: 'Ready', status: 'False' }] },
  }
  translator.upsert('Service', kubeService('catalog'))
  const put = (object: ReturnType<typeof kubePod>, ...conditions: object[]): string => {
    translator.upsert('Pod', object)
    for (const slice of ['1', '2', '3'])
      translator.delete('EndpointSlice', 'shop', `catalog-${slice}`)
    for (const [index, each] of conditions.entries())
      translator.upsert(
        'EndpointSlice',
        kubeSlice(`catalog-${index + 1}`, 'catalog', [endpointOf(object, each)]),
      )
    const found = pod('pod')
    const fit = found?.services.has(key) ? 'ready' : found?.leaving.has(key) ? 'leaving' : 'unfit'
    t.equal(state.endpoints(key).length, fit === 'unfit' ? 0 : 1)
    return `${fit} ${found?.status}`
  }
  const leaving = { ready: false, serving: true, terminating: true }
  t.equal(put(kubePod('pod'), { ready: false }), 'unfit healthy')
  t.equal(put(kubePod('pod', unready), { ready: true }), 'ready healthy')
  t.equal(put(kubePod('pod', unready)), 'unfit unhealthy')
  t.equal(put(kubePod('pod', unready), {}), 'ready healthy', 'what is not said is ready')
  t.equal(put(kubePod('pod', unready), { ready: false, serving: true }), 'unfit unhealthy')
  t.equal(put(kubePod('pod', unready), leaving), 'leaving unhealthy')
  t.equal(put(kubePod('pod'), { ready: false, terminating: true }), 'leaving healthy')
  t.equal(put(kubePod('pod'), { ...leaving, serving: false }), 'unfit healthy')
  const going = { deletionTimestamp: '2026-01-01T00:00:00Z' }
  t.equal(put(kubePod('pod', going), { ...leaving, ready: true }), 'ready healthy')
  // Where slices overlap, the best word counts.
  t.equal(put(kubePod('pod'), { ready: false }, { ready: true }, leaving), 'ready healthy')
  t.equal(put(kubePod('pod'), leaving, { ready: false }), 'leaving healthy')
})

void t.test(
  'endpoints that are no pods are workloads of their own, found by their Service only',
  async (t) => {
    const { translator, state, workloadNames } = startTranslator()
    translator.complete()
    const spec: Spec = { ports: [{ name: 'https', port: 443, targetPort: 6443 }] }
    const slice = (addresses: string[], ready = true) =>
      kubeSlice(
        'kubernetes-1',
        'kubernetes',
        addresses.map((address) => ({ addresses: [address], conditions: { ready } })),
        [{ name: 'https', port: 6443 }],
      )
    translator.upsert('EndpointSlice', slice(['172.30.0.2', '172.30.0.3']))
    t.strictSame(workloadNames(), [], 'an endpoint of no Service is nothing')
    const service = kubeService('kubernetes', spec)
    delete service.spec?.selector
    translator.upsert('Service', service)
    t.strictSame(workloadNames(), ['kubernetes-1-172.30.0.2', 'kubernetes-1-172.30.0.3'])
    t.match(state.endpoints(serviceKey('shop', 'kubernetes'))[0], {
      uid: 'Kubernetes/discovery.k8s.io/EndpointSlice/shop/kubernetes-1/172.30.0.2',
      foundBy: 'service',
      tunnelProtocol: 'none',
      status: 'healthy',
      addresses: ['172.30.0.2'],
    })
    t.strictSame(
      state
        .endpoints(serviceKey('shop', 'kubernetes'))[0]
        ?.services.get(serviceKey('shop', 'kubernetes')),
      [{ servicePort: 443, targetPort: 6443, appProtocol: 'tls', family: 'any' }],
    )
    translator.upsert('EndpointSlice', slice(['172.30.0.2'], false))
    t.strictSame(workloadNames(), [], 'who is not fit for anything is nobody')
    translator.upsert('EndpointSlice', slice(['172.30.0.2']))
    const other = slice(['172.30.0.2', '172.30.0.4'])
    translator.upsert('EndpointSlice', {
      ...other,
      metadata: { ...other.metadata, name: 'kubernetes-2' },
    })
    t.strictSame(
      workloadNames(),
      ['kubernetes-1-172.30.0.2', 'kubernetes-2-172.30.0.4'],
      'an address in two slices is one endpoint',
    )
    translator.delete('EndpointSlice', 'shop', 'kubernetes-2')
    translator.delete('EndpointSlice', 'shop', 'kubernetes-1')
    t.strictSame(workloadNames(), [])
  },
)

void t.test(
  'a Service without a selector has the pods its slices give, by address and uid',
  async (t) => {
    const { translator, state, pod } = startTranslator()
    translator.complete()
    const service = kubeService('manual')
    delete service.spec?.selector
    const key = serviceKey('shop', 'manual')
    const slice = (uid?: string) =>
      kubeSlice('manual-1', 'manual', [
        {
          addresses: ['10.244.0.1'],
          targetRef: { kind: 'Pod', name: 'db-0', ...(uid === undefined ? {} : { uid }) },
        },
      ])
    translator.upsert('Service', service)
    translator.upsert('EndpointSlice', slice('uid-1'))
    translator.upsert('Pod', kubePod('db-0', { uid: 'uid-1' }))
    t.strictSame(pod('db-0')?.services.get(key), [
      { servicePort: 80, targetPort: 9090, appProtocol: 'http1', family: 'any' },
    ])
    t.equal(state.size.workloads, 1, 'the endpoint is the pod, not a second workload')
    // A successor of the same name is another pod until a slice gives its uid or its address.
    const moved = { phase: 'Running', podIPs: [{ ip: '10.244.0.2' }] }
    translator.upsert('Pod', kubePod('db-0', { uid: 'uid-2', status: moved }))
    t.equal(pod('db-0')?.services.size, 0)
    t.equal(state.size.workloads, 1, 'and what it left behind is no endpoint')
    translator.upsert('EndpointSlice', slice('uid-2'))
    t.equal(pod('db-0')?.services.size, 0, 'nor is it who is somewhere else')
    translator.upsert('Pod', kubePod('db-0', { uid: 'uid-2' }))
    t.equal(pod('db-0')?.services.size, 1)
    translator.upsert('EndpointSlice', slice())
    t.equal(pod('db-0')?.services.size, 1)
    translator.upsert('Service', kubeService('manual', { selector: { app: 'nobody' } }))
    t.equal(pod('db-0')?.services.size, 1, 'nor does a selector change anything')
  },
)

void t.test(
  'a node that moves takes its workloads along, and one that only breathes says nothing',
  async (t) => {
    const { translator, pod, batches } = startTranslator()
    const node = (zone: string, heartbeat: string) => ({
      metadata: { name: 'node-a', labels: { 'topology.kubernetes.io/zone': zone }, heartbeat },
    })
    translator.upsert('Pod', kubePod('pod'))
    translator.upsert('Node', node('z1', '1'))
    translator.complete()
    t.equal(pod('pod')?.locality.zone, 'z1')
    translator.upsert('Node', node('z1', '2'))
    translator.upsert('Pod', kubePod('pod'))
    t.equal(batches.length, 1, 'nothing changed, nothing said')
    translator.upsert('Node', node('z2', '3'))
    t.equal(pod('pod')?.locality.zone, 'z2')
    translator.delete('Node', '', 'node-a')
    t.equal(pod('pod')?.locality.zone, '')
  },
)

void t.test(
  'what is wrong with a Service or slice is said by field, and the rest of it used',
  async (t) => {
    const { translator, service, problems, workloadNames } = startTranslator()
    translator.complete()
    translator.upsert(
      'Service',
      kubeService('catalog', {
        clusterIPs: ['10.96.0.50', 'x'],
        ports: [{ port: 0 }, { port: 80, targetPort: 99_999 }, { port: 81 }],
      }),
    )
    translator.upsert(
      'EndpointSlice',
      kubeSlice(
        's',
        'catalog',
        [{ addresses: ['bad'] }, { addresses: ['192.0.2.1'] }],
        [{ port: -1 }],
      ),
    )
    t.strictSame(
      problems.map(({ kind, name, field }) => `${kind} ${name} ${field}`),
      [
        'Service catalog spec.clusterIPs[1]',
        'Service catalog spec.ports[0].port',
        'Service catalog spec.ports[1].targetPort',
        'EndpointSlice s ports[0].port',
        'EndpointSlice s endpoints[0].addresses[0]',
      ],
    )
    t.strictSame(
      service('catalog')?.ports.map(({ servicePort }) => servicePort),
      [81],
    )
    t.strictSame(workloadNames(), ['s-192.0.2.1'])
  },
)
