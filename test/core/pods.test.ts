// SPDX-License-Identifier: Apache-2.0
// What a Pod becomes in the mesh.

import t from 'tap'
import { ip, serviceKey } from '../model/samples.ts'
import {
  endpointOf,
  kubePod,
  kubeService,
  kubeSlice,
  type PodChoices,
  startTranslator,
} from './objects.ts'

/** The workload of one pod, alone in its cluster. */
function translate(choices: PodChoices) {
  const run = startTranslator()
  run.translator.complete()
  run.translator.upsert('Pod', kubePod('pod', choices))
  return { workload: run.pod('pod'), problems: run.problems }
}

const ready = (extra: object) => ({
  status: {
    phase: 'Running',
    podIPs: [{ ip: '10.244.0.1' }],
    conditions: [{ type: 'Ready', status: 'True' }],
    ...extra,
  },
})

void t.test('a ready pod is a healthy workload with all that identifies it', async (t) => {
  const { translator, pod, problems } = startTranslator()
  translator.upsert('Node', {
    metadata: {
      name: 'node-a',
      labels: {
        'topology.kubernetes.io/region': 'r1',
        'topology.kubernetes.io/zone': 'z1',
        'topology.istio.io/subzone': 's1',
      },
    },
  })
  translator.upsert('Service', kubeService('catalog'))
  const object = kubePod('catalog-6b7f9c-x2x4z', {
    labels: { app: 'catalog', version: 'v2', 'pod-template-hash': '6b7f9c' },
    owner: { kind: 'ReplicaSet', name: 'catalog-6b7f9c' },
    annotations: { 'ambient.istio.io/redirection': 'enabled' },
    ...ready({ podIPs: [{ ip: '10.244.0.7' }, { ip: 'FD98:0::7' }] }),
  })
  translator.upsert('Pod', object)
  translator.upsert('EndpointSlice', kubeSlice('catalog-1', 'catalog', [endpointOf(object)]))
  translator.complete()
  t.strictSame(pod('catalog-6b7f9c-x2x4z'), {
    uid: 'Kubernetes//Pod/shop/catalog-6b7f9c-x2x4z',
    name: 'catalog-6b7f9c-x2x4z',
    namespace: 'shop',
    addresses: [ip('10.244.0.7'), ip('fd98::7')],
    hostname: '',
    network: '',
    tunnelProtocol: 'hbone',
    trustDomain: 'cluster.local',
    serviceAccount: 'catalog',
    node: 'node-a',
    canonicalName: 'catalog',
    canonicalRevision: 'v2',
    workloadType: 'deployment',
    workloadName: 'catalog',
    nativeTunnel: false,
    services: new Map([
      [
        serviceKey('shop', 'catalog'),
        [{ servicePort: 80, targetPort: 9090, appProtocol: 'http1', family: 'any' }],
      ],
    ]),
    authorizationPolicies: [],
    status: 'healthy',
    clusterId: 'Kubernetes',
    locality: { region: 'r1', zone: 'z1', subzone: 's1' },
    foundBy: 'address',
    waypoint: undefined,
    networkGateway: undefined,
    capacity: 1,
    leaving: new Map(),
    networkPolicies: [],
    peerGroups: [],
    namedPorts: [{ name: 'http', port: 8080 }],
  })
  t.strictSame(problems, [])
})

void t.test('pods that have ended or have no address are absent', async (t) => {
  t.equal(translate(ready({ phase: 'Succeeded' })).workload, undefined)
  t.equal(translate(ready({ phase: 'Failed' })).workload, undefined)
  t.equal(translate({ status: { phase: 'Pending' } }).workload, undefined)
  t.equal(translate(ready({ podIPs: [], podIP: '' })).workload, undefined)
  t.strictSame(translate(ready({ podIPs: [], podIP: '10.1.1.1' })).workload?.addresses, [
    '10.1.1.1',
  ])
})

void t.test('a pod is healthy while it is ready and not being deleted', async (t) => {
  const statusOf = (choices: PodChoices) => translate(choices).workload?.status
  t.equal(statusOf(ready({})), 'healthy')
  t.equal(statusOf(ready({ conditions: [{ type: 'Ready', status: 'False' }] })), 'unhealthy')
  t.equal(statusOf(ready({ conditions: [] })), 'unhealthy')
  t.equal(statusOf({ ...ready({}), deletionTimestamp: '2026-01-01T00:00:00Z' }), 'unhealthy')
})

void t.test('a pod speaks HBONE when its node captures it or it does so itself', async (t) => {
  const tunnel = (choices: PodChoices) => {
    const { workload } = translate(choices)
    return [workload?.tunnelProtocol, workload?.nativeTunnel]
  }
  const annotated = (value: string) => ({ annotations: { 'ambient.istio.io/redirection': value } })
  t.strictSame(tunnel({}), ['none', false])
  t.strictSame(tunnel(annotated('enabled')), ['hbone', false])
  t.strictSame(tunnel(annotated('pending')), ['none', false])
  t.strictSame(
    tunnel({ annotations: { 'ambit.io/redirection': 'enabled' } }),
    ['hbone', false],
    'by our own annotation, where Istio has its own for itself',
  )
  t.strictSame(tunnel({ labels: { 'networking.istio.io/tunnel': 'http' } }), ['hbone', true])
})

void t.test(
  'a host-network pod keeps its addresses but is not found by them: they are of its node',
  async (t) => {
    const { workload } = translate({ spec: { hostNetwork: true } })
    t.equal(workload?.foundBy, 'service')
    t.strictSame(workload?.addresses, ['10.244.0.1'])
  },
)

void t.test('a workload is named after what people deployed', async (t) => {
  const cases: readonly (readonly [PodChoices, string, string])[] = [
    [{}, 'pod', 'pod'],
    [{ owner: { kind: 'ReplicaSet', name: 'own-replicas' } }, 'pod', 'own-replicas'],
    [
      {
        owner: { kind: 'ReplicaSet', name: 'web-5d4f' },
        labels: { 'pod-template-hash': '5d4f' },
      },
      'deployment',
      'web',
    ],
    [
      {
        owner: { kind: 'ReplicaSet', name: 'web-5d4f' },
        labels: { 'pod-template-hash': 'other' },
      },
      'pod',
      'web-5d4f',
    ],
    [{ owner: { kind: 'StatefulSet', name: 'db' } }, 'pod', 'db'],
    [{ owner: { kind: 'DaemonSet', name: 'logs' } }, 'pod', 'logs'],
    [{ owner: { kind: 'Job', name: 'migrate' } }, 'job', 'migrate'],
    [{ owner: { kind: 'Job', name: 'report-28912345' } }, 'cronjob', 'report'],
  ]
  for (const [choices, type, name] of cases) {
    const { workload } = translate(choices)
    t.strictSame([workload?.workloadType, workload?.workloadName], [type, name])
  }
})

void t.test('canonical name and revision come from labels, the most explicit first', async (t) => {
  const canonical = (labels: Record<string, string>) => {
    const { workload } = translate({ labels, owner: { kind: 'StatefulSet', name: 'db' } })
    return [workload?.canonicalName, workload?.canonicalRevision]
  }
  t.strictSame(canonical({}), ['db', 'latest'])
  t.strictSame(canonical({ app: 'a', version: 'v1' }), ['a', 'v1'])
  t.strictSame(
    canonical({
      app: 'a',
      version: 'v1',
      'app.kubernetes.io/name': 'b',
      'app.kubernetes.io/version': 'v2',
    }),
    ['b', 'v2'],
  )
  t.strictSame(
    canonical({
      'app.kubernetes.io/name': 'b',
      'service.istio.io/canonical-name': 'c',
      'service.istio.io/canonical-revision': 'v3',
    }),
    ['c', 'v3'],
  )
})

void t.test('what is wrong with a pod is said by field, and the rest of it used', async (t) => {
  const { workload, problems } = translate({
    ...ready({ podIPs: [{ ip: 'nonsense' }, { ip: '10.244.0.9' }] }),
  })
  t.strictSame(workload?.addresses, ['10.244.0.9'])
  t.strictSame(
    problems.map(({ kind, namespace, name, field, reason }) =>
      [kind, namespace, name, field, reason].join(' '),
    ),
    ['Pod shop pod status.podIPs[0].ip "nonsense" is not an IP address'],
  )
})
