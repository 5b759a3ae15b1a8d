// SPDX-License-Identifier: Apache-2.0
// What it costs to find the route of a request, by how many there are: each rule of 10 matches, told apart by path, by header, by both,
// or by regular expression. By itself: node bench/router.ts

import type { Fields } from '../mesh/http/message.ts'
import type { HttpMatch, HttpRule } from '../mesh/model/http-routes.ts'
import { PatternMemory } from '../waypoint/router/pattern-memory.ts'
import { RouteTable } from '../waypoint/router/route-table.ts'

const MATCHES = 10
const REQUESTS = 300_000
const WARM_UP = 30_000
const COUNTS = [10, 1_000]

interface Shape {
  /** The match with this number. */
  match(index: number): Partial<HttpMatch>
  path(index: number): string
  header(index: number): string
  /** One request in so many asks for something else each time, and expressions are not remembered. */
  readonly isSlow?: true
}

const SHAPES: Readonly<Record<string, Shape>> = {
  prefixes: {
    match: (index) => ({ path: { kind: 'prefix', value: `/api/v1/resource-${index}` } }),
    path: (index) => `/api/v1/resource-${index}/items/7`,
    header: () => 'nobody',
  },
  'exact paths': {
    match: (index) => ({ path: { kind: 'exact', value: `/api/v1/resource-${index}` } }),
    path: (index) => `/api/v1/resource-${index}`,
    header: () => 'nobody',
  },
  'a header on one path': {
    match: (index) => ({
      headers: [{ name: 'x-tenant', match: { kind: 'exact', value: `tenant-${index}` } }],
    }),
    path: () => '/api/v1/resource/items/7',
    header: (index) => `tenant-${index}`,
  },
  'no route of its own': {
    match: (index) => ({
      path: { kind: 'prefix', value: `/api/v1/resource-${index}` },
      headers: [{ name: 'x-tenant', match: { kind: 'exact', value: `tenant-${index}` } }],
    }),
    path: (index) => `/api/v1/resource-${index}/items/7`,
    header: () => 'nobody',
  },
  'expressions with a beginning': {
    match: (index) => ({ path: { kind: 'regex', value: `/resource-${index}/[0-9]+` } }),
    path: (index) => `/resource-${index}/7`,
    header: () => 'nobody',
    isSlow: true,
  },
}

function rulesOf(shape: Shape, count: number): readonly HttpRule[] {
  return Array.from({ length: count }, (_, rule) => ({
    route: { kind: 'HTTPRoute', namespace: 'shop', name: 'cart', rule: String(rule) },
    matches: Array.from({ length: MATCHES }, (__, place) => ({
      path: { kind: 'prefix' as const, value: '/' },
      method: undefined,
      headers: [],
      queryParams: [],
      ...shape.match(rule * MATCHES + place),
    })),
    filters: [],
    backends: [],
    timeouts: { requestMs: 0, backendRequestMs: 0 },
    retry: undefined,
    session: undefined,
    fault: undefined,
  }))
}

function fieldsOf(tenant: string): Fields {
  return {
    value: ({ text }) => (text === 'x-tenant' ? tenant : undefined),
    joined: ({ text }) => (text === 'x-tenant' ? tenant : undefined),
    each: (visit) => {
      visit('x-tenant', tenant)
    },
  }
}

function nanosecondsPerRequest(shape: Shape, count: number): number {
  const table = new RouteTable(rulesOf(shape, count), new PatternMemory())
  const asked = Array.from({ length: 97 }, (_, index) => (index * 103) % (count * MATCHES))
  const requests = asked.map((index) => ({
    request: { method: 'GET', path: shape.path(index), query: '' },
    fields: fieldsOf(shape.header(index)),
  }))
  let found = 0
  const run = (times: number): void => {
    for (let at = 0; at < times; at += 1) {
      const each = requests[at % requests.length]
      if (each !== undefined && table.match(each.request, each.fields) !== undefined) found += 1
    }
  }
  const share = shape.isSlow === true ? 0.05 : 1
  run(WARM_UP * share)
  const began = process.cpuUsage().user
  run(REQUESTS * share)
  const spent = process.cpuUsage().user - began
  if (found > 0 === (shape === SHAPES['no route of its own'])) throw new Error(`${found} found`)
  return (spent * 1000) / (REQUESTS * share)
}

/** Of each shape ns a request by 10 and by 1,000 rules. */
export function measureRouter(): Readonly<Record<string, number>> {
  return Object.fromEntries(
    Object.entries(SHAPES).flatMap(([name, shape]) =>
      COUNTS.map((count) => [
        `${name}, ${count} rules of ${MATCHES}: ns a request`,
        nanosecondsPerRequest(shape, count),
      ]),
    ),
  )
}

if (import.meta.main)
  for (const [name, value] of Object.entries(measureRouter()))
    console.log(`${name} ${value.toFixed(0)}`)
