// SPDX-License-Identifier: Apache-2.0
// Rules and requests for tests of the router: few names and values, so that they meet often.

import fc from 'fast-check'
import { FieldList } from '../../../mesh/http/field-list.ts'
import type { Fields } from '../../../mesh/http/message.ts'
import type { HttpMatch, HttpRule, NamedMatch } from '../../../mesh/model/http-routes.ts'
import type { PlainRequest } from './naive.ts'

const ANY_MATCH: HttpMatch = {
  path: { kind: 'prefix', value: '/' },
  method: undefined,
  headers: [],
  queryParams: [],
}

/** A match of all requests, but for what is given. */
export function sampleMatch(given: Partial<HttpMatch> = {}): HttpMatch {
  return { ...ANY_MATCH, ...given }
}

/** A rule of that name for any of these matches, of one backend that cannot be reached, but for what is given. */
export function sampleRule(
  name: string,
  matches: readonly HttpMatch[] = [ANY_MATCH],
  given: Partial<HttpRule> = {},
): HttpRule {
  return {
    route: { kind: 'HTTPRoute', namespace: 'shop', name: 'cart', rule: name },
    matches,
    filters: [],
    backends: [
      {
        target: { kind: 'service', service: 'shop/cart.shop.svc.cluster.local', port: 80 },
        weight: 1,
        filters: [],
      },
    ],
    timeouts: { requestMs: 0, backendRequestMs: 0 },
    retry: undefined,
    session: undefined,
    fault: undefined,
    ...given,
  }
}

/** The fields of a head, as a codec hands them out. */
export function sampleFields(headers: readonly (readonly [string, string])[]): Fields {
  return new FieldList(headers)
}

const SEGMENTS = ['a', 'ab', 'b', 'abc']
const anyPath = fc
  .tuple(fc.array(fc.constantFrom(...SEGMENTS), { maxLength: 4 }), fc.boolean())
  .map(([segments, isOpen]) => `/${segments.join('/')}${isOpen && segments.length > 0 ? '/' : ''}`)
const anyPattern = fc.constantFrom('/a', '/a.*', '/(a|b)/.*', '.*', '/ab?', '/a[a-z]*/b', '/abc|/b')
const anyValue = fc.constantFrom('v1', 'v2', 'v3')
const anyMethod = fc.constantFrom('GET', 'POST')

const anyNamed = (names: readonly string[]): fc.Arbitrary<NamedMatch> =>
  fc.record({
    name: fc.constantFrom(...names),
    match: fc.oneof(
      { weight: 3, arbitrary: fc.record({ kind: fc.constant('exact' as const), value: anyValue }) },
      fc.record({
        kind: fc.constant('regex' as const),
        value: fc.constantFrom('v.', 'v[12]', '.*', 'v1|v3'),
      }),
    ),
  })
const HEADERS = ['x-tenant', 'x-user', 'version']
const PARAMS = ['q', 'page']
const anyNameds = (names: readonly string[]): fc.Arbitrary<readonly NamedMatch[]> =>
  fc.uniqueArray(anyNamed(names), { selector: ({ name }) => name, maxLength: 2 })

const anyMatch: fc.Arbitrary<HttpMatch> = fc.record({
  path: fc.oneof(
    fc.record({ kind: fc.constant('exact' as const), value: anyPath }),
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('prefix' as const), value: anyPath }) },
    fc.record({ kind: fc.constant('regex' as const), value: anyPattern }),
  ),
  method: fc.option(anyMethod, { nil: undefined, freq: 2 }),
  headers: anyNameds(HEADERS),
  queryParams: anyNameds(PARAMS),
})

export const anyRules: fc.Arbitrary<readonly HttpRule[]> = fc
  .array(fc.array(anyMatch, { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 14 })
  .map((rules) => rules.map((matches, place) => sampleRule(String(place), matches)))

const anyPairs = (names: readonly string[]): fc.Arbitrary<readonly (readonly [string, string])[]> =>
  fc.uniqueArray(fc.tuple(fc.constantFrom(...names), anyValue), { selector: ([name]) => name })

export const anyRequest: fc.Arbitrary<PlainRequest> = fc.record({
  method: anyMethod,
  path: anyPath,
  params: anyPairs([...PARAMS, 'pageq']),
  headers: anyPairs(HEADERS),
})
