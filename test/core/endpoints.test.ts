// SPDX-License-Identifier: Apache-2.0
// Whoever writes an EndpointSlice says where a Service's traffic goes, not who is there: an address that a pod has is that
// pod, with its tunnel and its identity.

import t from 'tap'
import { ADDRESS } from '../../mesh/xds/types/address.ts'
import { ip, podUid, serviceKey } from '../model/samples.ts'
import {
  kubePod,
  kubeService,
  kubeSlice,
  type PodChoices,
  running,
  startTranslator,
} from './objects.ts'

type Endpoint = Parameters<typeof kubeSlice>[2][number]

const KEY = serviceKey('shop', 'manual')
const POD_IP = '10.244.0.1'
/** A Service without a selector, its slice, and a pod of the mesh at 10.244.0.1. */
function start(endpoints: readonly Endpoint[], podChoices: PodChoices = {}) {
  const run = startTranslator()
  run.translator.complete()
  const service = kubeService('manual')
  delete service.spec?.selector
  run.translator.upsert('Service', service)
  run.translator.upsert('EndpointSlice', kubeSlice('manual-1', 'manual', [...endpoints]))
  run.translator.upsert(
    'Pod',
    kubePod('db-0', { annotations: { 'ambient.istio.io/redirection': 'enabled' }, ...podChoices }),
  )
  const behind = () => run.state.endpoints(KEY).map(({ name }) => name)
  return { ...run, behind }
}

void t.test(
  'an endpoint whose address is a pod’s is that pod, whatever the slice calls it',
  (t) => {
    const endpoints: readonly (readonly [string, Endpoint])[] = [
      ['names nobody', { addresses: [POD_IP] }],
      [
        'names another pod',
        { addresses: [POD_IP], targetRef: { kind: 'Pod', name: 'other', uid: 'uid-other' } },
      ],
      [
        'names a pod that is not there',
        { addresses: [POD_IP], targetRef: { kind: 'Pod', name: 'x' } },
      ],
      [
        'names a predecessor',
        { addresses: [POD_IP], targetRef: { kind: 'Pod', name: 'db-0', uid: 'gone' } },
      ],
      ['names a machine', { addresses: [POD_IP], targetRef: { kind: 'Node', name: 'db-0' } }],
      ['says it is on another node', { addresses: [POD_IP], nodeName: 'node-z' }],
    ]
    for (const [what, endpoint] of endpoints) {
      const { state, translator, behind } = start([endpoint])
      translator.upsert('Pod', kubePod('other', { labels: {}, status: running('10.244.0.9') }))
      t.strictSame(behind(), ['db-0'], what)
      t.match(state.endpoints(KEY)[0], {
        uid: podUid('shop', 'db-0'),
        tunnelProtocol: 'hbone',
        serviceAccount: 'catalog',
        node: 'node-a',
      })
      t.strictSame(state.endpoints(KEY)[0]?.services.get(KEY), [
        { servicePort: 80, targetPort: 9090, appProtocol: 'http1', family: 'any' },
      ])
      t.equal(state.size.workloads, 2, 'and no second workload has the address')
    }
    t.end()
  },
)

void t.test('the pod may come before or after the slice, and go before it', (t) => {
  const { translator, state, behind } = start([{ addresses: [POD_IP] }])
  t.strictSame(behind(), ['db-0'])
  translator.delete('Pod', 'shop', 'db-0')
  t.strictSame(behind(), ['manual-1-10.244.0.1'], 'what is no pod’s is where the slice says')
  translator.upsert('Pod', kubePod('db-0'))
  t.strictSame(behind(), ['db-0'])
  translator.upsert('Pod', kubePod('db-0', { status: { ...running(POD_IP), phase: 'Succeeded' } }))
  t.strictSame(behind(), ['manual-1-10.244.0.1'], 'a pod that has ended has left its address')
  translator.delete('EndpointSlice', 'shop', 'manual-1')
  t.strictSame([behind(), state.size.workloads], [[], 0])
  t.end()
})

void t.test('a slice of another namespace leads to a pod and says nothing about it', (t) => {
  const { translator, state, pod } = startTranslator()
  translator.complete()
  translator.upsert('Pod', kubePod('db-0'))
  const before = pod('db-0')
  const service = kubeService('trap', {}, { namespace: 'red' })
  delete service.spec?.selector
  translator.upsert('Service', service)
  const endpoint = {
    addresses: [POD_IP],
    nodeName: 'red-node',
    zone: 'red-zone',
    conditions: { ready: true },
  }
  const slice = kubeSlice('trap-1', 'trap', [endpoint])
  translator.upsert('EndpointSlice', {
    ...slice,
    metadata: { ...slice.metadata, namespace: 'red' },
  })
  const after = pod('db-0')
  t.strictSame(
    state.endpoints(serviceKey('red', 'trap')).map(({ uid }) => uid),
    [podUid('shop', 'db-0')],
  )
  t.strictSame({ ...after, services: before?.services }, before, 'only the Service is added')
  t.equal(state.findWorkload(ip(POD_IP))?.namespace, 'shop')
  // Naming blue's pod in red's slice is a name in red: it is nobody.
  const named = {
    addresses: ['192.0.2.9'],
    targetRef: { kind: 'Pod', namespace: 'shop', name: 'db-0' },
  }
  translator.upsert('EndpointSlice', {
    ...kubeSlice('trap-1', 'trap', [named]),
    metadata: { ...slice.metadata, namespace: 'red' },
  })
  t.strictSame(state.endpoints(serviceKey('red', 'trap')), [])
  t.end()
})

void t.test('a node’s address names none of the pods that use it', (t) => {
  const { behind, pod } = start([{ addresses: [POD_IP] }], { spec: { hostNetwork: true } })
  t.strictSame(behind(), ['manual-1-10.244.0.1'])
  t.strictSame(pod('db-0')?.services, new Map())
  t.end()
})

void t.test(
  'of two pods with one address the slice’s word decides; without one, both count',
  (t) => {
    const target = { kind: 'Pod', name: 'db-1', uid: 'uid-db-1' }
    const { translator, behind } = start([{ addresses: [POD_IP], targetRef: target }])
    t.strictSame(behind(), ['db-0'])
    translator.upsert('Pod', kubePod('db-1', { status: running(POD_IP) }))
    t.strictSame(behind(), ['db-1'])
    translator.upsert('EndpointSlice', kubeSlice('manual-1', 'manual', [{ addresses: [POD_IP] }]))
    t.strictSame(behind().sort(), ['db-0', 'db-1'])
    t.end()
  },
)

void t.test('the first address of an endpoint counts, as Kubernetes has it', (t) => {
  const { behind } = start([
    { addresses: [POD_IP, '192.0.2.1'] },
    { addresses: ['192.0.2.2', POD_IP] },
  ])
  t.strictSame(behind().sort(), ['db-0', 'manual-1-192.0.2.2'])
  t.end()
})

void t.test('an endpoint that says it is a pod is nothing until that pod is there', (t) => {
  const targetRef = { kind: 'Pod', name: 'db-9', namespace: 'other', uid: 'uid-db-9' }
  const { behind, translator, state } = start([{ addresses: ['10.244.0.9'], targetRef }])
  t.strictSame(behind(), [], 'least of all somewhere to send plaintext')
  translator.upsert(
    'Pod',
    kubePod('db-9', { namespace: 'other', status: running('10.244.0.9'), labels: {} }),
  )
  t.strictSame(behind(), ['db-9'], 'in whatever namespace it is')
  t.equal(state.endpoints(KEY)[0]?.namespace, 'other')
  t.end()
})

void t.test('a pod of the node’s network is an endpoint by its uid, never by its address', (t) => {
  const node = '172.30.0.5'
  const host = { spec: { hostNetwork: true }, status: running(node) }
  const targetRef = { kind: 'Pod', name: 'b', uid: 'uid-b' }
  const { translator, behind } = start([{ addresses: [node], targetRef }], {
    status: running('10.244.0.1'),
  })
  for (const name of ['a', 'b', 'c']) translator.upsert('Pod', kubePod(name, host))
  t.strictSame(behind(), ['b'])
  // Without a uid it is the node's address, and nothing more.
  translator.upsert(
    'EndpointSlice',
    kubeSlice('manual-1', 'manual', [{ addresses: [node], targetRef: { kind: 'Pod', name: 'b' } }]),
  )
  t.strictSame(behind(), [`manual-1-${node}`])
  t.end()
})

void t.test('slices of another family or of host names are told of or pass', (t) => {
  const { translator, behind, problems } = start([{ addresses: [POD_IP] }])
  const put = (addressType: string, ...addresses: string[]): void =>
    translator.upsert('EndpointSlice', {
      ...kubeSlice(
        'manual-1',
        'manual',
        addresses.map((each) => ({ addresses: [each] })),
      ),
      addressType,
    })
  put('IPv6', '2001:db8::1')
  t.strictSame(behind(), [], 'the Service has no IPv6')
  t.strictSame(problems, [])
  put('FQDN', 'db.example.com')
  put('IPv4', '192.0.2.1', '2001:db8::1')
  t.strictSame(behind(), ['manual-1-192.0.2.1'])
  t.strictSame(
    problems.map(({ kind, name, field, reason }) => `${kind} ${name} ${field} ${reason}`),
    [
      'EndpointSlice manual-1 addressType "FQDN" is neither IPv4 nor IPv6: its endpoints are left out, as kube-proxy leaves them out',
      "EndpointSlice manual-1 endpoints[1].addresses[0] 2001:db8::1 is not of the slice's addressType",
    ],
  )
  t.end()
})

void t.test('a dual-stack pod belongs in each family as that family’s slices say', (t) => {
  const { translator, pod } = startTranslator()
  translator.complete()
  translator.upsert('Pod', kubePod('db-0', { status: running(POD_IP, 'fd98::1') }))
  const put = (family: 'IPv4' | 'IPv6', port: number, conditions = { ready: true }): void =>
    translator.upsert('EndpointSlice', {
      ...kubeSlice(
        `manual-${family}`,
        'manual',
        [{ addresses: [family === 'IPv4' ? POD_IP : 'fd98::1'], conditions }],
        [{ name: 'http', port }],
      ),
      addressType: family,
    })
  const ports = (): string[] | undefined =>
    pod('db-0')
      ?.services.get(KEY)
      ?.map(({ targetPort, family }) => `${targetPort} ${family}`)
  put('IPv4', 8080)
  translator.upsert('Service', kubeService('manual'))
  t.strictSame(ports(), ['8080 any'], 'the Service has no other family')
  translator.upsert('Service', kubeService('manual', { ipFamilies: ['IPv4', 'IPv6'] }))
  t.strictSame(ports(), ['8080 ipv4'])
  put('IPv6', 8080)
  t.strictSame(ports(), ['8080 any'])
  put('IPv6', 9090)
  t.strictSame(ports(), ['8080 ipv4', '9090 ipv6'])
  put('IPv4', 8080, { ready: false })
  t.strictSame(ports(), ['9090 ipv6'])
  t.end()
})

void t.test('Services of other namespaces cannot make a pod one that agents refuse', (t) => {
  const { translator, pod, service } = startTranslator()
  translator.complete()
  const huge = Array.from({ length: 10_001 }, (_, index) => ({
    name: `p${index}`,
    port: index + 1,
    protocol: 'TCP',
  }))
  let count = 0
  const put = (namespace: string, name: string, ports: typeof huge): void => {
    count += 1
    const clusterIPs = [`10.97.${count >> 8}.${count & 255}`]
    const service = kubeService(name, { ports, clusterIPs }, { namespace })
    delete service.spec?.selector
    translator.upsert('Service', service)
    for (const slice of ['1', '2']) {
      const object = kubeSlice(`${name}-${slice}`, name, [{ addresses: [POD_IP] }], ports)
      translator.upsert('EndpointSlice', {
        ...object,
        metadata: { ...object.metadata, namespace },
      })
    }
  }
  for (let each = 0; each < 1200; each += 1) put('evil', `e${each}`, huge.slice(0, 1))
  for (let each = 0; each < 5; each += 1) put('evil', `huge${each}`, huge)
  translator.upsert('Pod', kubePod('db-0'))
  put('shop', 'catalog', huge.slice(0, 1))
  put('shop', 'manual', huge.slice(0, 2))
  const victim = pod('db-0')
  if (victim === undefined) throw new Error('the pod is gone')
  const encoded = ADDRESS.encode({ kind: 'workload', workload: victim })
  const decoded = ADDRESS.decode(victim.uid, encoded)
  t.match(decoded, { ok: true }, 'agents read it')
  t.ok(encoded.length < 256 * 1024, `${encoded.length} bytes`)
  t.ok(victim.services.has(serviceKey('shop', 'catalog')), 'it keeps the Services of its own')
  t.equal(victim.services.get(KEY)?.length, 2)
  translator.upsert('Service', kubeService('many', { ports: huge }))
  t.equal(service('many')?.ports.length, 10_000, 'nor is a Service refused for its ports')
  t.end()
})

void t.test(
  'a slice that lists an address a thousand times says it once, as fit as it says best',
  (t) => {
    const { translator, pod } = startTranslator()
    translator.complete()
    translator.upsert('Pod', kubePod('db-0'))
    translator.upsert('Service', kubeService('manual'))
    const repeat = (...ready: readonly boolean[]): void =>
      translator.upsert(
        'EndpointSlice',
        kubeSlice(
          'manual-1',
          'manual',
          Array.from({ length: 1_000 }, (_, at) => ({
            addresses: [POD_IP],
            conditions: {
              ready: ready[at % ready.length] === true,
              serving: true,
              terminating: true,
            },
          })),
        ),
      )
    repeat(false, true)
    t.equal(pod('db-0')?.services.get(KEY)?.length, 1)
    t.equal(pod('db-0')?.leaving.size, 0)
    repeat(false)
    t.equal(pod('db-0')?.services.size, 0)
    t.equal(pod('db-0')?.leaving.get(KEY)?.length, 1)
    t.end()
  },
)

void t.test('of a stranger’s slices few count for a pod, of its own namespace’s all', (t) => {
  const { translator, pod } = startTranslator()
  translator.complete()
  translator.upsert('Pod', kubePod('db-0'))
  const put = (namespace: string, name: string): void => {
    translator.upsert('Service', kubeService(name, {}, { namespace }))
    const slice = kubeSlice(name, name, [{ addresses: [POD_IP] }])
    translator.upsert('EndpointSlice', { ...slice, metadata: { ...slice.metadata, namespace } })
  }
  for (let at = 0; at < 40; at += 1) {
    put('evil', `s${at}`)
    put('shop', `s${at}`)
  }
  put('mirror', 'db')
  const keys = [...(pod('db-0')?.services.keys() ?? [])]
  const of = (namespace: string): number =>
    keys.filter((key) => key.startsWith(`${namespace}/`)).length
  t.strictSame([of('evil'), of('shop'), of('mirror')], [16, 40, 1])
  t.end()
})

void t.test(
  'a Service may list a thousand addresses that are no pods; the rest is told of',
  (t) => {
    const { translator, state, crowds } = startTranslator()
    translator.complete()
    translator.upsert('Service', kubeService('catalog'))
    for (let slice = 0; slice < 3; slice += 1)
      translator.upsert(
        'EndpointSlice',
        kubeSlice(
          `catalog-${slice}`,
          'catalog',
          Array.from({ length: 400 }, (_, at) => ({
            addresses: [`203.${slice}.${at >> 8}.${at & 255}`],
          })),
        ),
      )
    t.equal(state.size.workloads, 1_000)
    t.match(crowds(), [/^Service shop\/catalog endpoints: more than 1000 are no pods/])
    translator.delete('EndpointSlice', 'shop', 'catalog-0')
    t.equal(state.size.workloads, 800)
    t.strictSame(crowds(), [])
    t.end()
  },
)

void t.test('no slice leads to an address that is the dialling host’s own', (t) => {
  const { translator, state, problems } = startTranslator()
  translator.complete()
  translator.upsert('Service', kubeService('catalog'))
  const special = ['127.0.0.1', '0.0.0.0', '169.254.169.254', '255.255.255.255']
  const endpoints = [...special, '203.0.113.1'].map((address) => ({ addresses: [address] }))
  translator.upsert('EndpointSlice', kubeSlice('catalog-1', 'catalog', endpoints))
  t.strictSame(
    [...state.workloads()].map(({ addresses }) => addresses),
    [['203.0.113.1']],
  )
  t.equal(problems.length, special.length)
  t.end()
})
