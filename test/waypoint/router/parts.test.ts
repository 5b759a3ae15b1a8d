// SPDX-License-Identifier: Apache-2.0
// What the router is made of: normal paths, values of queries, weights, expressions and the memory of what they said.

import fc from 'fast-check'
import t from 'tap'
import { chooseByWeight } from '../../../waypoint/router/choose-by-weight.ts'
import { normalisePath } from '../../../waypoint/router/normalise-path.ts'
import { compilePattern, literalPrefix } from '../../../waypoint/router/pattern.ts'
import { PatternMemory } from '../../../waypoint/router/pattern-memory.ts'
import { queryValue } from '../../../waypoint/router/query-value.ts'

void t.test('normalisePath() gives each path the one form that Istio by default gives it', (t) => {
  const forms: readonly (readonly [came: string, normal: string | undefined])[] = [
    ['/', '/'],
    ['/a/b', '/a/b'],
    ['*', '*'],
    ['/a/../b', '/b'],
    ['/a/./b', '/a/b'],
    ['/a/.', '/a/'],
    ['/a/b/..', '/a/'],
    ['/../../a', '/a'],
    ['/..', '/'],
    ['/a/..b', '/a/..b'],
    ['/a/b..', '/a/b..'],
    ['/.hidden', '/.hidden'],
    ['/////../..', '///'],
    ['/a//b', '/a//b'],
    ['/a//../b', '/a/b'],
    ['\\a', '/a'],
    ['/a\\b', '/a/b'],
    ['/a\\..\\b', '/b'],
    ['/%61dmin', '/admin'],
    ['/%2e%2E/a', '/a'],
    ['/x/%2e./a', '/a'],
    ['/%2d%5f%7E%39', '/-_~9'],
    ['/a%2fb', '/a%2Fb'],
    ['/a%2F..%2fb', '/a%2F..%2Fb'],
    ['/a%5cb', '/a%5Cb'],
    ['/a%20b', '/a%20b'],
    ['/a%', '/a%25'],
    ['/a%2', '/a%252'],
    ['/a%zz', '/a%25zz'],
    ['/%%32e%%32e/a', '/%252e%252e/a'],
    ['/%252e', '/%252e'],
    ['/a%00b', undefined],
    ['/caf\u00e9', '/caf%E9'],
    ['/a;b=c', '/a;b=c'],
  ]
  for (const [came, normal] of forms) t.equal(normalisePath(came), normal, came)
  t.end()
})

void t.test('normalisePath() leaves nothing to be normalised, and no way up', (t) => {
  const anyPath = fc
    .array(fc.constantFrom('/', '.', '..', '%', '2', 'e', 'E', '5c', '\\', 'a', '\u00ff', '%2f'), {
      maxLength: 24,
    })
    .map((parts) => `/${parts.join('')}`)
  fc.assert(
    fc.property(anyPath, (path) => {
      const normal = normalisePath(path)
      if (normal === undefined) return !path.includes('%00')
      const segments = normal.split('/')
      return (
        normal.startsWith('/') &&
        !normal.includes('\\') &&
        !segments.includes('.') &&
        !segments.includes('..') &&
        normalisePath(normal) === normal
      )
    }),
    { numRuns: 5_000 },
  )
  t.end()
})

void t.test('queryValue() finds the first parameter of a name, as written', (t) => {
  t.equal(queryValue('a=1&b=2', 'b'), '2')
  t.equal(queryValue('b=2&b=3', 'b'), '2', 'the first of several')
  t.equal(queryValue('ab=1', 'b'), undefined, 'not the end of another')
  t.equal(queryValue('ba=1', 'b'), undefined, 'not the beginning of another')
  t.equal(queryValue('a=b&c', 'c'), '', 'no value')
  t.equal(queryValue('c&a=b', 'c'), '')
  t.equal(queryValue('a=b=c', 'a'), 'b=c')
  t.equal(queryValue('a=b', 'b'), undefined, 'no value of another')
  t.equal(queryValue('a=b%20c', 'a'), 'b%20c', 'escapes stay')
  t.equal(queryValue('', 'a'), undefined)
  fc.assert(
    fc.property(fc.array(fc.constantFrom('a', 'ab', '=', '&', 'b'), { maxLength: 12 }), (parts) => {
      const query = parts.join('')
      const pairs = query.split('&').map((pair) => {
        const [name, ...value] = pair.split('=')
        return [name, value.join('=')] as const
      })
      const expected = pairs.find(([name]) => name === 'ab')?.[1]
      return queryValue(query, 'ab') === expected
    }),
  )
  t.end()
})

void t.test('chooseByWeight() gives each its share, and nothing to those without weight', (t) => {
  const backends = [
    { name: 'v1', weight: 90 },
    { name: 'off', weight: 0 },
    { name: 'v2', weight: 10 },
  ]
  const shares = new Map<string, number>()
  for (let step = 0; step < 1_000; step += 1) {
    const name = chooseByWeight(backends, () => step / 1_000)?.name ?? 'none'
    shares.set(name, (shares.get(name) ?? 0) + 1)
  }
  t.strictSame(
    [...shares],
    [
      ['v1', 900],
      ['v2', 100],
    ],
  )
  const last = Math.fround(1 - Number.EPSILON / 2) - Number.EPSILON
  t.equal(chooseByWeight(backends, () => last)?.name, 'v2')
  t.equal(
    chooseByWeight([{ weight: 0 }], () => 0),
    undefined,
  )
  t.equal(
    chooseByWeight([], () => 0),
    undefined,
  )
  t.end()
})

void t.test('literalPrefix() is what every text that matches begins with', (t) => {
  const prefixes: readonly (readonly [source: string, prefix: string])[] = [
    ['/api/v[0-9]+', '/api/v'],
    ['/api', '/api'],
    ['^/api.*', '/api'],
    ['/ab?', '/a'],
    ['/ab*', '/a'],
    ['/ab{0,1}', '/a'],
    ['/ab+', '/ab'],
    ['/a|/b', ''],
    ['(?i)/a', ''],
    ['\\d', ''],
    ['', ''],
  ]
  for (const [source, prefix] of prefixes) t.equal(literalPrefix(source), prefix, source)
  t.end()
})

void t.test('what expressions said is held within bounds, whatever clients send', (t) => {
  const memory = new PatternMemory(10_000)
  const compiled = compilePattern('/[a-z]+[0-9]*', memory)
  if (!compiled.ok) return t.fail(compiled.error)
  for (let at = 0; at < 1_000; at += 1) {
    if (!compiled.value.matches(`/user${at}`)) t.fail(`/user${at}`)
    if (compiled.value.matches(`/${at}`)) t.fail(`/${at}`)
    if (memory.held > 10_000) t.fail(`${memory.held} held`)
  }
  t.ok(compiled.value.matches(`/${'a'.repeat(2_000)}`), 'a long text is asked about')
  t.ok(memory.held <= 10_000, 'and not kept')
  t.notOk(compiled.value.matches(`/${'a'.repeat(9_000)}`), 'one too long matches nothing')
  return t.end()
})

void t.test('expressions that read alike do not answer for each other', (t) => {
  const memory = new PatternMemory()
  const ask = (source: string): boolean | string => {
    const compiled = compilePattern(source, memory)
    return compiled.ok ? compiled.value.matches('/abc') : compiled.error
  }
  t.equal(ask('/[a-c]+'), true)
  t.equal(ask('/[a-b]+'), false)
  t.equal(ask('/[a-c]+'), true)
  t.end()
})
