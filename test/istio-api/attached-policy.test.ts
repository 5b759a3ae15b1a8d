// SPDX-License-Identifier: Apache-2.0
// What an AuthorizationPolicy becomes that is attached to a waypoint, a Service or a class: field by field, never wider than it is written,
// and what its status says.

import t from 'tap'
import type { InputObjects } from '../../controller/core/input.ts'
import { EMPTY_MATCH } from '../../mesh/model/policy.ts'
import {
  EMPTY_REQUEST_MATCH,
  type RequestMatch,
  WAYPOINT_POLICY,
  type WaypointPolicy,
} from '../../mesh/model/waypoint-policy.ts'
import { WAYPOINT_POLICIES } from '../../mesh/xds/types/waypoint-policy.ts'
import { kubePod, kubeService, startTranslator } from '../core/objects.ts'
import { gatewayClass, waypoint } from '../gateway-api/gateway-objects.ts'

const GATEWAY = { group: 'gateway.networking.k8s.io', kind: 'Gateway', name: 'way' }
const SERVICE = { kind: 'Service', name: 'catalog' }
const USE = { 'istio.io/use-waypoint': 'way' }

function bound(name: string, labels: Record<string, string> = USE): InputObjects['Service'] {
  const service = kubeService(name)
  return { ...service, metadata: { ...service.metadata, labels } }
}

/** A mesh with the waypoint shop/way, and the Service catalog that uses it. */
function start() {
  const run = startTranslator()
  run.translator.complete()
  run.translator.upsert('GatewayClass', gatewayClass())
  run.translator.upsert('Gateway', waypoint('way'))
  run.translator.upsert('Service', bound('catalog'))
  const put = (spec: object, namespace = 'shop', more: object = {}): void =>
    run.translator.upsert('AuthorizationPolicy', {
      metadata: { name: 'p', namespace, ...more },
      spec,
    })
  const policy = (): WaypointPolicy | undefined => [...run.state.waypointPolicies][0]
  /** The condition, without its message, and the message. */
  const status = (namespace = 'shop'): readonly string[] => {
    const [text = ''] = run.statuses(`${namespace}/p`)
    const words = text.split(' ')
    return [words.slice(0, 3).join(' '), words.slice(3).join(' ')]
  }
  return { ...run, put, policy, status }
}

/** The one match of a policy with one rule, as far as it says anything. */
function matchOf(rule: object): object | undefined {
  const { put, policy } = start()
  put({ targetRefs: [GATEWAY], rules: [rule] })
  const match = policy()?.rules[0]?.clauses[0]?.matches[0]
  return (
    match &&
    Object.fromEntries(
      Object.entries(match).filter(
        ([field, value]) =>
          JSON.stringify(value) !==
          JSON.stringify(EMPTY_REQUEST_MATCH[field as keyof RequestMatch]),
      ),
    )
  )
}

const operation = (fields: object) => ({ to: [{ operation: fields }] })
const exact = (text: string) => ({ kind: 'exact', text }) as const

void t.test('each condition on requests becomes its field, with its negation', (t) => {
  const texts = ['GET', 'a*', '*b', '*']
  const matches = [
    exact('GET'),
    { kind: 'prefix', text: 'a' },
    { kind: 'suffix', text: 'b' },
    { kind: 'present' },
  ]
  for (const [field, negation] of [
    ['methods', 'notMethods'],
    ['hosts', 'notHosts'],
    ['paths', 'notPaths'],
  ] as const) {
    t.strictSame(matchOf(operation({ [field]: texts })), { [field]: matches })
    t.strictSame(matchOf(operation({ [negation]: texts })), { [negation]: matches })
  }
  t.strictSame(matchOf(operation({ paths: ['/a/{*}/b', '/c/{**}', '/{*}/{**}/d'] })), {
    paths: ['/a/{*}/b', '/c/{**}', '/{*}/{**}/d'].map((text) => ({ kind: 'template', text })),
  })
  t.strictSame(
    matchOf({ when: [{ key: 'request.headers[X-User]', values: ['ann'], notValues: ['*'] }] }),
    {
      headers: [
        { name: 'x-user', values: [exact('ann')], notValues: [] },
        { name: 'x-user', values: [], notValues: [{ kind: 'present' }] },
      ],
    },
  )
  t.strictSame(matchOf({ when: [{ key: 'connection.sni', notValues: ['a'] }] }), {
    notSnis: [exact('a')],
  })
  t.strictSame(matchOf({ from: [{ source: { namespaces: ['front'] } }] }), {
    connection: { ...EMPTY_MATCH, namespaces: [exact('front')] },
  })
  t.strictSame(matchOf(operation({ ports: ['80'], methods: ['GET'] })), {
    connection: { ...EMPTY_MATCH, destinationPorts: [80] },
    methods: [exact('GET')],
  })
  t.end()
})

void t.test('what cannot be evaluated allows nothing, and denies', (t) => {
  const get = { methods: ['GET'] }
  for (const [why, rule] of [
    ['a token', { from: [{ source: { requestPrincipals: ['*'] } }], to: [{ operation: get }] }],
    [
      'X-Forwarded-For',
      { from: [{ source: { remoteIpBlocks: ['10.0.0.0/8'] } }], to: [{ operation: get }] },
    ],
    [
      'a key of a token',
      { ...operation(get), when: [{ key: 'request.auth.claims[iss]', values: ['x'] }] },
    ],
    [
      'a key that is none',
      { ...operation(get), when: [{ key: 'request.header[x]', values: ['x'] }] },
    ],
    [
      'a pseudo header',
      { ...operation(get), when: [{ key: 'request.headers[:path]', values: ['x'] }] },
    ],
    ['a field that is none', { to: [{ operation: { ...get, path: ['/x'] } }] }],
    ['a bad template', { to: [{ operation: { ...get, paths: ['/a/x{*}'] } }] }],
    ['an operator after {**}', { to: [{ operation: { ...get, paths: ['/{**}/{*}'] } }] }],
    ['braces', { to: [{ operation: { ...get, paths: ['/{id}'] } }] }],
    [
      'a filter',
      { ...operation(get), when: [{ key: 'experimental.envoy.filters.a[b]', values: ['x'] }] },
    ],
  ] as const) {
    const { put, policy, status } = start()
    put({ targetRefs: [GATEWAY], rules: [rule] })
    t.strictSame(policy()?.rules, [], `${why}: ALLOW`)
    t.match(status()[0], /^WaypointAccepted True (?:UnsupportedValue|PartiallyInvalid)$/, why)
    t.match(status()[1], /bound to shop\/way; stricter than written/)
    put({ action: 'DENY', targetRefs: [GATEWAY], rules: [rule] })
    t.match(
      policy()?.rules,
      [{ clauses: [{ matches: [{ methods: [exact('GET')] }] }] }],
      `${why}: DENY`,
    )
  }
  t.end()
})

void t.test('what a policy is attached to, and what its status says of that', (t) => {
  const { put, policy, status, translator } = start()
  const rules = [operation({ methods: ['GET'] })]
  put({ targetRefs: [GATEWAY, SERVICE], rules })
  t.strictSame(policy()?.targets, [
    { kind: 'waypoint', namespace: 'shop', name: 'way' },
    { kind: 'service', namespace: 'shop', name: 'catalog' },
  ])
  t.strictSame(status(), ['WaypointAccepted True Accepted', 'bound to shop/way'])
  put({ targetRef: { group: '', ...SERVICE }, rules })
  t.match(policy()?.targets, [{ kind: 'service' }], 'the field of before')
  translator.upsert('Service', bound('catalog', {}))
  t.match(status(), [
    'WaypointAccepted False AncestorNotBound',
    /Service shop\/catalog uses no waypoint/,
  ])
  translator.upsert('Service', bound('catalog'))
  t.match(status()[0], 'WaypointAccepted True Accepted')
  put({ targetRefs: [SERVICE, { ...SERVICE, name: 'gone' }], rules })
  t.match(status(), [
    'WaypointAccepted True PartiallyInvalid',
    /spec\.targetRefs\[1\]: Service shop\/gone is not there/,
  ])
  put({ targetRefs: [{ ...GATEWAY, name: 'gone' }], rules })
  t.match(status()[0], 'WaypointAccepted False TargetNotFound')
  translator.upsert('Gateway', waypoint('gone', { spec: { gatewayClassName: 'theirs' } }))
  t.strictSame(status(), ['', ''], "somebody else's Gateway is somebody else's to speak of")
  put({ targetRefs: [{ group: 'networking.istio.io', kind: 'ServiceEntry', name: 'x' }], rules })
  t.equal(policy(), undefined)
  t.match(status()[0], 'WaypointAccepted False AncestorNotBound')
  put({ targetRefs: [{ kind: 'Deployment', name: 'catalog' }], rules })
  t.equal(policy(), undefined)
  t.match(status(), ['WaypointAccepted False AncestorNotBound', /spec\.targetRefs\[0\]\.kind/])
  put({ targetRefs: [{ ...SERVICE, namespace: 'other' }], rules })
  t.equal(policy(), undefined, 'of another namespace')
  t.end()
})

void t.test('a class is all its waypoints, for policies of the root namespace', (t) => {
  const { put, policy, status, translator } = start()
  const spec = {
    targetRefs: [
      { group: 'gateway.networking.k8s.io', kind: 'GatewayClass', name: 'ambit-waypoint' },
    ],
    action: 'DENY',
    rules: [operation({ paths: ['/admin*'] })],
  }
  put(spec)
  t.equal(policy(), undefined)
  t.match(status()[1], /counts only for policies of namespace istio-system/)
  translator.delete('AuthorizationPolicy', 'shop', 'p')
  put(spec, 'istio-system')
  t.strictSame(policy()?.targets, [{ kind: 'waypoint', namespace: 'shop', name: 'way' }])
  translator.upsert('Gateway', waypoint('edge', { namespace: 'bank' }))
  t.match(policy()?.targets, [
    { namespace: 'bank', name: 'edge' },
    { namespace: 'shop', name: 'way' },
  ])
  t.match(status('istio-system'), ['WaypointAccepted True Accepted', /bank\/edge/])
  translator.delete('Gateway', 'bank', 'edge')
  translator.delete('Gateway', 'shop', 'way')
  t.equal(policy(), undefined)
  t.match(status('istio-system')[1], /a class of which there is no waypoint yet/)
  t.end()
})

void t.test('what cannot be read closes all that it may be about', (t) => {
  const { put, policy, status } = start()
  const rules = [operation({ methods: ['GET'] })]
  put({ targetRefs: [{ kind: 'Service' }], rules })
  t.match(policy(), {
    action: 'allow',
    rules: [],
    targets: [{ kind: 'namespace', namespace: 'shop' }],
  })
  t.match(status(), [
    'WaypointAccepted False Invalid',
    /it allows nothing to all calls that it may be about/,
  ])
  put({ targetRefs: [GATEWAY], rules, rulez: [] })
  t.match(policy(), { rules: [] })
  put({ targetRefs: [GATEWAY], action: 'DENY', rules: 'x' })
  t.match(policy()?.rules, [{ clauses: [], place: undefined }])
  put({ targetRefs: [GATEWAY], action: 'DENNY', rules })
  t.match(policy(), { action: 'deny', rules: [{ clauses: [] }] })
  put({ targetRefs: [GATEWAY], action: 'CUSTOM', provider: { name: 'x' }, rules })
  t.equal(policy(), undefined)
  t.match(status(), ['WaypointAccepted False UnsupportedValue', /NOT IN FORCE/])
  put({ targetRefs: [GATEWAY], action: 'AUDIT', rules }, 'shop', {
    annotations: { 'istio.io/dry-run': 'true' },
  })
  t.match(policy(), { isAudit: true, isDryRun: true, action: 'deny' })
  put({ targetRefs: 'x', rules })
  t.match(policy(), { rules: [], targets: [{ kind: 'namespace' }] })
  t.end()
})

void t.test(
  'a policy for a class holds for its waypoints as long as one of their pods runs',
  (t) => {
    const { put, policy, translator } = start()
    put(
      {
        targetRefs: [
          { group: 'gateway.networking.k8s.io', kind: 'GatewayClass', name: 'ambit-waypoint' },
        ],
        action: 'DENY',
      },
      'istio-system',
    )
    const targets = () => policy()?.targets.map(({ namespace, name }) => `${namespace}/${name}`)
    const pod = kubePod('way-1', {
      labels: {
        'gateway.networking.k8s.io/gateway-name': 'way',
        'gateway.networking.k8s.io/gateway-class-name': 'ambit-waypoint',
      },
    })
    translator.upsert('Pod', pod)
    t.strictSame(targets(), ['shop/way'])
    translator.delete('GatewayClass', '', 'ambit-waypoint')
    t.strictSame(targets(), ['shop/way'], 'the class is gone')
    translator.upsert('GatewayClass', gatewayClass())
    translator.upsert('Gateway', waypoint('way', { spec: { gatewayClassName: 'another' } }))
    t.strictSame(targets(), ['shop/way'], 'it is of another class')
    translator.delete('Gateway', 'shop', 'way')
    t.strictSame(targets(), ['shop/way'], 'it is gone')
    translator.delete('Pod', 'shop', 'way-1')
    t.equal(targets(), undefined, 'and so are its pods')
    t.end()
  },
)

void t.test('agents have nothing of it, and it is the same on the wire', (t) => {
  const { put, policy, state } = start()
  put({
    targetRefs: [GATEWAY],
    action: 'DENY',
    rules: [
      {
        from: [{ source: { principals: ['cluster.local/ns/a/sa/b'] } }],
        to: [{ operation: { paths: ['/a/{*}', '/b*'] } }],
      },
      { when: [{ key: 'request.headers[x]', notValues: ['y'] }] },
      {},
    ],
  })
  t.equal(state.policies.size, 0)
  const written = policy()
  if (written === undefined) throw new Error('there is none')
  t.strictSame(WAYPOINT_POLICY.decode(WAYPOINT_POLICY.encode(written)), {
    ok: true,
    value: written,
  })
  t.match(WAYPOINT_POLICIES.decode('shop/other', WAYPOINT_POLICIES.encode(written)), { ok: false })
  t.end()
})
