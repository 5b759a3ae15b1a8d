// SPDX-License-Identifier: Apache-2.0
// Each filter by table: what comes in, and what goes on.

import t from 'tap'
import { sampleFields } from '../router/samples.ts'
import { changeHeaders } from '../../../waypoint/filters/change-headers.ts'
import {
  answerHeaders,
  type CorsFilter,
  isPreflight,
  preflightHeaders,
} from '../../../waypoint/filters/cors.ts'
import { editPath } from '../../../waypoint/filters/edit-path.ts'
import { isMirrored, type MirrorFilter } from '../../../waypoint/filters/mirror.ts'
import {
  type RedirectedRequest,
  type RedirectFilter,
  redirectLocation,
} from '../../../waypoint/filters/redirect.ts'
import { rewritePath } from '../../../waypoint/filters/rewrite.ts'

void t.test("a prefix is replaced as the Gateway API's table has it", (t) => {
  const table: readonly (readonly [path: string, matched: string, by: string, edited: string])[] = [
    ['/foo/bar', '/foo', '/xyz', '/xyz/bar'],
    ['/foo/bar', '/foo', '/xyz/', '/xyz/bar'],
    ['/foo', '/foo', '/xyz', '/xyz'],
    ['/foo/', '/foo', '/xyz', '/xyz/'],
    ['/foo/bar', '/foo', '', '/bar'],
    ['/foo/', '/foo', '', '/'],
    ['/foo', '/foo', '', '/'],
    ['/foo/', '/foo', '/', '/'],
    ['/foo', '/foo', '/', '/'],
    ['/foo', '', '/xyz', '/xyz/foo'],
    ['/', '', '/xyz', '/xyz/'],
  ]
  for (const [path, matched, value, edited] of table)
    t.equal(editPath({ kind: 'prefix', value }, path, matched), edited, `${path} by ${value}`)
  t.equal(editPath({ kind: 'full', value: '/x' }, '/foo/bar', '/foo'), '/x')
  // What is no path of itself: a slash is missing, which nobody asks for.
  t.equal(editPath({ kind: 'full', value: '' }, '/foo/bar', '/foo'), '/')
  t.equal(editPath({ kind: 'full', value: 'x' }, '/foo/bar', '/foo'), '/x')
  t.equal(editPath({ kind: 'prefix', value: 'xyz' }, '/foo/bar', '/foo'), '/xyz/bar')
  t.end()
})

void t.test('a rewrite without a path leaves it alone, and so what is no path', (t) => {
  const filter = { kind: 'rewrite', hostname: 'one.example', path: undefined } as const
  t.equal(rewritePath(filter, '/a', '/a'), '/a')
  for (const kind of ['full', 'prefix'] as const)
    t.equal(rewritePath({ ...filter, path: { kind, value: '/x' } }, '*', ''), '*', kind)
  t.end()
})

void t.test('a redirect keeps what it does not name', (t) => {
  const location = (given: Partial<RedirectFilter>, asked: Partial<RedirectedRequest> = {}) =>
    redirectLocation(
      {
        kind: 'redirect',
        scheme: undefined,
        hostname: undefined,
        port: undefined,
        path: undefined,
        status: 302,
        ...given,
      },
      { authority: 'cart.shop:8080', path: '/a/b', query: 'q=1', matched: '/a', ...asked },
    )
  t.equal(location({}), 'http://cart.shop:8080/a/b?q=1')
  t.equal(location({ hostname: 'example.org' }), 'http://example.org:8080/a/b?q=1')
  t.equal(location({ scheme: 'https' }), 'https://cart.shop/a/b?q=1', "the scheme's own port")
  t.equal(location({ scheme: 'https', port: 8443 }), 'https://cart.shop:8443/a/b?q=1')
  t.equal(location({ scheme: 'https', port: 443 }), 'https://cart.shop/a/b?q=1')
  t.equal(location({ port: 80 }), 'http://cart.shop/a/b?q=1', 'a default port is not shown')
  t.equal(location({ path: { kind: 'full', value: '/x' } }), 'http://cart.shop:8080/x?q=1')
  t.equal(location({ path: { kind: 'prefix', value: '/x' } }), 'http://cart.shop:8080/x/b?q=1')
  t.equal(location({}, { authority: '[fd00::1]:81' }), 'http://[fd00::1]:81/a/b?q=1')
  t.equal(location({}, { authority: '[fd00::1]' }), 'http://[fd00::1]/a/b?q=1')
  t.equal(location({}, { authority: '' }), '/a/b?q=1', 'HTTP/1.0 without a host')
  t.equal(location({ port: 90 }, { authority: 'cart.shop:' }), 'http://cart.shop:90/a/b?q=1')
  t.equal(location({}, { authority: '[fd00::1]:' }), 'http://[fd00::1]/a/b?q=1', 'an empty port')
  t.equal(location({}, { path: '*', query: '' }), 'http://cart.shop:8080', 'OPTIONS *')
  for (const kind of ['full', 'prefix'] as const) {
    const sent = location({ path: { kind, value: '.evil.example' } }, { authority: 'cart.shop' })
    t.equal(new URL(sent).host, 'cart.shop', `a path (${kind}) is not the end of a host`)
  }
  t.end()
})

void t.test('header changes of a rule come before those of its backend', (t) => {
  const edit = { set: [], add: [], remove: [] }
  const edits = changeHeaders(
    [
      { kind: 'requestHeaders', edit: { ...edit, set: [{ name: 'x-one', value: 'rule' }] } },
      { kind: 'responseHeaders', edit: { ...edit, remove: ['server'] } },
      { kind: 'requestHeaders', edit: { ...edit, set: [{ name: 'x-one', value: 'backend' }] } },
      { kind: 'requestHeaders', edit: { ...edit, add: [{ name: 'x-two', value: '2' }] } },
    ],
    'requestHeaders',
  )
  t.match(edits, {
    ok: true,
    value: {
      dropped: [{ text: 'x-one' }],
      added: [
        { name: 'x-one', value: 'backend' },
        { name: 'x-two', value: '2' },
      ],
    },
  })
  t.strictSame(changeHeaders([], 'requestHeaders'), { ok: true, value: undefined })
  for (const [name, value] of [
    ['x y', 'a'],
    ['x', 'a\r\nb: c'],
    ['content-length', '1'],
  ] as const)
    t.match(
      changeHeaders(
        [{ kind: 'requestHeaders', edit: { ...edit, set: [{ name, value }] } }],
        'requestHeaders',
      ),
      { ok: false, error: `${JSON.stringify(name)} ` },
    )
  t.match(
    changeHeaders(
      [{ kind: 'responseHeaders', edit: { ...edit, remove: ['connection'] } }],
      'responseHeaders',
    ),
    { ok: false },
  )
  t.end()
})

void t.test('a mirror gets its share', (t) => {
  const share = (numerator: number, denominator: number): number => {
    const filter: MirrorFilter = {
      kind: 'mirror',
      backend: { kind: 'unresolved', reason: 'none' },
      numerator,
      denominator,
    }
    let copies = 0
    for (let step = 0; step < 100; step += 1) if (isMirrored(filter, () => step / 100)) copies += 1
    return copies
  }
  t.equal(share(25, 100), 25)
  t.equal(share(1, 4), 25)
  t.equal(share(0, 100), 0)
  t.equal(share(100, 100), 100)
  t.equal(share(0, 0), 0)
  t.end()
})

const CORS: CorsFilter = {
  kind: 'cors',
  allowOrigins: ['https://www.example.com', 'https://*.example.org'],
  allowMethods: ['GET', 'PUT'],
  allowHeaders: ['x-one'],
  exposeHeaders: ['x-seen'],
  allowCredentials: false,
  maxAgeSeconds: 60,
}
const asking = (origin: string) =>
  sampleFields([
    ['origin', origin],
    ['access-control-request-method', 'PUT'],
    ['access-control-request-headers', 'x-other'],
  ])

void t.test('a preflight is answered with what the filter allows', (t) => {
  t.ok(isPreflight('OPTIONS', asking('https://a.example')))
  t.notOk(isPreflight('GET', asking('https://a.example')))
  t.notOk(isPreflight('OPTIONS', sampleFields([['origin', 'https://a.example']])))
  t.strictSame(preflightHeaders(CORS, asking('https://www.example.com')), [
    ['access-control-allow-origin', 'https://www.example.com'],
    ['vary', 'Origin'],
    ['access-control-allow-methods', 'GET, PUT'],
    ['access-control-allow-headers', 'x-one'],
    ['access-control-max-age', '60'],
  ])
  t.strictSame(preflightHeaders(CORS, asking('https://evil.example')), [])
  const all = { ...CORS, allowOrigins: ['*'], allowMethods: ['*'], allowHeaders: ['*'] }
  t.strictSame(preflightHeaders(all, asking('https://a.example')), [
    ['access-control-allow-origin', '*'],
    ['access-control-allow-methods', '*'],
    ['access-control-allow-headers', '*'],
    ['access-control-max-age', '60'],
  ])
  t.strictSame(preflightHeaders({ ...all, allowCredentials: true }, asking('https://a.example')), [
    ['access-control-allow-origin', 'https://a.example'],
    ['access-control-allow-credentials', 'true'],
    ['vary', 'Origin'],
    ['access-control-allow-methods', 'PUT'],
    ['access-control-allow-headers', 'x-other'],
    ['access-control-max-age', '60'],
  ])
  t.end()
})

void t.test('an answer allows the origins that the filter names, and no look-alikes', (t) => {
  t.strictSame(answerHeaders(CORS, asking('https://shop.eu.example.org')), [
    ['access-control-allow-origin', 'https://shop.eu.example.org'],
    ['vary', 'Origin'],
    ['access-control-expose-headers', 'x-seen'],
  ])
  const open = { ...CORS, allowOrigins: ['*'], exposeHeaders: ['*', 'x-seen'] }
  t.strictSame(answerHeaders(open, asking('https://a.example')).at(-1), [
    'access-control-expose-headers',
    '*, x-seen',
  ])
  t.strictSame(
    answerHeaders({ ...open, allowCredentials: true }, asking('https://a.example')).at(-1),
    ['access-control-expose-headers', 'x-seen'],
    'with credentials a browser takes * for a name',
  )
  for (const origin of [
    'https://example.org',
    'https://.example.org',
    'http://shop.example.org',
    'https://shop.example.org.evil',
    'https://evil/.example.org',
    'https://evil:1.example.org',
    'https://www.example.com:8443',
    'https://www.example.comx',
    'null',
  ])
    t.strictSame(answerHeaders(CORS, asking(origin)), [], origin)
  t.strictSame(answerHeaders(CORS, sampleFields([])), [], 'no browser asks')
  t.end()
})

void t.test('an origin with the port of its scheme is the one without', (t) => {
  const isAllowed = (allowed: string, origin: string): boolean =>
    answerHeaders({ ...CORS, allowOrigins: [allowed] }, asking(origin)).length > 0
  t.ok(isAllowed('https://shop.example:443', 'https://shop.example'))
  t.ok(isAllowed('http://shop.example:80', 'http://shop.example'))
  t.ok(isAllowed('https://*.example:443', 'https://shop.example'))
  t.ok(isAllowed('https://shop.example', 'https://shop.example:443'))
  t.notOk(isAllowed('https://shop.example:80', 'https://shop.example'))
  t.notOk(isAllowed('http://shop.example:443', 'http://shop.example'))
  t.notOk(isAllowed('https://shop.example:8443', 'https://shop.example'))
  t.end()
})
