// SPDX-License-Identifier: Apache-2.0
// What becomes of a request under its rule: forwarded with what is changed, answered, or refused with the reason.

import t from 'tap'
import type { HttpFilter, HttpMatch, HttpRule } from '../../../mesh/model/http-routes.ts'
import { type AskedRequest, RuleActions } from '../../../waypoint/router/rule-actions.ts'
import type { RoutedAnswer, RoutedForward } from '../../../waypoint/router/types.ts'
import { sampleFields, sampleMatch, sampleRule } from './samples.ts'

const CORS: HttpFilter = {
  kind: 'cors',
  allowOrigins: ['https://a.example'],
  allowMethods: ['GET'],
  allowHeaders: [],
  exposeHeaders: [],
  allowCredentials: false,
  maxAgeSeconds: 5,
}
const toV2: HttpFilter = {
  kind: 'responseHeaders',
  edit: { set: [{ name: 'x-version', value: '2' }], add: [], remove: [] },
}
const anyMatch = sampleMatch()

function follow(
  given: Partial<HttpRule>,
  request: Partial<AskedRequest & { headers: readonly (readonly [string, string])[] }> = {},
  { random = 0, match = anyMatch }: { random?: number; match?: HttpMatch } = {},
): RoutedForward | RoutedAnswer {
  const rule = sampleRule('one', [match], given)
  const { headers = [], ...asked } = request
  return new RuleActions(rule).follow(
    { rule, match },
    { method: 'GET', path: '/a/b', query: '', authority: 'cart.shop', ...asked },
    sampleFields(headers),
    () => random,
  )
}

const backend = (name: string, weight: number, filters: readonly HttpFilter[] = []) => ({
  target: { kind: 'service' as const, service: `shop/${name}`, port: 80 },
  weight,
  filters,
})

void t.test('a rule without filters sends its requests on as they are, by its own times', (t) => {
  const retry = { attempts: 2, codes: [503], backoffMs: 25 }
  const timeouts = { requestMs: 1_000, backendRequestMs: 300 }
  t.match(follow({ timeouts, retry }), {
    kind: 'forward',
    target: undefined,
    authority: undefined,
    requestEdits: undefined,
    responseEdits: undefined,
    requestMs: 1_000,
    backendRequestMs: 300,
    retry,
    route: { name: 'cart', rule: 'one' },
    mirrors: [],
  })
  t.end()
})

void t.test(
  'backends get their share, and those that cannot be resolved answer for theirs',
  (t) => {
    const backends = [
      backend('v1', 9),
      {
        target: { kind: 'unresolved' as const, reason: 'no Service shop/v2' },
        weight: 1,
        filters: [],
      },
    ]
    t.match(follow({ backends }), { kind: 'forward', backend: { service: 'shop/v1' } })
    t.match(follow({ backends }, {}, { random: 0.95 }), {
      kind: 'answer',
      status: 500,
      message: 'no Service shop/v2',
    })
    t.match(follow({ backends: [] }), { kind: 'answer', status: 500 })
    t.match(follow({ backends: [backend('v1', 0)] }), { kind: 'answer', status: 500 })
    t.end()
  },
)

void t.test(
  'what a backend changes is changed for its share alone, after what the rule does',
  (t) => {
    const backends = [backend('v1', 1), backend('v2', 1, [toV2])]
    t.match(follow({ backends }), { responseEdits: undefined })
    t.match(follow({ backends }, {}, { random: 0.5 }), {
      backend: { service: 'shop/v2' },
      responseEdits: { added: [{ name: 'x-version', value: '2' }] },
    })
    t.end()
  },
)

void t.test('a rule that cannot be followed refuses all of its requests', (t) => {
  t.match(follow({ fault: 'a filter is not known' }), {
    kind: 'answer',
    status: 500,
    flag: 'NR',
    message: 'a filter is not known',
  })
  const framing: HttpFilter = {
    kind: 'requestHeaders',
    edit: { set: [{ name: 'content-length', value: '0' }], add: [], remove: [] },
  }
  t.match(follow({ filters: [framing] }), { status: 500, message: /content-length/ })
  const rewrite: HttpFilter = {
    kind: 'rewrite',
    hostname: undefined,
    path: { kind: 'prefix', value: '/x' },
  }
  t.match(
    follow(
      { filters: [rewrite] },
      {},
      { match: sampleMatch({ path: { kind: 'exact', value: '/a/b' } }) },
    ),
    { status: 500, message: /prefix/ },
  )
  t.match(follow({ backends: [backend('v1', 1, [CORS])] }), { status: 500, message: /cors/ })
  t.end()
})

void t.test('a redirect asks no backend', (t) => {
  const redirect: HttpFilter = {
    kind: 'redirect',
    scheme: 'https',
    hostname: undefined,
    port: undefined,
    path: { kind: 'prefix', value: '/new' },
    status: 301,
  }
  const match = sampleMatch({ path: { kind: 'prefix', value: '/a/' } })
  t.match(follow({ filters: [redirect, toV2], backends: [] }, { query: 'q=1' }, { match }), {
    kind: 'answer',
    status: 301,
    headers: [
      ['location', 'https://cart.shop/new/b?q=1'],
      ['x-version', '2'],
    ],
    flag: '-',
    message: undefined,
  })
  t.end()
})

void t.test('a rewrite changes path and host, and keeps the query', (t) => {
  const rewrite: HttpFilter = {
    kind: 'rewrite',
    hostname: 'one.example',
    path: { kind: 'prefix', value: '/' },
  }
  const match = sampleMatch({ path: { kind: 'prefix', value: '/a' } })
  t.match(follow({ filters: [rewrite] }, { query: 'q=1' }, { match }), {
    kind: 'forward',
    target: '/b?q=1',
    authority: 'one.example',
  })
  t.end()
})

void t.test(
  'pages of other origins: a preflight is answered, an answer says who may read it',
  (t) => {
    const origin = ['origin', 'https://a.example'] as const
    const headers = [origin, ['access-control-request-method', 'GET']] as const
    t.match(follow({ filters: [CORS] }, { method: 'OPTIONS', headers }), {
      kind: 'answer',
      status: 200,
      headers: [['access-control-allow-origin', 'https://a.example']],
    })
    t.match(follow({ filters: [CORS, toV2] }, { headers: [origin] }), {
      kind: 'forward',
      responseEdits: {
        dropped: [
          { text: 'access-control-allow-credentials' },
          { text: 'access-control-allow-origin' },
          { text: 'x-version' },
        ],
        added: [
          { name: 'access-control-allow-origin', value: 'https://a.example' },
          { name: 'vary', value: 'Origin' },
          { name: 'x-version', value: '2' },
        ],
      },
    })
    t.match(follow({ filters: [CORS] }), { kind: 'forward', responseEdits: undefined })
    t.end()
  },
)

void t.test(
  "a browser's page may read that it was sent elsewhere, and that nobody is there",
  (t) => {
    const headers = [['origin', 'https://a.example']] as const
    const redirect: HttpFilter = {
      kind: 'redirect',
      scheme: 'https',
      hostname: undefined,
      port: undefined,
      path: undefined,
      status: 302,
    }
    const told = [
      ['access-control-allow-origin', 'https://a.example'],
      ['vary', 'Origin'],
      ['x-version', '2'],
    ]
    t.match(follow({ filters: [CORS, toV2, redirect], backends: [] }, { headers }), {
      status: 302,
      headers: [['location', 'https://cart.shop/a/b'], ...told],
    })
    const gone = { target: { kind: 'unresolved' as const, reason: 'gone' }, weight: 1, filters: [] }
    for (const backends of [[gone], [], [backend('v1', 0)]])
      t.match(follow({ filters: [CORS, toV2], backends }, { headers }), {
        status: 500,
        headers: told,
      })
    t.end()
  },
)

void t.test('a header that a rule sets is there once, in answers of the waypoint as well', (t) => {
  const origin = ['origin', 'https://a.example'] as const
  const headers = [origin, ['access-control-request-method', 'GET']] as const
  const set = [{ name: 'access-control-allow-origin', value: 'https://b.example' }]
  const own: HttpFilter = { kind: 'responseHeaders', edit: { set, add: [], remove: ['vary'] } }
  const found = follow({ filters: [CORS, own] }, { method: 'OPTIONS', headers })
  t.strictSame(found.kind === 'answer' && found.headers, [
    ['access-control-allow-methods', 'GET'],
    ['access-control-max-age', '5'],
    ['access-control-allow-origin', 'https://b.example'],
  ])
  t.end()
})

void t.test('whether credentials may be sent is said by the filter, not by the app', (t) => {
  const headers = [['origin', 'https://a.example']] as const
  const edits = (filter: HttpFilter) => {
    const found = follow({ filters: [filter] }, { headers })
    return found.kind === 'forward' ? found.responseEdits : undefined
  }
  const isDropped = (filter: HttpFilter): boolean | undefined =>
    edits(filter)?.dropped.some(({ text }) => text === 'access-control-allow-credentials')
  t.ok(isDropped(CORS), "the app's own word goes no further")
  t.match(edits({ ...CORS, allowCredentials: true })?.added, [
    { name: 'access-control-allow-origin', value: 'https://a.example' },
    { name: 'access-control-allow-credentials', value: 'true' },
  ])
  t.end()
})

void t.test(
  'backends that are not there are UNAVAILABLE to a GRPCRoute, and 500 to others',
  (t) => {
    const gone = { target: { kind: 'unresolved' as const, reason: 'gone' }, weight: 1, filters: [] }
    const route = { kind: 'GRPCRoute', namespace: 'shop', name: 'cart', rule: '0' } as const
    t.match(follow({ route, backends: [gone] }), { status: 503, message: 'gone' })
    t.match(follow({ backends: [gone] }), { status: 500, message: 'gone' })
    t.end()
  },
)

void t.test('a mirror that cannot be resolved breaks nothing', (t) => {
  const mirror = (target: HttpRule['backends'][number]['target']): HttpFilter => ({
    kind: 'mirror',
    backend: target,
    numerator: 1,
    denominator: 2,
  })
  const filters = [
    mirror({ kind: 'service', service: 'shop/copy', port: 80 }),
    mirror({ kind: 'unresolved', reason: 'no such Service' }),
  ]
  t.match(follow({ filters }), { kind: 'forward', mirrors: [{ service: 'shop/copy' }] })
  t.match(follow({ filters }, {}, { random: 0.6 }), { kind: 'forward', mirrors: [] })
  const own = [
    { ...backend('v1', 1), filters: [mirror({ kind: 'service', service: 'shop/own', port: 80 })] },
  ]
  t.match(
    follow({ filters, backends: own }),
    { mirrors: [{ service: 'shop/copy' }, { service: 'shop/own' }] },
    'a backend may have some of its own',
  )
  t.end()
})
