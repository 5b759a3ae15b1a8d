// SPDX-License-Identifier: Apache-2.0
// Policies of waypoints, calls and requests: samples, and arbitrary ones of small alphabets, so that matches happen.

import fc from 'fast-check'
import type { HeaderName } from '../../../mesh/http/header-names.ts'
import { EMPTY_MATCH, type PolicyKey } from '../../../mesh/model/policy.ts'
import {
  EMPTY_REQUEST_MATCH,
  type HeaderCondition,
  type PathMatch,
  type RequestMatch,
  type RequestRule,
  type WaypointPolicy,
} from '../../../mesh/model/waypoint-policy.ts'
import type { JudgedCall, JudgedRequest } from '../../../mesh/policy/request/types.ts'
import { anyCall as anyConnection, few, plain, sparseMatch, stringMatch } from '../samples.ts'
import type { PlainRequest } from './naive.ts'

/** A policy of the namespace shop for all calls of its waypoint `way`, of these matches, each in a rule of its own. */
export function waypointPolicy(
  name: string,
  action: WaypointPolicy['action'],
  matches: readonly Partial<RequestMatch>[],
  overrides: Partial<WaypointPolicy> = {},
): WaypointPolicy {
  return {
    key: `shop/${name}` as PolicyKey,
    namespace: 'shop',
    name,
    targets: [{ kind: 'waypoint', namespace: 'shop', name: 'way' }],
    action,
    rules: matches.map((match, place) => ({
      clauses: [{ matches: [{ ...EMPTY_REQUEST_MATCH, ...match }] }],
      place,
    })),
    isDryRun: false,
    isAudit: false,
    ...overrides,
  }
}

/** As policies are shown a request. */
export function judged({ headers, ...request }: PlainRequest): JudgedRequest {
  return { ...request, headers: { joined: ({ text }: HeaderName) => headers[text] } }
}

const segment = fc.constantFrom('a', 'ab', 'b', '', 'A', '%2F')
const path = fc.array(segment, { maxLength: 4 }).map((segments) => `/${segments.join('/')}`)
const template: fc.Arbitrary<PathMatch> = fc
  .tuple(
    fc.array(fc.oneof(segment, fc.constant('{*}')), { minLength: 1, maxLength: 3 }),
    fc.option(fc.array(segment, { maxLength: 2 })),
  )
  .map(([segments, tail]) => ({
    kind: 'template',
    text: `/${[...segments, ...(tail === null ? [] : ['{**}', ...tail])].join('/')}`,
  }))
const host = fc.constantFrom('a.shop', 'A.SHOP:80', 'a.shop:80', 'b', '')
const method = fc.constantFrom('GET', 'get', 'PUT', 'DELETE')
const value = fc.constantFrom('', 'a', 'ab', 'A')
const sni = fc.constantFrom('a.shop', 'b', '')

const condition: fc.Arbitrary<HeaderCondition> = plain({
  name: fc.constantFrom('x-a', 'x-b'),
  values: few(stringMatch(value)),
  notValues: few(stringMatch(value)),
})

const wholeMatch: fc.Arbitrary<RequestMatch> = plain({
  connection: fc.oneof(
    { weight: 2, arbitrary: fc.constant(EMPTY_MATCH) },
    { weight: 1, arbitrary: sparseMatch },
  ),
  hosts: few(stringMatch(host)),
  notHosts: few(stringMatch(host)),
  methods: few(stringMatch(method)),
  notMethods: few(stringMatch(method)),
  paths: few(fc.oneof(stringMatch(path), template)),
  notPaths: few(fc.oneof(stringMatch(path), template)),
  headers: few(condition),
  snis: few(stringMatch(sni)),
  notSnis: few(stringMatch(sni)),
})

/** Mostly of one or two fields: with ten hardly anything matches. */
const anyMatch: fc.Arbitrary<RequestMatch> = fc
  .tuple(wholeMatch, fc.subarray(Object.keys(EMPTY_REQUEST_MATCH), { maxLength: 2 }))
  .map(([match, kept]) => ({
    ...EMPTY_REQUEST_MATCH,
    ...Object.fromEntries(Object.entries(match).filter(([field]) => kept.includes(field))),
  }))

const anyRule: fc.Arbitrary<RequestRule> = plain({
  clauses: fc.array(plain({ matches: fc.array(anyMatch, { maxLength: 3 }) }), { maxLength: 2 }),
  place: fc.option(fc.nat(100), { nil: undefined }),
})

/** Up to eight, each with a name of its own. */
export const anyPolicies: fc.Arbitrary<readonly WaypointPolicy[]> = fc
  .array(
    plain({
      action: fc.constantFrom<WaypointPolicy['action']>('allow', 'deny'),
      rules: fc.array(anyRule, { maxLength: 4 }),
      isDryRun: fc.oneof(fc.constant(false), fc.constant(false), fc.boolean()),
      isAudit: fc.oneof(fc.constant(false), fc.constant(false), fc.boolean()),
    }),
    { maxLength: 8 },
  )
  .map((policies) =>
    policies.map(({ action, ...policy }, index) => waypointPolicy(`p${index}`, action, [], policy)),
  )

export const anyCall: fc.Arbitrary<JudgedCall> = plain({
  connection: anyConnection,
  sni: fc.option(sni, { nil: undefined }),
})

export const anyRequest: fc.Arbitrary<PlainRequest> = plain({
  method,
  path,
  authority: host,
  headers: fc.dictionary(fc.constantFrom('x-a', 'x-b'), value, { noNullPrototype: true }),
})
