// SPDX-License-Identifier: Apache-2.0
// `ambit why` and a waypoint on the way: what it says of a request, from the waypoint's own dump.

import t from 'tap'
import {
  parseHeader,
  PLAIN_REQUEST,
  requestHead,
  requestProblem,
  type RequestText,
} from '../../cli/why/request.ts'
import { waypointSteps } from '../../cli/why/waypoint-step.ts'
import { waypointView } from '../../cli/why/waypoint-view.ts'
import { type BackendTls, backendTlsKey } from '../../mesh/model/backend-tls.ts'
import type { AppProtocol } from '../../mesh/model/gateway.ts'
import type { ConnectionRule, HttpRule } from '../../mesh/model/http-routes.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import type { MeshChange } from '../../mesh/model/types.ts'
import type { WaypointPolicy } from '../../mesh/model/waypoint-policy.ts'
import { DiscoveryHealth } from '../../mesh/xds/discovery-health.ts'
import { configDump } from '../../waypoint/config-dump.ts'
import { type WaypointConfig, waypointCommand } from '../../waypoint/config.ts'
import { ip, sampleService } from '../model/samples.ts'
import { waypointPolicy } from '../policy/request/samples.ts'
import { inService, testPod, workloadOf } from '../proxy/loopback-world.ts'
import { sampleMatch, sampleRule } from '../waypoint/router/samples.ts'
import { OWN_WAYPOINT } from '../waypoint/world.ts'

const KEY = Buffer.alloc(32, 7).toString('base64url')
const FRONTEND = testPod('frontend', ip('10.244.1.2'))
const TARGET = { address: ip('10.96.0.50'), port: 80 }

interface World {
  readonly policies?: readonly WaypointPolicy[]
  readonly rules?: readonly HttpRule[]
  readonly connections?: readonly ConnectionRule[]
  readonly protocol?: AppProtocol
  readonly tls?: readonly BackendTls[]
}

/** The dump of the waypoint shop/way, to which two versions of the catalog are bound; v2 has no pod. */
async function dumpOf({
  policies = [],
  rules,
  connections,
  protocol = 'http1',
  tls = [],
}: World): Promise<unknown> {
  const config = await new Promise<WaypointConfig>((resolve, reject) => {
    const command = waypointCommand((read) => Promise.resolve(resolve(read)))
    command.parseAsync(['--gateway-name=way', '--namespace=shop'], { from: 'user' }).catch(reject)
  })
  const ports = [{ servicePort: 80, targetPort: 8080, appProtocol: protocol }]
  const service = sampleService('catalog', { waypoint: OWN_WAYPOINT, ports })
  const mesh = new MeshState()
  const changes: MeshChange[] = [
    ...policies.map((policy) => ({ kind: 'waypointPolicy', policy }) as const),
    { kind: 'service', service },
    { kind: 'service', service: sampleService('v2', { addresses: [] }) },
    ...tls.map((each) => ({ kind: 'backendTls', tls: each }) as const),
    {
      kind: 'workload',
      workload: workloadOf(testPod('v1', ip('10.244.2.3')), inService(service, 8080)),
    },
  ]
  if (rules !== undefined || connections !== undefined) {
    const { key } = service
    const place = { key, service: key, port: undefined, clients: undefined }
    const routes = { ...place, connections: connections ?? [], rules: rules ?? [] }
    changes.push({ kind: 'httpRoutes', routes })
  }
  mesh.apply(changes)
  const sources = {
    config,
    mesh,
    certificates: [],
    discovery: new DiscoveryHealth('controller:15012').report(),
    pending: [],
    tunnels: 0,
    connections: {},
    openCalls: () => [],
    traffic: {},
    isOwn: () => true,
  }
  return JSON.parse(JSON.stringify(configDump(sources, { withResources: true }))) as unknown
}

async function ask(world: World, request?: Partial<RequestText>) {
  const view = waypointView(await dumpOf(world))
  if (!view.ok) throw new Error(view.error)
  const { steps, endpoints } = waypointSteps({
    name: 'shop/way',
    waypoint: view.value,
    source: {
      address: { address: ip('10.244.1.2'), port: 0 },
      identity: FRONTEND.identity,
      workload: undefined,
    },
    target: TARGET,
    head: requestHead({ ...PLAIN_REQUEST, ...request }, 'catalog.shop.svc.cluster.local:80'),
    isRequestSaid: request !== undefined,
  })
  const find = (name: string) => steps.find(({ step }) => step === name)
  return {
    policy: find('policy'),
    route: find('route'),
    tls: find('tls'),
    last: steps.at(-1),
    said: steps.map(({ result, what }) => `${result}: ${what}`),
    leads: endpoints.map(({ target }) => `${target.address}:${target.port}`),
  }
}

const to = (name: string, weight: number): HttpRule['backends'][number] => ({
  target: { kind: 'service', service: `shop/${name}.shop.svc.cluster.local`, port: 80 },
  weight,
  filters: [],
})

void t.test('the policy that refuses is named rule by rule, with what to change', async (t) => {
  const policies = [
    waypointPolicy('no-admin', 'deny', [
      { methods: [{ kind: 'exact', text: 'TRACE' }] },
      { paths: [{ kind: 'prefix', text: '/admin' }], notHosts: [{ kind: 'exact', text: 'ops' }] },
    ]),
    waypointPolicy('reads', 'allow', [
      { headers: [{ name: 'x-user', values: [{ kind: 'exact', text: 'ann' }], notValues: [] }] },
    ]),
  ]
  const denied = await ask({ policies }, { path: '/x/../admin/y' })
  t.match(denied.policy, {
    result: 'stop',
    what: /answers GET \/x\/\.\.\/admin\/y with 403: explicitly denied by: shop\/no-admin/,
    object: 'AuthorizationPolicy shop/no-admin rule 1',
    change: /leaves such requests out/,
  })
  t.strictSame(denied.policy?.details, [
    'DENY shop/no-admin: matches',
    '  rule 0: no: methods wants TRACE, there is GET',
    '  rule 1: matches',
    'ALLOW shop/reads: does not match',
    '  rule 0: no: headers[x-user] wants ann, there is none',
  ])
  t.strictSame(denied.leads, [])
  t.equal(denied.route, undefined, 'no route is asked')
  t.match((await ask({ policies })).policy, {
    result: 'stop',
    what: /allow policies exist, but none allowed: shop\/reads/,
    change: 'add a rule that allows cluster.local/ns/shop/sa/frontend GET /',
  })
  const headers = [['x-user', 'ann']] as const
  const allowed = await ask({ policies }, { headers })
  t.match(allowed.policy, { result: 'ok', object: 'AuthorizationPolicy shop/reads rule 0' })
  t.match(allowed.route, { result: 'ok', what: /^no route counts for .*it goes where it was sent/ })
  t.strictSame(allowed.leads, ['10.244.2.3:8080'])
  t.match((await ask({ policies }, { headers, host: 'ops', path: '/admin' })).policy, {
    result: 'ok',
  })
})

void t.test('the rule that takes it says where it leads and what it changes', async (t) => {
  const rules = [
    sampleRule('v2', [sampleMatch({ path: { kind: 'prefix', value: '/v2' } })], {
      backends: [to('catalog', 9), to('v2', 1)],
      filters: [
        {
          kind: 'rewrite',
          hostname: 'inside',
          path: { kind: 'prefix', value: '/' },
        },
        { kind: 'mirror', backend: to('v2', 1).target, numerator: 1, denominator: 2 },
      ],
      timeouts: { requestMs: 500, backendRequestMs: 100 },
      retry: { attempts: 2, codes: [503], backoffMs: 10 },
      session: {
        kind: 'cookie',
        name: 'stay',
        absoluteMs: 0,
        idleMs: 0,
        key: KEY,
        isPermanent: false,
      },
    }),
    sampleRule('away', [sampleMatch({ path: { kind: 'exact', value: '/old' } })], {
      filters: [
        {
          kind: 'redirect',
          scheme: undefined,
          hostname: 'new.example',
          port: undefined,
          path: undefined,
          status: 301,
        },
      ],
    }),
    sampleRule('ill', [sampleMatch({ path: { kind: 'exact', value: '/ill' } })], {
      fault: 'its filter is unknown',
    }),
  ]
  const led = await ask({ rules }, { path: '/v2/a?b=c' })
  t.match(led.route, {
    result: 'ok',
    what: 'HTTPRoute shop/cart rule v2 takes GET /v2/a?b=c by path prefix /v2',
    object: 'HTTPRoute shop/cart',
    details: [
      '9 of 10 to shop/catalog.shop.svc.cluster.local port 80',
      '1 of 10 to shop/v2.shop.svc.cluster.local port 80',
      'clients come back by cookie stay',
      'its path goes on as /a?b=c',
      'its host goes on as inside',
      'a copy goes to shop/v2.shop.svc.cluster.local port 80, of 1 in 2 requests',
      '504 after 500 ms',
      'each try has 100 ms',
      'tried up to 2 more times, on 503',
    ],
  })
  t.strictSame(led.leads, ['10.244.2.3:8080'])
  t.match(led.last, {
    step: 'endpoint',
    result: 'note',
    what: /no healthy upstream: service shop\/v2/,
  })
  t.match((await ask({ rules }, { path: '/old' })).route, {
    result: 'note',
    what: /answers 301 itself/,
    details: ['location: http://new.example/old'],
  })
  t.match((await ask({ rules }, { path: '/ill' })).route, {
    result: 'stop',
    what: /answers 500 itself/,
    details: ['its filter is unknown'],
  })
  t.match(await ask({ rules }), {
    route: {
      result: 'stop',
      what: 'GET / is answered 404 (NR): no rule takes it',
      object: 'HTTPRoute shop/cart',
      change: /add a rule/,
    },
    leads: [],
  })
  t.match((await ask({ rules }, { path: '/a%00' })).last, { result: 'stop', what: /answered 400/ })
})

void t.test('of a port without requests the connection is judged', async (t) => {
  const ofMethod = waypointPolicy('gets', 'allow', [{ methods: [{ kind: 'exact', text: 'GET' }] }])
  t.match((await ask({ protocol: 'tcp', policies: [ofMethod] })).last, {
    step: 'waypoint',
    result: 'stop',
    what: /closes the connection: allow policies exist, but none allowed/,
  })
  t.match(await ask({ protocol: 'tcp' }), {
    last: { step: 'waypoint', what: /carries it as it is/ },
    leads: ['10.244.2.3:8080'],
  })
  const ofName = waypointPolicy('pay', 'deny', [{ snis: [{ kind: 'exact', text: 'pay.example' }] }])
  const tls = { protocol: 'tls', policies: [ofName] } as const
  t.match((await ask(tls, { host: 'Pay.example:443' })).last, {
    result: 'stop',
    what: /closes the connection: explicitly denied by: shop\/pay/,
  })
  t.strictSame((await ask(tls, { host: 'cart.example' })).leads, ['10.244.2.3:8080'])
  t.match((await ask({ protocol: 'tcp' }, { method: 'PUT' })).last, {
    result: 'note',
    what: /reads no requests there: what was said of method, path and headers decides nothing/,
  })
})

void t.test(
  'connections are led by the routes of their own, by name where TLS says one',
  async (t) => {
    const rule = (
      kind: 'TCPRoute' | 'TLSRoute',
      more: Partial<ConnectionRule>,
    ): ConnectionRule => ({
      route: { kind, namespace: 'shop', name: kind.slice(0, 3).toLowerCase(), rule: '0' },
      isTls: kind === 'TLSRoute',
      hostnames: [],
      backends: [to('catalog', 3), to('v2', 1)],
      fault: undefined,
      ...more,
    })
    const led = await ask({ connections: [rule('TCPRoute', {})] })
    t.strictSame(led.said.slice(0, 2), [
      'ok: waypoint shop/way carries it as it is: routes of connections are at its port, and none of requests',
      'ok: TCPRoute shop/tcp rule 0 takes the connection',
    ])
    t.match(led.route, {
      object: 'TCPRoute shop/tcp',
      details: [
        '3 of 4 to shop/catalog.shop.svc.cluster.local port 80',
        '1 of 4 to shop/v2.shop.svc.cluster.local port 80',
      ],
    })
    t.strictSame(led.leads, ['10.244.2.3:8080'])

    const names = rule('TLSRoute', { hostnames: ['*.shop.svc.cluster.local'] })
    t.match((await ask({ protocol: 'tls', connections: [names] })).route, {
      what: 'TLSRoute shop/tls rule 0 takes TLS for catalog.shop.svc.cluster.local',
    })
    const other = await ask(
      { protocol: 'tls', connections: [names] },
      { host: 'other.example:443' },
    )
    t.match(other.said[1], /^note: waypoint shop\/way reads no requests there/)
    t.match(other.last, {
      result: 'stop',
      what: /closes the connection: no route takes it: it speaks TLS for other\.example$/,
      change: 'add a route that takes it',
    })
    const ill = rule('TCPRoute', { fault: 'its backend is unknown' })
    t.match(await ask({ connections: [ill] }), {
      last: { result: 'stop', what: /TCPRoute shop\/tcp: its backend is unknown/ },
      leads: [],
    })
    const requests = [sampleRule('all')]
    t.match((await ask({ rules: requests, connections: [ill] })).route, {
      what: /^HTTPRoute shop\/cart rule all takes GET/,
    })
    const both = await ask({
      rules: requests,
      connections: [rule('TCPRoute', {})],
      protocol: 'tcp',
    })
    t.match(both.route, { object: 'TCPRoute shop/tcp' }, 'which carries no requests')
  },
)

void t.test(
  'the BackendTLSPolicy by which a backend is spoken to is named, and what it trusts',
  async (t) => {
    const tls = (name: string, more: Partial<BackendTls> = {}): BackendTls => {
      const service = `shop/${name}.shop.svc.cluster.local`
      return {
        ...{ key: backendTlsKey(service, more.port), service, port: undefined },
        ...{ policy: `shop/${name}-tls`, hostname: `${name}.example`, subjectAltNames: [] },
        ...{ authorities: 'PEM', fault: undefined, ...more },
      }
    }
    const spoken = await ask({ tls: [tls('catalog')] })
    t.match(spoken, {
      tls: {
        result: 'ok',
        what: 'waypoint shop/way speaks TLS to shop/catalog.shop.svc.cluster.local, and asks for catalog.example',
        object: 'BackendTLSPolicy shop/catalog-tls',
        details: [
          'the certificate is for catalog.example',
          'trusted are the authorities of the ConfigMap that it names',
        ],
      },
      leads: ['10.244.2.3:8080'],
    })
    const named = tls('catalog', {
      port: 80,
      authorities: undefined,
      subjectAltNames: [
        { kind: 'dns', value: 'a.example' },
        { kind: 'uri', value: 'spiffe://a/b' },
      ],
    })
    t.match((await ask({ tls: [tls('catalog'), named] })).tls, {
      what: /catalog\.shop\.svc\.cluster\.local port 80, and asks/,
      details: [
        'the certificate is for a.example or spiffe://a/b',
        "trusted are the well-known authorities of the waypoint's system",
      ],
    })

    const fault = 'spec.validation.caCertificateRefs[0] names ConfigMap shop/ca, which is not there'
    const none = await ask({ tls: [tls('catalog', { fault })] })
    t.match(none.last, {
      step: 'tls',
      result: 'stop',
      what: /sends nothing to .*catalog.*: spec\.validation\.caCertificateRefs\[0\] names ConfigMap/,
      object: 'BackendTLSPolicy shop/catalog-tls',
    })
    t.strictSame(none.leads, [], 'it leads nowhere')
    const rules = [sampleRule('both', undefined, { backends: [to('catalog', 1), to('v2', 1)] })]
    const half = await ask({ rules, tls: [tls('v2', { fault })] })
    t.match(half.tls, { result: 'note', object: 'BackendTLSPolicy shop/v2-tls' })
    t.strictSame(half.leads, ['10.244.2.3:8080'], 'the other backend is there')

    const closed: ConnectionRule = {
      route: { kind: 'TLSRoute', namespace: 'shop', name: 'tls', rule: '0' },
      isTls: true,
      hostnames: [],
      backends: [to('catalog', 1)],
      fault: undefined,
    }
    const passed = await ask({ protocol: 'tls', connections: [closed], tls: [tls('catalog')] })
    t.equal(passed.tls, undefined, 'whoever speaks TLS already is let be')
  },
)

void t.test('no key of a session is in what is dumped', async (t) => {
  const session = {
    kind: 'cookie',
    name: 's',
    absoluteMs: 0,
    idleMs: 0,
    isPermanent: false,
  } as const
  const rules = [sampleRule('r', undefined, { session: { ...session, key: KEY } })]
  const dump = JSON.stringify(await dumpOf({ rules }))
  t.notMatch(dump, KEY)
  const encoded = Object.values(
    (JSON.parse(dump) as { resources: { types: Record<string, Record<string, string>> } }).resources
      .types,
  ).flatMap((resources) => Object.values(resources))
  t.ok(encoded.length > 0)
  for (const text of encoded) t.notOk(Buffer.from(text, 'base64').includes(KEY))
})

void t.test('a request that could not be sent is refused by what is wrong with it', (t) => {
  t.match(parseHeader('X-User=ann'), { ok: true, value: ['x-user', 'ann'] })
  for (const text of ['x-user', '=ann', 'a b=c']) t.match(parseHeader(text), { ok: false }, text)
  t.equal(requestProblem(PLAIN_REQUEST), undefined)
  t.match(requestProblem({ ...PLAIN_REQUEST, path: 'admin' }), /does not begin with a slash/)
  t.match(requestProblem({ ...PLAIN_REQUEST, method: 'G T' }), /is no token/)
  t.match(waypointView({}), { ok: false, error: /has no resources/ })
  t.end()
})
