// SPDX-License-Identifier: Apache-2.0
// Who takes part in the waypoint's bench, and what they say to one another.

import type { HttpRule } from '../../mesh/model/http-routes.ts'
import { type HttpFilter } from '../../mesh/model/http-routes.ts'
import type { SocketAddress } from '../../mesh/model/types.ts'
import { ip, serviceKey } from '../../test/model/samples.ts'

export type Protocol = 'http1' | 'grpc'

export const CLIENT_NAME = 'frontend'
export const WAYPOINT_NAME = 'way'
export const BACKEND_NAME = 'catalog'
/** The Service that is called. */
export const TARGET: SocketAddress = { address: ip('10.96.0.50'), port: 80 }

/** Of half the routes, beside the path. */
const CANARY_HEADER = 'x-env'
const CANARY = 'canary'
/** What each route adds to requests and answers. */
const ROUTE_HEADER = 'x-ambit-route'
const SERVED_BY = { name: 'x-served-by', value: 'waypoint' }
export const REQUEST_TIMEOUT_S = 15
export const RETRIES = 2
export const RETRIED_STATUS = 503

/** The path that the route with this number leads. */
function pathOf(route: number): string {
  return `/api/v1/svc${String(route).padStart(2, '0')}`
}

const GRPC_METHOD = '/shop.Prices/Quote'
/** Leads to the last but two of 20 routes. */
const PATH = `${pathOf(17)}/items?id=3`

/** What a browser's call through a gateway carries, 438 bytes. */
const FIELDS: readonly (readonly [name: string, value: string])[] = [
  [
    'user-agent',
    'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0',
  ],
  ['accept', 'application/json'],
  ['accept-encoding', 'gzip, deflate, br'],
  ['accept-language', 'en-US,en;q=0.9'],
  ['x-request-id', '6f1c7e9a-2b54-4f6e-9a53-8d1f0d1f8c11'],
  ['traceparent', '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'],
  ['cookie', 'session=0123456789abcdef0123456789abcdef'],
  [CANARY_HEADER, 'prod'],
]

export const HTTP1_REQUEST = Buffer.from(
  `GET ${PATH} HTTP/1.1\r\nhost: ${BACKEND_NAME}.shop\r\n${FIELDS.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`,
)
/** A call of gRPC, whose route matches the path's beginning as any other's. */
export const GRPC_REQUEST: readonly (readonly [name: string, value: string])[] = [
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', GRPC_METHOD],
  [':authority', `${BACKEND_NAME}.shop`],
  ['content-type', 'application/grpc'],
  ['user-agent', 'grpc-node-js/1.13.4'],
  ['te', 'trailers'],
  ['grpc-accept-encoding', 'identity,deflate,gzip'],
  ['traceparent', '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'],
]
export const GRPC_MESSAGE_BYTES = 60
export const GRPC_ANSWER_BYTES = 100

/** The rules of so many routes, every second with one more for a header; the last takes the calls of gRPC. */
export function rulesOf(routes: number): readonly HttpRule[] {
  const rules: HttpRule[] = []
  const add = (name: string, path: string, isCanary: boolean): void => {
    const filters: HttpFilter[] = [
      {
        kind: 'requestHeaders',
        edit: { set: [{ name: ROUTE_HEADER, value: name }], add: [], remove: [] },
      },
      { kind: 'responseHeaders', edit: { set: [SERVED_BY], add: [], remove: [] } },
    ]
    rules.push({
      route: { kind: 'HTTPRoute', namespace: 'shop', name, rule: '0' },
      matches: [
        {
          path: { kind: 'prefix', value: path },
          method: undefined,
          headers: isCanary
            ? [{ name: CANARY_HEADER, match: { kind: 'exact', value: CANARY } }]
            : [],
          queryParams: [],
        },
      ],
      filters,
      backends: [
        {
          target: { kind: 'service', service: serviceKey('shop', BACKEND_NAME), port: TARGET.port },
          weight: 1,
          filters: [],
        },
      ],
      timeouts: { requestMs: REQUEST_TIMEOUT_S * 1000, backendRequestMs: 0 },
      retry: { attempts: RETRIES, codes: [RETRIED_STATUS], backoffMs: 25 },
      session: undefined,
      fault: undefined,
    })
  }
  for (let route = 0; route < routes - 1; route += 1) {
    if (route % 2 === 1) add(`r${route}-canary`, pathOf(route), true)
    add(`r${route}`, pathOf(route), false)
  }
  add(`r${routes - 1}`, GRPC_METHOD, false)
  return rules
}
