// SPDX-License-Identifier: Apache-2.0
// Which rule a request falls under: as the Gateway API reads (the witness is in naive.ts), and in the cases that its readers argue about.

import fc from 'fast-check'
import t from 'tap'
import type { HttpMatch, HttpRule, NamedMatch } from '../../../mesh/model/http-routes.ts'
import { PatternMemory } from '../../../waypoint/router/pattern-memory.ts'
import { RouteTable } from '../../../waypoint/router/route-table.ts'
import { naiveMatch, type PlainRequest } from './naive.ts'
import { anyRequest, anyRules, sampleFields, sampleMatch, sampleRule } from './samples.ts'

const placeOf = (hit: { rule: HttpRule; match: HttpMatch } | undefined): string =>
  hit === undefined ? 'none' : `${hit.rule.route.rule}.${hit.rule.matches.indexOf(hit.match)}`

function ask(table: RouteTable, { method, path, params, headers }: PlainRequest): string {
  const query = params.map(([name, value]) => `${name}=${value}`).join('&')
  return placeOf(table.match({ method, path, query }, sampleFields(headers)))
}

const request = (path: string, given: Partial<PlainRequest> = {}): PlainRequest => ({
  method: 'GET',
  path,
  params: [],
  headers: [],
  ...given,
})

void t.test('a request falls under the rule and match that the Gateway API says', (t) => {
  const memory = new PatternMemory()
  const seen = { none: 0, exact: 0, prefix: 0, regex: 0 }
  fc.assert(
    fc.property(
      anyRules,
      fc.array(anyRequest, { minLength: 1, maxLength: 10 }),
      (rules, requests) => {
        const table = new RouteTable(rules, memory)
        if (table.problems.length > 0) throw new Error(table.problems.join('; '))
        for (const one of requests) {
          const expected = naiveMatch(rules, one)
          seen[expected?.match.path.kind ?? 'none'] += 1
          const found = ask(table, one)
          if (found !== placeOf(expected))
            throw new Error(`${found}, expected: ${placeOf(expected)}`)
        }
      },
    ),
    { numRuns: 1_500 },
  )
  for (const [kind, times] of Object.entries(seen)) t.ok(times > 100, `${kind}: ${times}`)
  t.end()
})

const exact = (value: string): HttpMatch => sampleMatch({ path: { kind: 'exact', value } })
const prefix = (value: string): HttpMatch => sampleMatch({ path: { kind: 'prefix', value } })
const regex = (value: string): HttpMatch => sampleMatch({ path: { kind: 'regex', value } })
const named = (name: string, value: string): NamedMatch => ({
  name,
  match: { kind: 'exact', value },
})

void t.test('prefixes are of segments, and a trailing slash in them says nothing', (t) => {
  for (const value of ['/v2', '/v2/']) {
    const table = new RouteTable([sampleRule('v2', [prefix(value)])], new PatternMemory())
    for (const path of ['/v2', '/v2/', '/v2/a', '/v2//a'])
      t.equal(ask(table, request(path)), 'v2.0', path)
    for (const path of ['/v2example', '/v', '/', '/a/v2', '*'])
      t.equal(ask(table, request(path)), 'none', path)
  }
  const all = new RouteTable([sampleRule('all')], new PatternMemory())
  for (const path of ['/', '/a', '*']) t.equal(ask(all, request(path)), 'all.0', path)
  t.end()
})

void t.test('a shorter prefix takes what the longer one leaves for its other conditions', (t) => {
  const rules = [
    sampleRule('short', [prefix('/a')]),
    sampleRule('long', [
      sampleMatch({ path: { kind: 'prefix', value: '/a/b/c' }, method: 'POST' }),
    ]),
    sampleRule('exact', [
      sampleMatch({ path: { kind: 'exact', value: '/a/b/c' }, headers: [named('x', '1')] }),
    ]),
  ]
  const table = new RouteTable(rules, new PatternMemory())
  t.equal(ask(table, request('/a/b/c', { headers: [['x', '1']] })), 'exact.0')
  t.equal(ask(table, request('/a/b/c', { method: 'POST' })), 'long.0')
  t.equal(ask(table, request('/a/b/c')), 'short.0')
  t.equal(ask(table, request('/a/b/cd', { method: 'POST' })), 'short.0')
  t.end()
})

void t.test(
  'an expression goes before what says nothing of the path, and after all other paths',
  (t) => {
    const rules = [sampleRule('all'), sampleRule('number', [regex('/[0-9]+')])]
    const table = new RouteTable(
      [...rules, sampleRule('seven', [exact('/7')])],
      new PatternMemory(),
    )
    t.equal(ask(table, request('/12')), 'number.0')
    t.equal(ask(table, request('/7')), 'seven.0')
    t.equal(ask(table, request('/x12')), 'all.0', 'an expression is of the whole path')
    t.equal(ask(table, request('/12/x')), 'all.0')
    t.end()
  },
)

void t.test(
  "a call of gRPC falls under its method's rule, and not under one of headers alone",
  (t) => {
    const tenant = sampleMatch({ headers: [named('tenant', 'a'), named('version', 'v1')] })
    const rules = [
      sampleRule('tenant', [tenant]),
      sampleRule('post', [sampleMatch({ method: 'POST' })]),
      // As the controller makes it of a method without its service.
      sampleRule('get', [regex('/[^/]+/Get')]),
      sampleRule('catalog', [prefix('/shop.Catalog')]),
    ]
    const table = new RouteTable(rules, new PatternMemory())
    const call = (path: string) => {
      const headers = [['tenant', 'a'] as const, ['version', 'v1'] as const]
      return ask(table, request(path, { method: 'POST', headers }))
    }
    t.equal(call('/shop.Cart/Get'), 'get.0')
    t.equal(call('/shop.Catalog/Get'), 'catalog.0', 'characters of the service count first')
    t.equal(
      call('/shop.Cart/List'),
      'post.0',
      'of those of any path a method counts before headers',
    )
    t.equal(ask(table, request('/shop.Cart/List', { headers: [['tenant', 'b']] })), 'none')
    t.end()
  },
)

void t.test('several fields of one name are read as one list', (t) => {
  const table = new RouteTable(
    [sampleRule('both', [sampleMatch({ headers: [named('x', 'a,b')] })])],
    new PatternMemory(),
  )
  const headers = [['x', 'a'] as const, ['x', 'b'] as const]
  t.equal(ask(table, request('/', { headers })), 'both.0')
  t.equal(ask(table, request('/', { headers: [['x', 'a']] })), 'none')
  t.end()
})

void t.test('a bad expression is never true, is told, and takes no other rule down', (t) => {
  const rules = [
    sampleRule('bad', [regex('/a(b'), exact('/still-good')]),
    sampleRule('lookahead', [
      sampleMatch({ headers: [{ name: 'x', match: { kind: 'regex', value: '(?=a)b' } }] }),
    ]),
    sampleRule('good', [prefix('/')]),
  ]
  const table = new RouteTable(rules, new PatternMemory())
  t.equal(ask(table, request('/a(b')), 'good.0')
  t.equal(ask(table, request('/still-good')), 'bad.1')
  t.equal(ask(table, request('/', { headers: [['x', 'b']] })), 'good.0')
  t.match(table.problems, [
    /^HTTPRoute shop\/cart, rule bad: the regular expression "\/a\(b": /,
    /^HTTPRoute shop\/cart, rule lookahead: the regular expression "\(\?=a\)b": /,
  ])
  t.end()
})

void t.test('a name that is not written in ASCII is the one that clients send', (t) => {
  const named = (kind: 'exact' | 'regex', value: string): RouteTable =>
    new RouteTable(
      [sampleRule('one', [sampleMatch({ headers: [{ name: 'x-user', match: { kind, value } }] })])],
      new PatternMemory(),
    )
  // As a head shows them: octets of UTF-8, each a character.
  const sent = (value: string) =>
    request('/', { headers: [['x-user', Buffer.from(value, 'utf8').toString('latin1')]] })
  t.equal(ask(named('exact', 'Zo\u00eb'), sent('Zo\u00eb')), 'one.0')
  t.equal(ask(named('exact', 'Zo\u00eb'), sent('Zoe')), 'none')
  for (const regex of [
    'Zo\u00eb',
    'Zo.',
    'Z.*\u00eb',
    'Zo[e\u00eb]',
    'Zo\u00eb?',
    'Zo\u00eb\u{1f600}?',
  ])
    t.equal(ask(named('regex', regex), sent('Zo\u00eb')), 'one.0', regex)
  t.equal(ask(named('regex', 'Zo\u00eb\u{1f600}?'), sent('Zo\u00eb\u{1f600}')), 'one.0')
  t.equal(ask(named('regex', 'Zo..'), sent('Zo\u00eb')), 'none', 'it is one character')
  const table = new RouteTable(
    [
      sampleRule('one', [
        sampleMatch({ queryParams: [{ name: 'q', match: { kind: 'exact', value: '\u00fc' } }] }),
      ]),
    ],
    new PatternMemory(),
  )
  t.equal(ask(table, request('/', { params: [['q', '\u00c3\u00bc']] })), 'one.0')
  t.end()
})

void t.test('an escape matches in either case of its digits', (t) => {
  const table = new RouteTable([sampleRule('escaped', [exact('/a%2fb')])], new PatternMemory())
  t.equal(ask(table, request('/a%2Fb')), 'escaped.0', 'requests are normalised to upper case')
  t.end()
})

void t.test('an expression that makes others backtrack for years takes no time', (t) => {
  const table = new RouteTable([sampleRule('slow', [regex('/(a+)+$')])], new PatternMemory())
  const began = performance.now()
  t.equal(ask(table, request(`/${'a'.repeat(8_000)}b`)), 'none')
  t.ok(performance.now() - began < 2_000, 'it is linear')
  t.end()
})

void t.test('values of a thousand routes on one path lead each to its own', (t) => {
  const rules = Array.from({ length: 1_000 }, (_, at) =>
    sampleRule(`tenant${at}`, [
      sampleMatch({ headers: [named('x-region', 'eu'), named('x-tenant', `t${at}`)] }),
    ]),
  )
  const table = new RouteTable(rules, new PatternMemory())
  const headers = (tenant: string): readonly (readonly [string, string])[] => [
    ['x-region', 'eu'],
    ['x-tenant', tenant],
  ]
  for (const at of [0, 500, 999])
    t.equal(ask(table, request('/', { headers: headers(`t${at}`) })), `tenant${at}.0`)
  t.equal(ask(table, request('/', { headers: headers('t1000') })), 'none')
  t.equal(ask(table, request('/', { headers: [['x-tenant', 't1']] })), 'none')
  t.end()
})
