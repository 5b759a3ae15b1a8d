// SPDX-License-Identifier: Apache-2.0
// An HTTPRoute or GRPCRoute as it is written, and what a waypoint gets of it; what is odd about it, and what becomes of the rest.

import fc from 'fast-check'
import t from 'tap'
import type { InputObjects } from '../../controller/core/input.ts'
import { backend, CATALOG, kubeRoute, startShop } from './route-objects.ts'

const UNBOUND = 'ResolvedWaypoints=False/MissingUseWaypointLabel'

void t.test('a rule with everything in it reaches the waypoint whole', (t) => {
  const shop = startShop()
  shop.translator.upsert(
    'HTTPRoute',
    kubeRoute('all', [
      {
        name: 'canary',
        matches: [
          {
            path: { type: 'PathPrefix', value: '/a/' },
            method: 'GET',
            headers: [
              { name: 'X-User', value: 'ann' },
              { name: 'x-user', value: 'of the same name, so it is not looked at' },
              { type: 'RegularExpression', name: 'Version', value: 'v[12]' },
            ],
            queryParams: [{ name: 'Lang', value: 'de' }],
          },
        ],
        filters: [
          {
            type: 'RequestHeaderModifier',
            requestHeaderModifier: {
              set: [{ name: 'X-A', value: ' 1 ' }],
              add: [{ name: 'X-B', value: '2' }],
              remove: ['X-C'],
            },
          },
          {
            type: 'URLRewrite',
            urlRewrite: {
              hostname: 'catalog.example',
              path: { type: 'ReplacePrefixMatch', replacePrefixMatch: '/b' },
            },
          },
          {
            type: 'CORS',
            cors: { allowOrigins: ['https://*.example.com'], allowMethods: ['*'], maxAge: 60 },
          },
        ],
        backendRefs: [
          backend('catalog-v1', { weight: 90 }),
          backend('catalog-v2', {
            weight: 10,
            filters: [
              {
                type: 'ResponseHeaderModifier',
                responseHeaderModifier: { add: [{ name: 'Served-By', value: 'v2' }] },
              },
            ],
          }),
        ],
        timeouts: { request: '1m30s', backendRequest: '500ms' },
        retry: { attempts: 3, codes: [503, 503], backoff: '10ms' },
      },
    ]),
  )
  const to = (name: string) => ({
    kind: 'service',
    service: `shop/${name}.shop.svc.cluster.local`,
    port: 80,
  })
  t.same(shop.problems, [])
  t.strictSame(shop.state.httpRoutes.find(CATALOG, 80, undefined), {
    key: CATALOG,
    service: CATALOG,
    port: undefined,
    clients: undefined,
    connections: [],
    rules: [
      {
        route: { kind: 'HTTPRoute', namespace: 'shop', name: 'all', rule: 'canary' },
        matches: [
          {
            path: { kind: 'prefix', value: '/a' },
            method: 'GET',
            headers: [
              { name: 'x-user', match: { kind: 'exact', value: 'ann' } },
              { name: 'version', match: { kind: 'regex', value: 'v[12]' } },
            ],
            queryParams: [{ name: 'Lang', match: { kind: 'exact', value: 'de' } }],
          },
        ],
        filters: [
          {
            kind: 'requestHeaders',
            edit: {
              set: [{ name: 'x-a', value: '1' }],
              add: [{ name: 'x-b', value: '2' }],
              remove: ['x-c'],
            },
          },
          {
            kind: 'rewrite',
            hostname: 'catalog.example',
            path: { kind: 'prefix', value: '/b' },
          },
          {
            kind: 'cors',
            allowOrigins: ['https://*.example.com'],
            allowMethods: ['*'],
            allowHeaders: [],
            exposeHeaders: [],
            allowCredentials: false,
            maxAgeSeconds: 60,
          },
        ],
        backends: [
          { target: to('catalog-v1'), weight: 90, filters: [] },
          {
            target: to('catalog-v2'),
            weight: 10,
            filters: [
              {
                kind: 'responseHeaders',
                edit: { set: [], add: [{ name: 'served-by', value: 'v2' }], remove: [] },
              },
            ],
          },
        ],
        timeouts: { requestMs: 90_000, backendRequestMs: 500 },
        retry: { attempts: 3, codes: [503], backoffMs: 10 },
        session: undefined,
        fault: undefined,
      },
    ],
  })
  t.same(shop.conditions('shop/all'), [`catalog: Accepted=True ResolvedRefs=True ${UNBOUND}`])
  t.end()
})

void t.test('what a rule does not say is as the Gateway API has it', (t) => {
  const shop = startShop()
  const redirect = { type: 'RequestRedirect', requestRedirect: { port: 8443 } }
  shop.translator.upsert(
    'HTTPRoute',
    kubeRoute('plain', [
      { backendRefs: [backend('catalog-v1')] },
      { filters: [redirect] },
      { retry: {} },
    ]),
  )
  const [first, second, third] = shop.rules() ?? []
  t.same(first?.matches, [
    { path: { kind: 'prefix', value: '/' }, method: undefined, headers: [], queryParams: [] },
  ])
  t.same(first?.backends[0]?.weight, 1)
  t.same(first?.retry, undefined)
  t.match(second?.filters, [{ kind: 'redirect', status: 302, port: 8443, scheme: undefined }])
  t.same(third?.retry, { attempts: 2, codes: [], backoffMs: 25 })

  shop.translator.upsert('HTTPRoute', kubeRoute('plain', undefined))
  t.match(shop.rules(), [{ route: { rule: '0' }, backends: [], fault: undefined }])
  t.end()
})

const modifier = (edit: object) => ({
  filters: [{ type: 'RequestHeaderModifier', requestHeaderModifier: edit }],
})

void t.test('a path is matched as requests for it are normalised', (t) => {
  const shop = startShop()
  const matches = [
    { path: { type: 'Exact', value: '/%7Ejoe/%2d' } },
    { path: { type: 'PathPrefix', value: '/caf%c3%a9/' } },
  ]
  shop.translator.upsert(
    'HTTPRoute',
    kubeRoute('plain', [
      { matches, backendRefs: [backend('catalog-v1')] },
      { matches: [{ path: { type: 'Exact', value: '/a/%2E%2e/b' } }] },
    ]),
  )
  t.match(shop.rules()?.[0]?.matches, [
    { path: { kind: 'exact', value: '/~joe/-' } },
    { path: { kind: 'prefix', value: '/caf%C3%A9' } },
  ])
  t.match(shop.rules()?.[1]?.fault, /dots/, 'no request can be for that one')
  t.end()
})

void t.test('of two values for one header the first one is written, whatever its case', (t) => {
  const shop = startShop()
  const twice = [
    { name: 'X-Team', value: 'blue' },
    { name: 'x-team', value: 'green' },
    { name: 'x-other', value: '1' },
  ]
  shop.translator.upsert(
    'HTTPRoute',
    kubeRoute('plain', [
      { ...modifier({ set: twice, add: twice }), backendRefs: [backend('catalog-v1')] },
    ]),
  )
  const written = [
    { name: 'x-team', value: 'blue' },
    { name: 'x-other', value: '1' },
  ]
  t.same(shop.rules()?.[0]?.filters, [
    { kind: 'requestHeaders', edit: { set: written, add: written, remove: [] } },
  ])
  t.end()
})

const path = (type: string, value: string) => ({ matches: [{ path: { type, value } }] })
const rewrite = { type: 'URLRewrite', urlRewrite: { hostname: 'a.example' } }
const prefixRewrite = {
  type: 'URLRewrite',
  urlRewrite: { path: { type: 'ReplacePrefixMatch', replacePrefixMatch: '/' } },
}

/** Each is one rule, and the flaw that its status names. */
const FLAWED: readonly (readonly [string, unknown, string])[] = [
  ['a rule that is no map', 'x', 'spec.rules[1] is not a map'],
  [
    'a field that is not known',
    { newField: 1 },
    'spec.rules[1].newField is no field that is known',
  ],
  [
    'a filter that is not known',
    { filters: [{ type: 'ExtensionRef', extensionRef: { name: 'x' } }] },
    'spec.rules[1].filters[0].type "ExtensionRef" is none of them',
  ],
  [
    'a filter without what it is to do',
    { filters: [{ type: 'CORS' }] },
    'spec.rules[1].filters[0].cors is not there',
  ],
  [
    'a second filter of a type',
    { filters: [rewrite, rewrite] },
    'spec.rules[1].filters[1] is the second filter of its type',
  ],
  ['a name of a header that is none', modifier({ remove: ['x y'] }), 'is not the name of a header'],
  [
    'a value that would end its line',
    modifier({ set: [{ name: 'a', value: 'b\r\nc: d' }] }),
    'is not one line of ASCII characters',
  ],
  [
    'a value that would end its line once it is cut to bytes',
    modifier({ set: [{ name: 'a', value: 'bĊc: d' }] }),
    'is not one line of ASCII characters',
  ],
  [
    'a header that says where a message ends',
    modifier({ set: [{ name: 'Transfer-Encoding', value: 'chunked' }] }),
    'transfer-encoding is none that a filter may change',
  ],
  ['an expression that is none', path('RegularExpression', '/(a'), 'is no RE2 expression'],
  [
    'an expression that would backtrack',
    path('RegularExpression', '(a)\\1'),
    'is no RE2 expression',
  ],
  [
    'an expression that would fill the memory',
    path('RegularExpression', '((a{1000}){1000}){1000}'),
    'is no RE2 expression',
  ],
  ['a relative path', path('Exact', 'a'), 'is not an absolute path'],
  ['a path that no request has', path('PathPrefix', '/a/../b'), 'which no normalised path has'],
  ['a kind of match that is not known', path('Suffix', '/a'), 'path.type "Suffix" is none of them'],
  ['a method that is not known', { matches: [{ method: 'get' }] }, 'method "get" is none of them'],
  ['a time that is none', { timeouts: { request: '5 s' } }, 'is not a duration'],
  [
    'a try that may last longer than the whole',
    { timeouts: { request: '1s', backendRequest: '2s' } },
    'backendRequest is longer than the request may take',
  ],
  ['a code that is no error', { retry: { codes: [200] } }, 'codes[0] 200 is not a whole number'],
  ['tries without end', { retry: { attempts: 1e9 } }, 'attempts 1000000000 is not a whole number'],
  ['a weight below nothing', { backendRefs: [backend('catalog', { weight: -1 })] }, 'weight -1'],
  [
    'a permanent cookie without an end',
    { sessionPersistence: { cookieConfig: { lifetimeType: 'Permanent' } } },
    'absoluteTimeout must say how long a permanent cookie lives',
  ],
  [
    'a redirect that has backends',
    {
      filters: [{ type: 'RequestRedirect', requestRedirect: {} }],
      backendRefs: [backend('catalog')],
    },
    'has a redirect beside backendRefs',
  ],
  [
    'a prefix to replace where none matches',
    { ...path('Exact', '/a'), filters: [prefixRewrite] },
    'not every match of the rule is by prefix',
  ],
  [
    'a mirror of more than all',
    {
      filters: [
        {
          type: 'RequestMirror',
          requestMirror: {
            backendRef: backend('catalog'),
            fraction: { numerator: 3, denominator: 2 },
          },
        },
      ],
    },
    'numerator 3 is not a whole number from 0 to 2',
  ],
]

void t.test('a rule that cannot be used answers with an error, and the others serve', (t) => {
  for (const [what, rule, flaw] of FLAWED) {
    const shop = startShop()
    const good = { matches: [{ path: { value: '/good' } }], backendRefs: [backend('catalog-v1')] }
    shop.translator.upsert('HTTPRoute', kubeRoute('odd', [good, rule]))
    const [first, second] = shop.rules() ?? []
    t.equal(first?.fault, undefined, what)
    t.match(first?.backends, [{ target: { kind: 'service' } }])
    t.ok(second?.fault?.includes(flaw), `${what}: ${second?.fault}`)
    t.same([second?.filters, second?.backends], [[], []])
    t.same(shop.conditions('shop/odd'), [
      `catalog: Accepted=True ResolvedRefs=True PartiallyInvalid=True/UnsupportedValue ${UNBOUND}`,
    ])
    const message = shop.message('shop/odd', 'PartiallyInvalid') ?? ''
    t.ok(message.startsWith('Dropped Rule 1') && message.includes(flaw), message)
    t.ok(shop.problems.length > 0, 'the log has it, too')
  }
  t.end()
})

void t.test('a faulty rule takes the requests that it was written for', (t) => {
  const shop = startShop()
  const odd = [{ path: { value: '/a' } }, { path: { type: 'RegularExpression', value: '(' } }]
  shop.translator.upsert('HTTPRoute', kubeRoute('odd', [{ matches: odd }]))
  t.match(shop.rules(), [{ matches: [{ path: { kind: 'prefix', value: '/a' } }] }])
  t.match(shop.rules()?.[0]?.matches.length, 1)
  t.match(shop.conditions('shop/odd'), [/^catalog: Accepted=False\/UnsupportedValue/])

  const torn = [rewrite, { type: 'RequestRedirect', requestRedirect: {} }]
  shop.translator.upsert('HTTPRoute', kubeRoute('odd', [{ filters: torn }]))
  t.match(shop.conditions('shop/odd'), [/^catalog: Accepted=False\/IncompatibleFilters/])

  shop.translator.upsert('HTTPRoute', kubeRoute('odd', 'no list'))
  t.match(shop.rules(), [{ matches: [{ path: { kind: 'prefix', value: '/' } }] }])
  t.match(shop.rules()?.[0]?.fault, 'spec.rules "no list" is not a list')
  t.end()
})

void t.test('calls of gRPC are requests for /service/method', (t) => {
  const shop = startShop()
  const methods = [
    { service: 'shop.Catalog', method: 'Get' },
    { service: 'shop.Catalog' },
    { method: 'Get' },
    { type: 'RegularExpression', service: 'shop\\..*', method: 'Get|List' },
    { type: 'RegularExpression', method: '[GL].*' },
  ]
  shop.translator.upsert(
    'GRPCRoute',
    kubeRoute('calls', [
      { matches: methods.map((method) => ({ method })), backendRefs: [backend('catalog-v1')] },
      { matches: [{ headers: [{ name: 'Tenant', value: 'a' }] }] },
    ]),
  )
  const [first, second] = shop.rules() ?? []
  t.same(
    first?.matches.map((match) => match.path),
    [
      { kind: 'exact', value: '/shop.Catalog/Get' },
      { kind: 'prefix', value: '/shop.Catalog' },
      { kind: 'regex', value: '/[^/]+/Get' },
      { kind: 'regex', value: '/(?:shop\\..*)/(?:Get|List)' },
      { kind: 'regex', value: '/[^/]+/(?:[GL].*)' },
    ],
  )
  t.equal(first?.route.kind, 'GRPCRoute')
  t.match(second?.matches, [
    { path: { kind: 'prefix', value: '/' }, headers: [{ name: 'tenant' }] },
  ])

  const odd = [{ matches: [{ method: { service: 'a/b' } }] }, { timeouts: { request: '1s' } }]
  shop.translator.upsert('GRPCRoute', kubeRoute('calls', odd))
  t.match(shop.rules(), [{ fault: /is not a service of gRPC/ }, { fault: /timeouts is no field/ }])
  shop.translator.upsert('GRPCRoute', kubeRoute('calls', undefined))
  t.same(shop.rules(), [], 'a route without rules has none')
  t.end()
})

void t.test('no route, whatever is in it, throws or stops the next one', (t) => {
  const shop = startShop()
  const odd = fc.letrec((tie) => ({
    rule: fc.record(
      {
        name: fc.jsonValue(),
        matches: tie('list'),
        filters: tie('list'),
        backendRefs: tie('list'),
        timeouts: tie('value'),
        retry: tie('value'),
        sessionPersistence: tie('value'),
      },
      { requiredKeys: [] },
    ),
    list: fc.oneof(fc.jsonValue(), fc.array(tie('value'), { maxLength: 3 })),
    value: fc.oneof(
      fc.jsonValue(),
      fc.record(
        {
          type: fc.constantFrom('Exact', 'RegularExpression', 'CORS', 'RequestMirror', 5),
          path: fc.jsonValue(),
          headers: fc.jsonValue(),
          method: fc.jsonValue(),
          cors: fc.jsonValue(),
          requestMirror: fc.jsonValue(),
          name: fc.jsonValue(),
          value: fc.jsonValue(),
        },
        { requiredKeys: [] },
      ),
    ),
  }))
  const kinds = fc.constantFrom<'HTTPRoute' | 'GRPCRoute'>('HTTPRoute', 'GRPCRoute')
  fc.assert(
    fc.property(
      kinds,
      fc.oneof(fc.array(odd.rule, { maxLength: 3 }), fc.jsonValue()),
      fc.oneof(fc.jsonValue(), fc.constant(undefined)),
      (kind, rules, parents) => {
        const route = kubeRoute('odd', rules)
        const spec = parents === undefined ? route.spec : { parentRefs: parents, rules }
        shop.translator.upsert(kind, { ...route, spec, status: parents })
      },
    ),
    { numRuns: 1000 },
  )
  for (const object of [{}, { metadata: null }, { metadata: { name: 'a', namespace: 'shop' } }])
    shop.translator.upsert('ReferenceGrant', object as InputObjects['ReferenceGrant'])
  t.ok(shop.problems.length > 100)
  for (const { field, reason } of shop.problems)
    if (field === '' || reason.startsWith('cannot be read')) t.fail(`${field} ${reason}`)
  // Where there are GRPCRoutes no HTTPRoute counts.
  shop.translator.delete('GRPCRoute', 'shop', 'odd')
  shop.translator.upsert('HTTPRoute', kubeRoute('good', [{ backendRefs: [backend('catalog-v1')] }]))
  t.ok(shop.rules()?.some(({ route, fault }) => route.name === 'good' && fault === undefined))
  t.end()
})
