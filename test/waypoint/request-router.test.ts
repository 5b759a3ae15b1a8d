// SPDX-License-Identifier: Apache-2.0
// A request from its head to what becomes of it: the routes of the called port, in the mesh of this moment.

import t from 'tap'
import { headerName } from '../../mesh/http/header-names.ts'
import type { HttpRule } from '../../mesh/model/http-routes.ts'
import type { RequestHead } from '../../mesh/http/message.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import type { RouteOutcome } from '../../waypoint/exchange/types.ts'
import { RequestRouter } from '../../waypoint/request-router.ts'
import { sampleFields, sampleMatch, sampleRule } from './router/samples.ts'

const SERVICE = 'shop/cart.shop.svc.cluster.local'

const DENIED = { kind: 'answer', status: 403, headers: [], body: '', flag: 'RBAC' } as const

interface Judged {
  readonly path: string
  readonly method: string
  readonly authority: string
  readonly agent: string | undefined
}

function ask(
  rules: readonly HttpRule[] | undefined,
  target: string,
  method = 'GET',
  headers: readonly (readonly [string, string])[] = [],
): RouteOutcome & { problems: readonly string[]; judged: readonly Judged[] } {
  const mesh = new MeshState({ network: '', rootNamespace: 'istio-system' })
  if (rules !== undefined) {
    const place = { key: SERVICE, service: SERVICE, port: undefined, clients: undefined }
    const routes = { ...place, rules, connections: [] }
    mesh.apply([{ kind: 'httpRoutes', routes }])
  }
  const problems: string[] = []
  const judged: Judged[] = []
  const router = new RequestRouter({
    mesh,
    onProblems: (_, found) => problems.push(...found),
    judge: (_, { path, method, authority, headers }) => {
      judged.push({ path, method, authority, agent: headers.joined(headerName('user-agent')) })
      return path === '/closed' ? DENIED : undefined
    },
    random: () => 0,
  })
  const head: RequestHead = Object.assign(sampleFields(headers), {
    protocol: 'HTTP/1.1' as const,
    method,
    target,
    authority: 'cart.shop',
  })
  const backend = { kind: 'service', service: SERVICE, port: 80 } as const
  const call = { backend, source: { identity: undefined } }
  router.route(call, head)
  judged.length = 0
  return { ...router.route(call, head), problems, judged }
}

void t.test('a port without routes sends its requests where they were sent', (t) => {
  t.match(ask(undefined, '/a?b=c'), {
    kind: 'forward',
    backend: { service: SERVICE, port: 80 },
    target: undefined,
  })
  t.end()
})

void t.test('the path that was judged is the path that goes on, routed or not', (t) => {
  const rules = [sampleRule('b', [sampleMatch({ path: { kind: 'exact', value: '/b' } })])]
  for (const routes of [undefined, rules]) {
    t.match(ask(routes, '/a/../b?q=../c'), { kind: 'forward', target: '/b?q=../c' })
    t.match(ask(routes, '/b?'), { kind: 'forward', target: undefined })
    t.match(ask(routes, '/a/%2e%2e/b'), { kind: 'forward', target: '/b' })
    t.match(ask(routes, '/b%00'), { kind: 'answer', status: 400 })
  }
  t.match(ask(rules, '/a'), { kind: 'answer', status: 404, flag: 'NR' })
  t.end()
})

void t.test('a rewrite starts from the judged path', (t) => {
  const path = { kind: 'prefix', value: '/new' } as const
  const rules = [
    sampleRule('old', [sampleMatch({ path: { kind: 'prefix', value: '/old' } })], {
      filters: [{ kind: 'rewrite', hostname: 'one.example', path }],
    }),
  ]
  t.match(ask(rules, '/x/../old/a?q'), { target: '/new/a?q', authority: 'one.example' })
  t.end()
})

void t.test('what cannot be compiled is told once, and the rest of its routes serves', (t) => {
  const bad = sampleMatch({ path: { kind: 'regex', value: '/(' } })
  const { problems, kind } = ask([sampleRule('bad', [bad]), sampleRule('good')], '/a')
  t.equal(kind, 'forward')
  t.equal(problems.length, 1)
  t.end()
})

void t.test('who asks how far an OPTIONS or TRACE gets is answered by the last hop', (t) => {
  const left = (hops: string) => [['max-forwards', hops] as const, ['cookie', 'a=b'] as const]
  t.match(ask(undefined, '/a', 'OPTIONS', left('0')), { kind: 'answer', status: 200, body: '' })
  t.match(ask(undefined, '/a?b', 'TRACE', left('0')), {
    kind: 'answer',
    status: 200,
    headers: [['content-type', 'message/http']],
    body: 'TRACE /a?b HTTP/1.1\r\nhost: cart.shop\r\nmax-forwards: 0\r\n\r\n',
  })
  for (const rules of [undefined, [sampleRule('all')]])
    t.match(ask(rules, '/a', 'TRACE', left('3')), {
      kind: 'forward',
      requestEdits: {
        dropped: [{ text: 'max-forwards' }],
        added: [{ name: 'max-forwards', value: '2' }],
      },
    })
  t.match(ask(undefined, '/closed', 'TRACE', left('0')), DENIED, 'policies come first')
  for (const [method, hops] of [
    ['GET', '0'],
    ['OPTIONS', '-1'],
    ['OPTIONS', ''],
  ] as const)
    t.match(ask(undefined, '/a', method, left(hops)), { kind: 'forward', requestEdits: undefined })
  t.end()
})

void t.test('what is judged is the path that goes on, once, before any route is asked', (t) => {
  const rules = [sampleRule('other', [sampleMatch({ path: { kind: 'exact', value: '/other' } })])]
  for (const target of ['/closed', '/a/../closed?x', '/%63losed', '/./closed', '/a\\..\\closed']) {
    const { judged, ...outcome } = ask(rules, target)
    t.match(outcome, DENIED, `${target}: no route would take it, and it is denied all the same`)
    t.match(judged, [{ path: '/closed', method: 'GET', authority: 'cart.shop' }])
  }
  t.strictSame(ask(rules, '/closed%00').judged, [], 'what has no path is judged by nobody')
  t.end()
})
