// SPDX-License-Identifier: Apache-2.0
// HttpRoutes of every shape, for properties.

import fc from 'fast-check'
import { httpRoutesKey } from '../../mesh/model/http-routes-wire.ts'
import type {
  ConnectionRule,
  HttpBackendTarget,
  HttpFilter,
  HttpRoutes,
  HttpRule,
} from '../../mesh/model/http-routes.ts'

const text = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 8 })
const anyText = fc.string({ maxLength: 6 })
const number = fc.integer({ min: 1, max: 0xffff })
const durationMs = fc.integer({ min: 0, max: 366 * 86_400_000 })
const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined })
const few = <T>(value: fc.Arbitrary<T>) => fc.array(value, { maxLength: 3 })

const named = fc.record({
  name: text,
  match: fc.record({ kind: fc.constantFrom('exact' as const, 'regex' as const), value: anyText }),
})
const target: fc.Arbitrary<HttpBackendTarget> = fc.oneof(
  fc.record({ kind: fc.constant('service' as const), service: text, port: number }),
  fc.record({ kind: fc.constant('unresolved' as const), reason: anyText }),
)
const path = fc.record({
  kind: fc.constantFrom('full' as const, 'prefix' as const),
  value: anyText,
})
const header = fc.record({ name: text, value: anyText })
const edit = fc.record({ set: few(header), add: few(header), remove: few(text) })
const filter: fc.Arbitrary<HttpFilter> = fc.oneof(
  fc.record({ kind: fc.constantFrom('requestHeaders' as const, 'responseHeaders' as const), edit }),
  fc.record({
    kind: fc.constant('redirect' as const),
    scheme: maybe(anyText),
    hostname: maybe(anyText),
    port: maybe(number),
    path: maybe(path),
    status: number,
  }),
  fc.record({
    kind: fc.constant('rewrite' as const),
    hostname: maybe(anyText),
    path: maybe(path),
  }),
  fc.record({
    kind: fc.constant('mirror' as const),
    backend: target,
    numerator: fc.nat(100),
    denominator: number,
  }),
  fc.record({
    kind: fc.constant('cors' as const),
    allowOrigins: few(anyText),
    allowMethods: few(anyText),
    allowHeaders: few(anyText),
    exposeHeaders: few(anyText),
    allowCredentials: fc.boolean(),
    maxAgeSeconds: fc.nat(),
  }),
)
const rule: fc.Arbitrary<HttpRule> = fc.record({
  route: fc.record({ kind: anyText, namespace: anyText, name: anyText, rule: anyText }),
  matches: few(
    fc.record({
      path: fc.record({
        kind: fc.constantFrom('exact' as const, 'prefix' as const, 'regex' as const),
        value: text,
      }),
      method: maybe(anyText),
      headers: few(named),
      queryParams: few(named),
    }),
  ),
  filters: few(filter),
  backends: few(fc.record({ target, weight: fc.nat(1_000_000), filters: few(filter) })),
  timeouts: fc.record({ requestMs: durationMs, backendRequestMs: durationMs }),
  retry: maybe(fc.record({ attempts: fc.nat(100), codes: few(number), backoffMs: durationMs })),
  session: maybe(
    fc.record({
      kind: fc.constantFrom('cookie' as const, 'header' as const),
      name: text,
      absoluteMs: durationMs,
      idleMs: durationMs,
      key: text,
      isPermanent: fc.boolean(),
    }),
  ),
  fault: maybe(anyText),
})

const connection: fc.Arbitrary<ConnectionRule> = fc.record({
  route: fc.record({ kind: anyText, namespace: anyText, name: anyText, rule: anyText }),
  isTls: fc.boolean(),
  hostnames: few(anyText),
  backends: few(fc.record({ target, weight: fc.nat(1_000_000) })),
  fault: maybe(anyText),
})

/** Any HttpRoutes at all. */
export const anyHttpRoutes: fc.Arbitrary<HttpRoutes> = fc
  .record({
    service: text,
    port: maybe(number),
    clients: maybe(text),
    rules: few(rule),
    connections: few(connection),
  })
  // A clone has the prototypes that every other object has.
  .map((each) =>
    structuredClone({ key: httpRoutesKey(each.service, each.port, each.clients), ...each }),
  )
