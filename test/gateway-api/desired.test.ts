// SPDX-License-Identifier: Apache-2.0
// What is made of a Gateway, and what an overlay may change of it.

import t from 'tap'
import { desiredObjects } from '../../controller/provisioner/desired.ts'
import { absentClasses } from '../../controller/provisioner/gateway-classes.ts'
import { isManaged } from '../../controller/provisioner/managed-object.ts'
import { type Overlay, readOverlay } from '../../controller/provisioner/overlay.ts'
import { provisionSettings } from '../../controller/provisioner/settings.ts'
import { strategicMerge } from '../../controller/provisioner/strategic-merge.ts'
import type { WaypointOrder } from '../../controller/provisioner/waypoint-order.ts'

const ORDER: WaypointOrder = {
  cluster: 'Kubernetes',
  namespace: 'shop',
  name: 'w',
  uid: 'gateway-uid',
  className: 'ambit-waypoint',
  infrastructure: {
    labels: new Map([
      ['team', 'red'],
      ['gateway.ambit.io/managed', 'somebody'],
    ]),
    annotations: new Map([['note', 'n']]),
    parameters: { kind: 'none' },
  },
}
const SETTINGS = {
  image: 'ambit:1',
  command: ['/bin/ambit'],
  user: 1337,
  environment: { XDS_ADDRESS: 'c.ns.svc:15012' },
}

const overlayOf = (data: Record<string, string>): Overlay => {
  const read = readOverlay('ConfigMap shop/p', data)
  if (!read.ok) throw new Error(JSON.stringify(read.error))
  return read.value
}
const made = (data: Record<string, string> = {}, order = ORDER) =>
  desiredObjects(order, SETTINGS, overlayOf(data))
const objectsOf = (data: Record<string, string> = {}) => {
  const result = made(data)
  if (!result.ok) throw new Error(JSON.stringify(result.error))
  return Object.fromEntries(result.value.map(({ kind, object }) => [kind, object]))
}

void t.test('a waypoint is an account, a Service and a Deployment', async (t) => {
  const objects = objectsOf()
  t.strictSame(Object.keys(objects), ['serviceAccount', 'service', 'deployment'])
  for (const object of Object.values(objects)) {
    t.match(object, {
      metadata: {
        name: 'w',
        namespace: 'shop',
        labels: {
          team: 'red',
          'gateway.ambit.io/managed': 'ambit-waypoint',
          'gateway.networking.k8s.io/gateway-name': 'w',
        },
        annotations: { note: 'n' },
        ownerReferences: [{ kind: 'Gateway', name: 'w', uid: 'gateway-uid', controller: true }],
      },
    })
    t.equal(isManaged(object, 'gateway-uid'), true)
    t.equal(isManaged(object, 'another'), false)
  }
  t.match(objects['service'], {
    spec: {
      selector: { 'gateway.networking.k8s.io/gateway-name': 'w' },
      ports: [{ port: 15008 }, {}],
    },
  })
  t.match(objects['deployment'], {
    apiVersion: 'apps/v1',
    spec: {
      replicas: 1,
      template: {
        metadata: { labels: { 'istio.io/dataplane-mode': 'none', team: 'red' } },
        spec: {
          serviceAccountName: 'w',
          automountServiceAccountToken: false,
          containers: [
            {
              image: 'ambit:1',
              command: ['/bin/ambit'],
              args: ['waypoint-proxy', '--gateway-name', 'w', '--namespace', 'shop'],
              env: [{ name: 'XDS_ADDRESS', value: 'c.ns.svc:15012' }, { name: 'POD_NAME' }],
              securityContext: { capabilities: { drop: ['ALL'] } },
            },
          ],
        },
      },
    },
  })
})

void t.test('a waypoint may wait for the control plane as long as that takes', async (t) => {
  const startupProbe = { periodSeconds: 1, failureThreshold: 86_400 }
  t.match(objectsOf()['deployment'], {
    spec: { template: { spec: { containers: [{ startupProbe }] } } },
  })
})

void t.test('a waypoint that has its identity from SPIFFE is given the socket', (t) => {
  const { environment, workloadApiDirectory } = provisionSettings({
    waypointImage: 'ambit:1',
    waypointCommand: [],
    waypointUser: 1337,
    waypointWorkloadApiSocket: 'unix:///spiffe-workload-api/spire-agent.sock',
    serviceName: 'c',
    namespace: 'ns',
    trustDomain: 'cluster.local',
    trustDomainAliases: [],
    rootNamespace: 'istio-system',
    clusterId: 'Kubernetes',
    clusterDomain: 'cluster.local',
    network: '',
  })
  const socket = { AMBIT_WORKLOAD_API_SOCKET: 'unix:///spiffe-workload-api/spire-agent.sock' }
  t.match(environment, socket)
  t.equal(workloadApiDirectory, '/spiffe-workload-api')
  const podOf = (command: readonly string[]): string => {
    const settings = { ...SETTINGS, command, environment, workloadApiDirectory }
    const result = desiredObjects(ORDER, settings, overlayOf({}))
    if (!result.ok) throw new Error(JSON.stringify(result.error))
    return JSON.stringify(result.value.find(({ kind }) => kind === 'deployment')?.object)
  }
  const ours = podOf([])
  t.match(ours, '{"name":"workload-api","csi":{"driver":"csi.spiffe.io","readOnly":true}}')
  t.match(ours, '"name":"workload-api","mountPath":"/spiffe-workload-api","readOnly":true}')
  const theirs = podOf(['/bin/ambit'])
  t.match(theirs, '"name":"AMBIT_WORKLOAD_API_SOCKET"')
  t.notMatch(theirs, 'csi.spiffe.io')
  t.end()
})

void t.test('an image of ours has a place for what it compiles, and another command none', (t) => {
  const podOf = (command: readonly string[]) => {
    const result = desiredObjects(ORDER, { ...SETTINGS, command }, overlayOf({}))
    if (!result.ok) throw new Error(JSON.stringify(result.error))
    const deployment = result.value.find(({ kind }) => kind === 'deployment')
    return JSON.stringify(deployment?.object)
  }
  const ours = podOf([])
  t.match(ours, /"name":"compiled","emptyDir":\{"sizeLimit":"32Mi"\}/)
  t.match(ours, /"name":"compiled","mountPath":"\/var\/cache\/ambit"\}/)
  t.match(ours, /"name":"NODE_COMPILE_CACHE","value":"\/var\/cache\/ambit"/)
  t.notMatch(podOf(['/bin/ambit']), /compiled|NODE_COMPILE_CACHE/)
  t.end()
})

void t.test(
  'several replicas have a disruption budget, and an autoscaler has the number to itself',
  async (t) => {
    const several = objectsOf({ deployment: 'spec: {replicas: 3}' })
    t.match(several, {
      deployment: { spec: { replicas: 3 } },
      podDisruptionBudget: { spec: { maxUnavailable: 1 } },
    })
    const scaled = objectsOf({ horizontalPodAutoscaler: 'spec: {minReplicas: 2, maxReplicas: 5}' })
    t.equal('replicas' in (scaled['deployment']?.['spec'] as object), false)
    t.match(scaled['horizontalPodAutoscaler'], {
      spec: { maxReplicas: 5, scaleTargetRef: { kind: 'Deployment', name: 'w' } },
    })
    t.ok(scaled['podDisruptionBudget'])
    const own = objectsOf({ podDisruptionBudget: 'spec: {minAvailable: 1}' })
    t.strictSame(Object.keys(own['podDisruptionBudget']?.['spec'] as object), [
      'selector',
      'minAvailable',
    ])
  },
)

void t.test('an overlay changes what it names, and never whose the objects are', async (t) => {
  const deployment = `
metadata: {labels: {cost: centre}}
spec:
  template:
    spec:
      nodeSelector: {kubernetes.io/os: linux}
      containers:
        - name: waypoint
          resources: {limits: {memory: 256Mi}}
          env: [{name: LOG, value: debug}]
        - {name: side, image: side:1}
`
  t.match(objectsOf({ deployment })['deployment'], {
    metadata: { labels: { cost: 'centre', team: 'red' } },
    spec: {
      template: {
        spec: {
          nodeSelector: { 'kubernetes.io/os': 'linux' },
          containers: [
            { name: 'waypoint', image: 'ambit:1', resources: { limits: { memory: '256Mi' } } },
            { name: 'side', image: 'side:1' },
          ],
        },
      },
    },
  })
  const refused: readonly (readonly [string, string, string])[] = [
    ['deployment', 'metadata: {name: other}', 'metadata.name'],
    ['service', 'metadata: {namespace: kube-system}', 'metadata.namespace'],
    ['deployment', 'kind: DaemonSet', 'kind'],
    ['serviceAccount', 'metadata: {ownerReferences: null}', 'metadata.ownerReferences'],
    ['service', 'spec: {selector: {app: theirs}}', 'spec.selector'],
    [
      'deployment',
      'spec: {template: {spec: {serviceAccountName: admin}}}',
      'spec.template.spec.serviceAccountName',
    ],
    ['deployment', 'metadata: {$patch: replace}', 'metadata.name'],
  ]
  for (const [key, text, field] of refused)
    t.match(
      made({ [key]: text }),
      { ok: false, error: { field, reason: 'cannot be changed' } },
      text,
    )
})

void t.test('what is no overlay is told by object, field and reason', async (t) => {
  const object = 'ConfigMap shop/p'
  const cases: readonly (readonly [Record<string, string>, object])[] = [
    [
      { deployments: '{}' },
      { object, field: 'data.deployments', reason: /is none of serviceAccount/ },
    ],
    [{ service: 'a: [' }, { object, field: 'data.service', reason: /is no YAML: line 1/ }],
    [{ service: 'text' }, { object, field: 'data.service', reason: 'is not one map' }],
    [{ service: '{}\n---\n{}' }, { object, field: 'data.service', reason: 'is not one map' }],
  ]
  for (const [data, error] of cases) t.match(readOverlay(object, data), { ok: false, error })
  for (const name of ['a.b', 'x'.repeat(64), '1st'])
    t.match(made({}, { ...ORDER, name }), {
      ok: false,
      error: { object: `Gateway shop/${name}`, field: 'metadata.name' },
    })
})

void t.test('lists with keys merge, others are replaced', async (t) => {
  const target = { ports: [{ containerPort: 1, name: 'a' }], args: ['x', 'y'], tolerations: [{}] }
  t.strictSame(strategicMerge(target, { ports: [{ containerPort: 2 }], args: ['z'] }), {
    ports: [{ containerPort: 1, name: 'a' }, { containerPort: 2 }],
    args: ['z'],
    tolerations: [{}],
  })
  t.strictSame(
    strategicMerge(target, { ports: [{ containerPort: 1, $patch: 'delete' }], args: null }),
    {
      ports: [],
      tolerations: [{}],
    },
  )
  t.strictSame(strategicMerge({ a: { b: 1 } }, { a: { $patch: 'replace', c: 2 } }), { a: { c: 2 } })
  t.strictSame(target.ports, [{ containerPort: 1, name: 'a' }], 'the target is not changed')
})

void t.test("Istio's name for a class is taken only where Istio is not", async (t) => {
  const ours = 'ambit.io/waypoint-controller'
  const istio = { name: 'istio', controllerName: 'istio.io/gateway-controller' }
  t.strictSame(absentClasses([]), ['ambit-waypoint', 'istio-waypoint'])
  t.strictSame(absentClasses([istio]), ['ambit-waypoint'])
  t.strictSame(absentClasses([{ name: 'ambit-waypoint', controllerName: ours }, istio]), [])
  t.strictSame(absentClasses([{ name: 'istio-waypoint', controllerName: 'x' }]), ['ambit-waypoint'])
})
