// SPDX-License-Identifier: Apache-2.0
// `ambit why`: of small meshes made again from dumps, what it says of a call, who decides, and what to change.

import t from 'tap'
import { configDump } from '../../agent/admin/config-dump.ts'
import { DiscoveryHealth } from '../../mesh/xds/discovery-health.ts'
import type { PodStanding } from '../../agent/enrolment/index.ts'
import { readConfigDump } from '../../cli/dump/config-dump.ts'
import { parseDestination, parseSource, resolveDestination } from '../../cli/why/call.ts'
import { explainCall } from '../../cli/why/explain-call.ts'
import { findCaller } from '../../cli/why/find-caller.ts'
import { PLAIN_REQUEST, type RequestText } from '../../cli/why/request.ts'
import { explanationText } from '../../cli/why/steps.ts'
import { type AgentView, agentView } from '../../cli/why/world.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import { EMPTY_MATCH, type Policy, type PolicyKey } from '../../mesh/model/policy.ts'
import type { IpAddress, MeshChange } from '../../mesh/model/types.ts'
import type { CopiedWaypoint } from '../../waypoint/explain-request.ts'
import { makeCertificate, makeRoot } from '../hbone/certs.ts'
import { waypointPolicy } from '../policy/request/samples.ts'
import { inService, testPod, testService, workloadOf } from '../proxy/loopback-world.ts'

const ip = (text: string) => text as IpAddress
const FRONTEND = testPod('frontend', ip('10.244.1.2'))
const INTRUDER = testPod('intruder', ip('10.244.1.3'))
const PLAIN = testPod('batch', ip('10.244.1.9'), 'legacy')
const CATALOG = testPod('catalog', ip('10.244.2.3'))
const SERVICE = testService('catalog', ip('10.96.0.20'))

const allow = (principal: string): Policy => ({
  key: 'shop/only-frontend' as PolicyKey,
  namespace: 'shop',
  name: 'only-frontend',
  scope: 'workload',
  action: 'allow',
  rules: [
    {
      place: 0,
      clauses: [
        { matches: [{ ...EMPTY_MATCH, principals: [{ kind: 'exact', text: principal }] }] },
      ],
    },
  ],
  isDryRun: false,
  isAudit: false,
  madeOf: '',
})

/** Two agents that know the same: the callers' on node-a, the catalog's on node-b. */
async function agents(
  policies: readonly Policy[],
  named: readonly string[],
  config: object = {},
  more: readonly MeshChange[] = [],
) {
  const root = await makeRoot()
  const changes: MeshChange[] = [
    ...policies.map((policy) => ({ kind: 'policy' as const, policy })),
    { kind: 'policyKnowledge', is: 'current' },
    { kind: 'service', service: SERVICE },
    { kind: 'workload', workload: workloadOf(FRONTEND) },
    { kind: 'workload', workload: workloadOf(INTRUDER) },
    { kind: 'workload', workload: workloadOf(PLAIN, { tunnelProtocol: 'none' }) },
    {
      kind: 'workload',
      workload: workloadOf(CATALOG, {
        ...inService(SERVICE, 8080),
        node: 'node-b',
        authorizationPolicies: named,
      }),
    },
    ...more,
  ]
  const view = async (
    node: string,
    pods: readonly (typeof CATALOG)[],
    outside: readonly PodStanding[],
  ) => {
    const mesh = new MeshState()
    mesh.apply(changes)
    const certificates = await Promise.all(
      pods.map(async ({ identity }) => ({
        ...(await makeCertificate(root, identity)),
        state: 'available' as const,
      })),
    )
    const dump = await configDump(
      {
        mesh,
        certificates: () => certificates,
        pods: () => pods,
        connections: () => Promise.resolve(new Map()),
        standings: () => [
          ...pods.map((pod) => ({ ...pod, state: 'captured' as const, reason: undefined })),
          ...outside,
        ],
        discovery: () => new DiscoveryHealth('controller:15012').report(),
        pending: () => [],
        version: 'test',
        config: { nodeName: node, sameNode: 'direct', ...config },
      },
      { withResources: true },
    )
    // As it comes over the wire, or from a file.
    const read = readConfigDump(JSON.parse(JSON.stringify(dump)))
    if (!read.ok) throw new Error(read.error)
    const made = agentView(node, read.value)
    if (!made.ok) throw new Error(made.error)
    return made.value
  }
  return [
    await view(
      'node-a',
      [FRONTEND, INTRUDER],
      [{ ...PLAIN, state: 'outside', reason: 'notLabelled' }],
    ),
    await view('node-b', [CATALOG], []),
  ]
}

function why(
  views: readonly AgentView[],
  source: string,
  destination: string,
  { waypoint, request }: { waypoint?: CopiedWaypoint; request?: RequestText | undefined } = {},
) {
  const from = parseSource(source)
  const to = parseDestination(destination)
  if (!from.ok || !to.ok) throw new Error('the words of a test can be read')
  const found = findCaller(views, from.value)
  if (!found.ok) throw new Error(found.error)
  const { view, caller } = found.value
  const called = resolveDestination(to.value, {
    mesh: view.mesh,
    namespace: caller.pod.namespace,
    clusterDomain: 'cluster.local',
    prefers: ([first]) => first,
  })
  if (!called.ok) throw new Error(called.error)
  const agentOf = (node: string) => views.find((each) => each.node === node)
  const world = { source: view, agentOf, now: new Date(), waypointOf: () => waypoint, request }
  return explainCall(world, caller, called.value)
}

const ONLY_FRONTEND = allow('cluster.local/ns/shop/sa/frontend')

void t.test(
  'what is asked of a request is not passed over where nobody reads requests',
  async (t) => {
    const views = await agents([ONLY_FRONTEND], ['shop/only-frontend'])
    const request = { ...PLAIN_REQUEST, path: '/admin' }
    const last = (...[source, destination, asked]: [string, string, RequestText?]) =>
      why(views, source, destination, { request: asked }).steps.at(-1)
    const unread = { step: 'waypoint', result: 'note', what: /^no waypoint is on the way: nobody/ }
    t.match(last('shop/frontend', 'catalog.shop:80', request), unread)
    t.match(last('shop/frontend', 'shop/frontend:80', request), unread, 'not even to itself')
    t.match(
      last('shop/frontend', 'catalog.shop:80'),
      { step: 'admission' },
      'unasked it says nothing',
    )
  },
)

void t.test('only the frontend gets in, and why names rule and change for another', async (t) => {
  const views = await agents([ONLY_FRONTEND], ['shop/only-frontend'])
  const frontend = why(views, 'shop/frontend', 'catalog.shop:80')
  t.match(frontend, { outcome: 'connects', security: 'mutual_tls' })
  t.match(
    frontend.steps.map(({ step, result }) => `${step} ${result}`),
    [
      'capture ok',
      'service ok',
      'endpoint ok',
      'tunnel ok',
      'certificate ok',
      'certificate ok',
      'admission ok',
    ],
  )
  t.match(frontend.steps.at(-1), { object: 'AuthorizationPolicy shop/only-frontend' })

  const intruder = why(views, 'shop/intruder', 'shop/catalog')
  t.match(intruder, { outcome: 'fails', security: undefined, summary: /none allowed/ })
  t.match(intruder.steps.at(-1), {
    step: 'admission',
    result: 'stop',
    object: 'AuthorizationPolicy shop/only-frontend',
    change: /allows cluster\.local\/ns\/shop\/sa\/intruder on port 8080/,
  })
  t.match(
    explanationText(intruder).join('\n'),
    /rule 0: no: principals wants cluster\.local\/ns\/shop\/sa\/frontend, the call has cluster\.local\/ns\/shop\/sa\/intruder/,
  )
})

void t.test('a caller outside the mesh has no identity, and is told how to get one', async (t) => {
  const open = why(await agents([], []), 'legacy/batch', 'shop/catalog')
  t.match(open, { outcome: 'connects', security: 'plaintext' })
  t.match(open.steps[0], { step: 'capture', result: 'note', change: /label namespace legacy/ })
  const closed = why(
    await agents([ONLY_FRONTEND], ['shop/only-frontend']),
    'legacy/batch',
    'shop/catalog',
  )
  t.match(closed, { outcome: 'fails' })
  t.match(closed.steps.at(-1), {
    what: /without identity at 10\.244\.1\.9/,
    change: /into the mesh/,
  })
})

void t.test('a pod whose policy has not arrived is closed, and it is named', async (t) => {
  const explained = why(await agents([], ['shop/late']), 'shop/frontend', 'shop/catalog')
  t.match(explained, {
    outcome: 'fails',
    summary: /policy shop\/late is named and has not arrived/,
  })
  // Of agents that were told to go on without it.
  const serving = await agents([], ['shop/late'], { missingPolicies: 'serve' })
  t.match(why(serving, 'shop/frontend', 'shop/catalog'), { outcome: 'connects' })
})

void t.test(
  'inside the node no TLS is claimed; itself and strangers are none of the mesh',
  async (t) => {
    const views = await agents([], [])
    t.match(why(views, 'shop/frontend', 'shop/intruder:9000'), {
      outcome: 'connects',
      security: 'node_local',
    })
    t.match(why(views, 'shop/frontend', '127.0.0.1:80'), { summary: /never leaves the pod/ })
    t.match(why(views, 'shop/frontend', '192.0.2.1:443'), {
      outcome: 'connects',
      security: 'plaintext',
    })
    const [source] = views
    if (source === undefined) throw new Error('there are two')
    const alone = why([source], 'shop/frontend', 'shop/catalog')
    t.match(alone, { outcome: 'unknown', summary: /is not known/ })
    t.match(alone.steps.at(-1), { result: 'unknown', what: /the agent of node-b was not asked/ })
  },
)

void t.test('the way leads by a waypoint, or ends there when none is ready', async (t) => {
  const gateway = testService('waypoint', ip('10.96.0.30'))
  const { namespace, hostname } = gateway
  const bound: MeshChange[] = [
    { kind: 'service', service: gateway },
    {
      kind: 'service',
      service: {
        ...SERVICE,
        waypoint: { destination: { kind: 'hostname', namespace, hostname }, hbonePort: 80 },
      },
    },
  ]
  const pod = workloadOf(testPod('waypoint', ip('10.244.2.50')), inService(gateway, 15008))
  const ready: MeshChange[] = [...bound, { kind: 'workload', workload: pod }]
  const views = await agents([ONLY_FRONTEND], ['shop/only-frontend'], {}, ready)
  const led = why(views, 'shop/frontend', 'shop/catalog')
  t.match(led, { outcome: 'connects', security: 'mutual_tls' })
  t.match(
    led.steps.find(({ step }) => step === 'waypoint'),
    { what: /^waypoint shop\/waypoint leads it on/, object: 'Gateway shop/waypoint' },
  )
  t.match(
    why(views, 'shop/intruder', 'shop/catalog'),
    { outcome: 'fails', summary: /shop\/catalog refuses .*intruder/ },
    'the pod lets nobody in by the waypoint whom it lets not in without',
  )
  const own = {
    gatewayName: 'waypoint',
    namespace,
    clusterDomain: 'cluster.local',
    network: '',
  }
  const mesh = new MeshState()
  mesh.apply(views[0]?.mesh.snapshot() ?? [])
  const asked = why(views, 'shop/frontend', 'shop/catalog', { waypoint: { own, mesh } })
  t.match(asked, { outcome: 'connects', security: 'mutual_tls' })
  t.match(
    asked.steps.map(({ step }) => step).slice(-4),
    ['waypoint', 'policy', 'route', 'admission'],
    'asked, the waypoint says what it does, and then the pod',
  )
  const targets = [{ kind: 'waypoint', namespace, name: 'waypoint' }] as const
  const match = { methods: [{ kind: 'exact', text: 'GET' }] } as const
  const policy = waypointPolicy('no-gets', 'deny', [match], { targets })
  mesh.apply([{ kind: 'waypointPolicy', policy }])
  t.match(why(views, 'shop/frontend', 'shop/catalog', { waypoint: { own, mesh } }), {
    outcome: 'answered',
    security: 'mutual_tls',
    securities: ['mutual_tls'],
    summary: /^It connects, with mutual TLS, and the request gets no further: .* with 403: /,
  })
  t.match(why(await agents([], [], {}, bound), 'shop/frontend', 'shop/catalog'), {
    outcome: 'fails',
    summary: /is bound to waypoint shop\/waypoint, which has no ready endpoint/,
  })
})

void t.test('what the mesh has just forgotten is not called a stranger', async (t) => {
  const gone: MeshChange[] = [
    { kind: 'workloadRemoved', uid: workloadOf(CATALOG).uid },
    { kind: 'serviceRemoved', key: SERVICE.key },
  ]
  const views = await agents([], [], {}, gone)
  const pod = why(views, 'shop/frontend', '10.244.2.3:8080')
  t.match(pod, { outcome: 'connects', security: 'mutual_tls' })
  t.match(
    pod.steps.find(({ step }) => step === 'tunnel'),
    { what: /^HBONE to .* \(the address was pod shop\/catalog's, which is gone/ },
  )
  t.match(why(views, 'shop/frontend', '10.96.0.20:80'), {
    outcome: 'fails',
    summary: /service shop\/catalog\.shop\.svc\.cluster\.local is deleted/,
  })
})

void t.test('words that cannot be read are refused by the form that is wanted', (t) => {
  for (const text of ['frontend', 'shop/pod/x', 'a/b/c/d', 'Shop/x'])
    t.match(parseSource(text), { ok: false }, text)
  t.match(parseSource('shop/deploy/web'), { ok: true, value: { isOwner: true, name: 'web' } })
  for (const text of ['10.0.0.1', 'shop/x:0', 'shop/x:70000', 'a/b/c', 'fe80::1%eth0'])
    t.match(parseDestination(text), { ok: false }, text)
  t.match(parseDestination('[fd00::1]:80'), { value: { address: 'fd00::1', port: 80 } })
  t.match(parseDestination('catalog.shop'), { value: { kind: 'hostname', port: undefined } })
  t.end()
})
