// SPDX-License-Identifier: Apache-2.0
// The agent's admin API, as an operator on the node, istioctl and Kiali use it; and as somebody tries to whom it is not for.

import t, { type Test } from 'tap'
import type { FastifyInstance } from 'fastify'
import { type AdminActions, createAdminServer } from '../../agent/admin/admin-server.ts'
import type { ProbedCall } from '../../agent/proxy/call-probe.ts'
import { configDump, type ConfigDumpSources } from '../../agent/admin/config-dump.ts'
import { DiscoveryHealth } from '../../mesh/xds/discovery-health.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import { EMPTY_MATCH, type Policy, type PolicyKey } from '../../mesh/model/policy.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import {
  type AccessSpec,
  EVERY_LINE,
  readConnectionFilter,
} from '../../mesh/telemetry/access-spec.ts'
import { createLeveledLogger } from '../../mesh/telemetry/log.ts'
import { decodeMeshState, type WireState } from '../../mesh/xds/wire-state.ts'
import { makeCertificate, makeRoot } from '../hbone/certs.ts'
import { inService, testPod, testService, workloadOf } from '../proxy/loopback-world.ts'

function adminServer(t: Test, actions: Partial<AdminActions> = {}): FastifyInstance {
  const app = createAdminServer({
    configDump: () => Promise.resolve({}),
    logging: { levels: createLeveledLogger('agent', 'info').levels },
    access: { initial: EVERY_LINE, readFilter: readConnectionFilter, onChange: () => undefined },
    profile: () => undefined,
    drain: () => Promise.resolve(0),
    probe: () => undefined,
    quit: () => t.fail('nobody asked for that'),
    ...actions,
  })
  t.teardown(() => app.close())
  return app
}

const ALLOW_FRONTEND: Policy = {
  key: 'shop/allow-frontend' as PolicyKey,
  namespace: 'shop',
  name: 'allow-frontend',
  scope: 'workload',
  action: 'allow',
  rules: [
    {
      place: 2,
      clauses: [
        {
          matches: [
            {
              ...EMPTY_MATCH,
              principals: [
                { kind: 'exact', text: 'cluster.local/ns/shop/sa/frontend' },
                { kind: 'present' },
              ],
              sourceIps: [{ address: '10.0.0.0' as IpAddress, length: 8 }],
              notDestinationPorts: [22],
            },
          ],
        },
      ],
    },
  ],
  isDryRun: false,
  isAudit: false,
  madeOf: '',
}

async function sources(): Promise<ConfigDumpSources> {
  const pod = testPod('catalog', '10.244.2.3' as IpAddress)
  const service = testService('catalog', '10.96.0.20' as IpAddress)
  const mesh = new MeshState()
  mesh.apply([
    { kind: 'policy', policy: ALLOW_FRONTEND },
    {
      kind: 'policyUnreadable',
      policy: { key: 'shop/odd' as PolicyKey, reason: 'rules: is too deep', scope: 'workload' },
    },
    { kind: 'policyKnowledge', is: 'current' },
    { kind: 'service', service },
    { kind: 'workload', workload: workloadOf(pod, inService(service, 8080)) },
  ])
  const certificate = await makeCertificate(await makeRoot(), pod.identity)
  const open = {
    direction: 'inbound' as const,
    src: '10.244.1.2:4000',
    actualDst: '10.244.2.3:15008',
    originalDst: '10.244.2.3:8080',
    protocol: 'HBONE' as const,
  }
  return {
    mesh,
    certificates: () => [{ ...certificate, state: 'available' }],
    pods: () => [pod],
    connections: () => Promise.resolve(new Map([[pod.uid, [open]]])),
    standings: () => [
      { ...pod, uid: pod.uid, state: 'failed', reason: 'port 15008 is taken in the pod' },
    ],
    discovery: () => new DiscoveryHealth('controller:15012').report(),
    pending: () => ['xDS'],
    version: 'test',
    config: { nodeName: 'node-a' },
  }
}

void t.test('the dump has the fields that istioctl and Kiali read, and no key', async (t) => {
  const dump = await configDump(await sources())
  t.match(dump, {
    workloads: [
      {
        uid: 'Kubernetes//Pod/shop/catalog',
        name: 'catalog',
        namespace: 'shop',
        workloadIps: ['10.244.2.3'],
        protocol: 'HBONE',
        status: 'Healthy',
        serviceAccount: 'catalog',
        node: 'node-a',
      },
    ],
    services: [
      {
        hostname: 'catalog.shop.svc.cluster.local',
        vips: ['/10.96.0.20'],
        ports: { 80: 8080 },
        loadBalancer: { mode: 'Standard', routingPreferences: [], healthPolicy: 'OnlyHealthy' },
        endpoints: {
          'Kubernetes//Pod/shop/catalog': {
            workloadUid: 'Kubernetes//Pod/shop/catalog',
            port: { 80: 8080 },
            status: 'Healthy',
          },
        },
      },
    ],
    certificates: [
      {
        identity: 'spiffe://cluster.local/ns/shop/sa/catalog',
        state: 'Available',
        certChain: [
          {
            serialNumber: /^\d+$/,
            validFrom: /^\d{4}-.*:\d\dZ$/,
            expirationTime: /^\d{4}-.*:\d\dZ$/,
          },
        ],
        rootCerts: [{ serialNumber: '1' }],
      },
    ],
    capture: [{ name: 'catalog', state: 'failed', reason: /15008/ }],
    discovery: { address: 'controller:15012', state: 'connecting', isSynced: false },
    pending: ['xDS'],
  })
  const [state] = Object.values(dump['workloadState'] as Record<string, unknown>)
  t.match(state, {
    state: 'Up',
    connections: { inbound: [{ protocol: 'HBONE', src: '10.244.1.2:4000' }], outbound: [] },
    info: { name: 'catalog', namespace: 'shop', trustDomain: 'cluster.local' },
  })
  t.notMatch(JSON.stringify(dump), /PRIVATE KEY/)
  t.notMatch(JSON.stringify(dump), Buffer.from('PRIVATE KEY').toString('base64').slice(0, 12))
})

void t.test('a policy is dumped as lists of lists, as istioctl decodes it', async (t) => {
  const { policies } = await configDump(await sources())
  t.strictSame(JSON.parse(JSON.stringify(policies)), [
    {
      name: 'allow-frontend',
      namespace: 'shop',
      scope: 'WorkloadSelector',
      action: 'Allow',
      rules: [
        [
          [
            {
              principals: [{ Exact: 'cluster.local/ns/shop/sa/frontend' }, { Presence: {} }],
              sourceIps: ['10.0.0.0/8'],
              notDestinationPorts: [22],
            },
          ],
        ],
      ],
      places: [2],
      dryRun: false,
      audit: false,
      madeOf: '',
    },
  ])
})

void t.test('from a dump with resources the mesh state is made again, whole', async (t) => {
  const from = await sources()
  const app = adminServer(t, { configDump: (options) => configDump(from, options) })
  t.notOk('resources' in (await app.inject('/config_dump')).json())
  const local = (await app.inject('/config_dump?local')).json<Readonly<Record<string, unknown>>>()
  t.notOk('workloads' in local || 'services' in local || 'policies' in local)
  t.ok('workloadState' in local && 'certificates' in local && 'discovery' in local)
  const dump: { readonly resources: WireState } = (
    await app.inject('/config_dump?resources')
  ).json()
  const changes = decodeMeshState(dump.resources)
  if (!changes.ok) throw new Error(changes.error)
  const again = new MeshState()
  again.apply(changes.value)
  const inOrder = (mesh: MeshState) =>
    mesh.snapshot().toSorted((one, other) => one.kind.localeCompare(other.kind))
  t.strictSame(inOrder(again), inOrder(from.mesh))

  const types = { ...dump.resources.types, 'type.googleapis.com/ambit.mesh.Node': { a: '/w==' } }
  const spoiled = { ...dump.resources, types }
  t.match(decodeMeshState(spoiled), { ok: false, error: /Cannot use resource a/ })
})

void t.test('each part can be made louder by itself, also in other threads', async (t) => {
  const { log, levels } = createLeveledLogger('agent', 'warn')
  const xds = log.child({ part: 'xds' })
  const ofPod = log.child({ part: 'enrolment' }).child({ pod: 'shop/web' })
  const told: unknown[] = []
  const app = adminServer(t, {
    logging: { levels, otherParts: ['access'], onChange: (spec) => told.push(spec) },
  })
  const post = (url: string) => app.inject({ method: 'POST', url })

  t.match((await post('/logging?level=xds:debug,access:off')).json(), {
    level: 'warn',
    parts: { agent: 'warn', xds: 'debug', access: 'silent', enrolment: 'warn' },
  })
  t.strictSame([log.level, xds.level, ofPod.level], ['warn', 'debug', 'warn'])
  t.strictSame(told, [{ level: 'warn', parts: { xds: 'debug', access: 'silent' } }])

  await post('/logging?level=info')
  t.strictSame([log.level, xds.level, ofPod.level], ['info', 'debug', 'info'])
  t.equal(log.child({ part: 'xds' }).level, 'debug', 'also of loggers that come later')

  for (const [url, said] of [
    ['/logging?level=loud', /"loud" is no level/],
    ['/logging?level=xsd:debug', /"xsd" is no part/],
    ['/logging', /give level or reset/],
  ] as const) {
    const refused = await post(url)
    t.equal(refused.statusCode, 400)
    t.match(refused.json(), { error: said })
  }
  t.match((await post('/logging?reset')).json(), { level: 'warn', parts: { xds: 'warn' } })
  t.equal(xds.level, 'warn')
  // As istioctl asks.
  t.match((await post('/logging?level=info&reset')).json(), { level: 'info' })
})

void t.test('quitting and draining are asked by POST only', async (t) => {
  let asked = 0
  const drained: unknown[] = []
  const app = adminServer(t, {
    quit: (...how: readonly unknown[]) => {
      t.same(how, [], 'nothing is handed on from the request')
      asked += 1
    },
    drain: (pod) => {
      drained.push(pod)
      return Promise.resolve(pod === 'shop/none' ? 0 : 2)
    },
  })
  t.match(await app.inject({ url: '/quitquitquit' }), { statusCode: 404 })
  t.match(await app.inject({ url: '/drain' }), { statusCode: 404 })
  t.match(await app.inject({ method: 'POST', url: '/quitquitquit?unpin=true' }), {
    statusCode: 200,
  })
  t.equal(asked, 1)
  t.strictSame((await app.inject({ method: 'POST', url: '/drain' })).json(), { drained: 2 })
  t.match(await app.inject({ method: 'POST', url: '/drain?pod=shop/none' }), { statusCode: 404 })
  t.strictSame(drained, [undefined, 'shop/none'])
})

void t.test(
  'calls of a pod are tried one at a time, few a second, as they are asked',
  async (t) => {
    const probed: unknown[] = []
    const { promise, resolve } = Promise.withResolvers<ProbedCall>()
    const app = adminServer(t, {
      probe: (pod, probe) => {
        if (pod === 'shop/none') return undefined
        probed.push({ pod, ...probe })
        if (pod === 'shop/gone') return Promise.reject(new Error('the pod is not served'))
        return promise
      },
    })
    const post = async (query: string) =>
      await app.inject({ method: 'POST', url: `/probe?${query}` })
    t.match(await app.inject('/probe?pod=shop/web&to=10.0.0.1:80'), { statusCode: 404 }, 'by POST')
    for (const query of [
      'pod=shop/web',
      'pod=shop/web&to=catalog:80',
      'pod=shop/web&to=10.0.0.1',
      'pod=shop/web&to=10.0.0.1:0',
      'pod=shop/web&to=10.0.0.1:80&timeoutMs=99',
      'pod=shop/web&to=10.0.0.1:80&timeoutMs=30001',
      'pod=shop/web&to=10.0.0.1:80&timeoutMs=x',
    ])
      t.match(await post(query), { statusCode: 400, body: /must be/ }, query)
    const first = post('pod=shop/web&to=10.0.0.1:80')
    const second = post('pod=shop/web&to=[fd00::1]:81&timeoutMs=200')
    t.match(await second, { statusCode: 409, body: /being tried/ })
    resolve({ outcome: 'connected', tookMs: 3 })
    t.strictSame((await first).json(), { outcome: 'connected', tookMs: 3 })
    t.match(await post('pod=shop/none&to=10.0.0.1:80'), {
      statusCode: 404,
      body: /no pod shop\/none/,
    })
    t.match(await post('pod=shop/gone&to=10.0.0.1:80'), { statusCode: 500, body: /is not served/ })
    const many = await Promise.all(
      Array.from({ length: 12 }, (_, at) =>
        post(`pod=shop/web-${at}&to=[fd00::1]:81&timeoutMs=200`),
      ),
    )
    const statuses = new Set(many.map(({ statusCode }) => statusCode))
    t.strictSame(statuses, new Set([200, 429]))
    t.strictSame(probed.slice(0, 2), [
      { pod: 'shop/web', address: '10.0.0.1', port: 80, timeoutMs: 5_000 },
      { pod: 'shop/gone', address: '10.0.0.1', port: 80, timeoutMs: 5_000 },
    ])
    t.match(probed[2], { address: 'fd00::1', port: 81, timeoutMs: 200 })
  },
)

void t.test('profiles are bounded, in V8 formats, and one at a time', async (t) => {
  const app = adminServer(t, {
    profile: (thread, { kind }) =>
      thread === 'data-plane-0' ? Promise.resolve(`"${kind} of ${thread}"`) : undefined,
  })
  const [made, second] = await Promise.all([
    app.inject('/debug/pprof/profile?seconds=1&frequency=1000'),
    app.inject('/debug/pprof/heap?seconds=1'),
  ])
  t.match(made.json(), { nodes: [{ callFrame: { functionName: '(root)' } }], samples: Array })
  t.match(made.headers['content-disposition'], /main\.cpuprofile/)
  t.match(second, { statusCode: 409 })
  t.match((await app.inject('/debug/pprof/heap?seconds=1')).json(), { head: { callFrame: {} } })
  t.equal(
    (await app.inject('/debug/pprof/heap?thread=data-plane-0')).json(),
    'heap of data-plane-0',
  )
  for (const query of ['seconds=0', 'seconds=301', 'frequency=1001', 'seconds=x', 'thread=none'])
    t.equal((await app.inject(`/debug/pprof/profile?${query}`)).statusCode, 400, query)
})

void t.test('only those who mean loopback are answered', async (t) => {
  const app = adminServer(t)
  for (const host of ['localhost:15000', '127.0.0.1:15000', '127.0.0.9', '[::1]:15000'])
    t.equal((await app.inject({ url: '/logging', headers: { host } })).statusCode, 200, host)
  for (const headers of [
    // A name of somebody's that was made to lead to loopback.
    { host: 'attacker.example:15000' },
    { host: '127.0.0.1.attacker.example' },
    { host: '10.0.0.1:15000' },
    { host: 'localhost:15000@attacker.example' },
    // A page that has the browser ask loopback by its own name.
    { host: 'localhost:15000', origin: 'https://attacker.example' },
    { host: 'localhost:15000', 'sec-fetch-site': 'cross-site' },
  ]) {
    const posted = await app.inject({ method: 'POST', url: '/quitquitquit', headers })
    t.equal(posted.statusCode, 403, JSON.stringify(headers))
  }
  const remote = await app.inject({ url: '/config_dump', remoteAddress: '10.244.1.2' })
  t.match(remote, { statusCode: 403 }, 'whatever --admin-address may one day be')
})

void t.test('which connections have an access line is changed while the agent runs', async (t) => {
  const specs: AccessSpec[] = []
  const initial = { filter: 'has(error)', sample: 0.5 }
  const app = adminServer(t, {
    access: {
      initial,
      readFilter: readConnectionFilter,
      onChange: (spec) => void specs.push(spec),
    },
  })
  const tell = async (query: Record<string, string>) =>
    app.inject({ method: 'POST', url: '/logging/access', query })
  t.same((await app.inject('/logging/access')).json(), initial)

  const narrowed = await tell({ filter: 'dst.namespace == "shop"', sample: '0.01' })
  t.same(narrowed.json(), { filter: 'dst.namespace == "shop"', sample: 0.01 })
  t.same(specs, [{ filter: 'dst.namespace == "shop"', sample: 0.01 }])
  t.match((await tell({ filter: '' })).json(), { filter: null, sample: 0.01 })

  const wrong = await tell({ filter: 'dst.namespace = "shop"' })
  t.equal(wrong.statusCode, 400)
  t.match(wrong.json(), { error: /^filter: at 15: cannot read "= / })
  t.match((await tell({ sample: '2' })).json(), { error: /^sample: It must be a share/ })
  t.equal((await tell({})).statusCode, 400)
  t.equal(specs.length, 2, 'what is wrong changes nothing')
  t.same((await tell({ reset: '' })).json(), initial)
})
