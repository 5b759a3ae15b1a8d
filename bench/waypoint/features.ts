// SPDX-License-Identifier: Apache-2.0
// What each thing that a route can ask of a waypoint costs a request: microseconds of CPU more with it, of one exchange between pipes that only
// copy. What is told of requests has its own bench (waypoint-sight.ts), and so have policies (request-policy.ts) and the number of routes (router.ts).

import type { HttpRule } from '../../mesh/model/http-routes.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import type { RequestHead } from '../../mesh/http/message.ts'
import { sampleMatch, sampleRule } from '../../test/waypoint/router/samples.ts'
import type { RouteOutcome } from '../../waypoint/exchange/types.ts'
import { RequestRouter } from '../../waypoint/request-router.ts'
import { GET, measureExchange } from '../http-exchange.ts'

const SERVICE = 'shop/cart.shop.svc.cluster.local'
const KEY_BYTES = 32
const MINUTE_MS = 60_000
const OTHERS = 19

const edit = (
  name: string,
): { readonly set: readonly [{ name: string; value: string }] } & {
  readonly add: readonly []
  readonly remove: readonly []
} => ({ set: [{ name, value: 'waypoint' }], add: [], remove: [] })

const FEATURES: Readonly<Record<string, Partial<HttpRule>>> = {
  'a header set on requests': { filters: [{ kind: 'requestHeaders', edit: edit('x-route') }] },
  'a header set on answers': { filters: [{ kind: 'responseHeaders', edit: edit('x-served-by') }] },
  'a rewritten prefix': {
    filters: [{ kind: 'rewrite', hostname: undefined, path: { kind: 'prefix', value: '/v2' } }],
  },
  'a rewritten host': { filters: [{ kind: 'rewrite', hostname: 'cart.v2', path: undefined }] },
  CORS: {
    filters: [
      {
        kind: 'cors',
        allowOrigins: ['https://shop.example'],
        allowMethods: ['GET'],
        allowHeaders: [],
        exposeHeaders: [],
        allowCredentials: false,
        maxAgeSeconds: 5,
      },
    ],
  },
  'a timeout of the request': { timeouts: { requestMs: MINUTE_MS, backendRequestMs: 0 } },
  'a timeout of each try': { timeouts: { requestMs: 0, backendRequestMs: MINUTE_MS } },
  'retries, none of which comes about': { retry: { attempts: 2, codes: [503], backoffMs: 25 } },
  'a session by cookie, its first request': {
    session: {
      kind: 'cookie',
      name: 'session',
      absoluteMs: MINUTE_MS,
      idleMs: 0,
      key: Buffer.alloc(KEY_BYTES, 7).toString('base64url'),
      isPermanent: false,
    },
  },
  'a copy of every request': {
    filters: [
      {
        kind: 'mirror',
        backend: { kind: 'service', service: SERVICE, port: 80 },
        numerator: 1,
        denominator: 1,
      },
    ],
  },
}

function routerOf(rules: readonly HttpRule[]): (head: RequestHead) => RouteOutcome {
  const mesh = new MeshState({ network: '', rootNamespace: 'istio-system' })
  const place = { key: SERVICE, service: SERVICE, port: undefined, clients: undefined }
  if (rules.length > 0)
    mesh.apply([{ kind: 'httpRoutes', routes: { ...place, rules, connections: [] } }])
  const router = new RequestRouter({
    mesh,
    judge: () => undefined,
    onProblems: (_, problems) => {
      throw new Error(problems.join('; '))
    },
  })
  const call = {
    backend: { kind: 'service', service: SERVICE, port: 80 },
    source: { identity: undefined },
  } as const
  return (head) => router.route(call, head)
}

const ruleFor = (given: Partial<HttpRule>): HttpRule =>
  sampleRule('r', [sampleMatch({ path: { kind: 'prefix', value: '/api' } })], given)

/** Of each, microseconds a request more than with a route that does nothing but lead. */
export function measureFeatures(): Readonly<Record<string, number>> {
  const cost = (rules: readonly HttpRule[]): number => measureExchange(GET, routerOf(rules))
  const plain = ruleFor({})
  const others = Array.from({ length: OTHERS }, (_, index) =>
    sampleRule(`o${index}`, [sampleMatch({ path: { kind: 'prefix', value: `/other-${index}` } })]),
  )
  const unrouted = cost([])
  const routed = cost([plain])
  return {
    'no route: us a request': unrouted,
    'a route: us more': routed - unrouted,
    [`${OTHERS} other routes: us more`]: cost([...others, plain]) - routed,
    ...Object.fromEntries(
      Object.entries(FEATURES).map(([name, given]) => [
        `${name}: us more`,
        cost([ruleFor(given)]) - routed,
      ]),
    ),
  }
}

if (import.meta.main)
  for (const [name, value] of Object.entries(measureFeatures()))
    console.log(`${name} ${value.toFixed(2)}`)
