// SPDX-License-Identifier: Apache-2.0
// What it costs to judge a request at a waypoint: without policies, and with a hundred, each of one rule, told apart by who calls, by path, by
// method, or by header. By itself: node bench/request-policy.ts

import { EMPTY_MATCH, type PolicyKey, type StringMatch } from '../mesh/model/policy.ts'
import {
  EMPTY_REQUEST_MATCH,
  type RequestMatch,
  type WaypointPolicy,
} from '../mesh/model/waypoint-policy.ts'
import type { IpAddress, SpiffeId } from '../mesh/model/types.ts'
import { RequestPolicies } from '../mesh/policy/request/request-policies.ts'
import type { JudgedCall, JudgedRequest } from '../mesh/policy/request/types.ts'

const POLICIES = 100
const REQUESTS = 500_000
const WARM_UP = 50_000

const exact = (text: string): StringMatch => ({ kind: 'exact', text })

/** What the rule with this number asks for. None of them is so. */
const SHAPES: Readonly<Record<string, (index: number) => Partial<RequestMatch>>> = {
  'other callers': (index) => ({
    connection: { ...EMPTY_MATCH, principals: [exact(`cluster.local/ns/other/sa/s${index}`)] },
  }),
  'other paths': (index) => ({
    paths: [exact(`/api/v2/${index}`), { kind: 'prefix', text: `/v3/${index}/` }],
  }),
  'templates of other paths': (index) => ({
    paths: [{ kind: 'template', text: `/v4/${index}/{*}/x` }],
  }),
  'other methods': () => ({ methods: [exact('DELETE')] }),
  'a header': (index) => ({
    headers: [{ name: 'x-tenant', values: [exact(`t${index}`)], notValues: [] }],
  }),
}

const CALL: JudgedCall = {
  connection: {
    identity: 'spiffe://cluster.local/ns/shop/sa/frontend' as SpiffeId,
    source: '10.244.0.7' as IpAddress,
    destination: { address: '10.96.0.9' as IpAddress, port: 80 },
  },
  sni: '',
}
const REQUEST: JudgedRequest = {
  method: 'GET',
  path: '/api/v1/resource-17/items/7',
  authority: 'catalog.shop',
  headers: { joined: ({ text }) => (text === 'x-tenant' ? 'nobody' : undefined) },
}

function policiesOf(matchOf: (index: number) => Partial<RequestMatch>): readonly WaypointPolicy[] {
  return Array.from({ length: POLICIES }, (_, index) => ({
    key: `shop/p${index}` as PolicyKey,
    namespace: 'shop',
    name: `p${index}`,
    targets: [],
    action: 'deny',
    rules: [{ clauses: [{ matches: [{ ...EMPTY_REQUEST_MATCH, ...matchOf(index) }] }], place: 0 }],
    isDryRun: false,
    isAudit: false,
  }))
}

function nanosecondsPerRequest(policies: readonly WaypointPolicy[]): number {
  const set = RequestPolicies.of(policies)
  const seen = set.see(CALL)
  let allowed = 0
  const run = (times: number): void => {
    for (let at = 0; at < times; at += 1)
      if (set.judge(seen, REQUEST).kind === 'allowed') allowed += 1
  }
  run(WARM_UP)
  const began = process.cpuUsage().user
  run(REQUESTS)
  const spent = process.cpuUsage().user - began
  if (allowed !== WARM_UP + REQUESTS) throw new Error(`${allowed} allowed`)
  return (spent * 1000) / REQUESTS
}

/** Of each shape ns a request. */
export function measureRequestPolicy(): Readonly<Record<string, number>> {
  return {
    'no policies: ns a request': nanosecondsPerRequest([]),
    ...Object.fromEntries(
      Object.entries(SHAPES).map(([name, matchOf]) => [
        `${POLICIES} policies about ${name}: ns a request`,
        nanosecondsPerRequest(policiesOf(matchOf)),
      ]),
    ),
  }
}

if (import.meta.main)
  for (const [name, value] of Object.entries(measureRequestPolicy()))
    console.log(`${name} ${value.toFixed(0)}`)
