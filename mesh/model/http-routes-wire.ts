// SPDX-License-Identifier: Apache-2.0
// The form of HttpRoutes on the wire. What each field means is said beside the types, in http-routes.ts.

import { FLAG, list, optional, single, TEXT, UINT, type Value, word } from './codec/kind.ts'
import { converted, derived, field, wholeRecord } from './codec/record.ts'
import { FieldProblem } from './codec/wire-reader.ts'
import type {
  ConnectionRule,
  HeaderEdit,
  HeaderValue,
  HttpBackend,
  HttpBackendTarget,
  HttpFilter,
  HttpMatch,
  HttpRetry,
  HttpRoutes,
  HttpRule,
  HttpSession,
  HttpTimeouts,
  NamedMatch,
  PathEdit,
  PathMatch,
  RouteName,
  TextMatch,
} from './http-routes.ts'

/** Milliseconds, as google.protobuf.Duration has them: more than 32 bits, for a session may last a year. */
const DURATION_MS: Value<number> = converted(
  wholeRecord<{ readonly seconds: number; readonly nanos: number }>({
    seconds: field('seconds', 1, single(UINT)),
    nanos: field('nanos', 2, single(UINT)),
  }),
  0,
  ({ seconds, nanos }) => seconds * 1000 + Math.round(nanos / 1e6),
  (ms) => ({ seconds: Math.floor(ms / 1000), nanos: (ms % 1000) * 1e6 }),
)

const TEXT_MATCH = wholeRecord<TextMatch>({
  kind: field('kind', 1, single(word<TextMatch['kind']>(['exact', 'regex']))),
  value: field('value', 2, single(TEXT)),
})

const PATH_MATCH = wholeRecord<PathMatch>({
  kind: field('kind', 1, single(word<PathMatch['kind']>(['exact', 'prefix', 'regex']))),
  value: field('value', 2, single(TEXT), { isRequired: true }),
})

const NAMED_MATCH = wholeRecord<NamedMatch>({
  name: field('name', 1, single(TEXT), { isRequired: true }),
  match: field('match', 2, single(TEXT_MATCH)),
})

const MATCH = wholeRecord<HttpMatch>({
  path: field('path', 1, single(PATH_MATCH), { isRequired: true }),
  method: field('method', 2, optional(TEXT)),
  headers: field('headers', 3, list(NAMED_MATCH)),
  queryParams: field('query_params', 4, list(NAMED_MATCH)),
})

const HEADER_VALUE = wholeRecord<HeaderValue>({
  name: field('name', 1, single(TEXT), { isRequired: true }),
  value: field('value', 2, single(TEXT)),
})

const HEADER_EDIT = wholeRecord<HeaderEdit>({
  set: field('set', 1, list(HEADER_VALUE)),
  add: field('add', 2, list(HEADER_VALUE)),
  remove: field('remove', 3, list(TEXT)),
})

const PATH_EDIT = wholeRecord<PathEdit>({
  kind: field('kind', 1, single(word<PathEdit['kind']>(['full', 'prefix']))),
  value: field('value', 2, single(TEXT)),
})

interface WireTarget {
  readonly service: string
  readonly port: number
  readonly unresolved: string | undefined
}

const TARGET: Value<HttpBackendTarget> = converted(
  wholeRecord<WireTarget>({
    service: field('service', 1, single(TEXT)),
    port: field('port', 2, single(UINT)),
    unresolved: field('unresolved', 3, optional(TEXT)),
  }),
  { kind: 'unresolved', reason: 'says no backend' },
  ({ service, port, unresolved }): HttpBackendTarget => {
    if (unresolved !== undefined) return { kind: 'unresolved', reason: unresolved }
    if (service === '' || port === 0) throw new FieldProblem('says no backend')
    return { kind: 'service', service, port }
  },
  (target): WireTarget =>
    target.kind === 'service'
      ? { service: target.service, port: target.port, unresolved: undefined }
      : { service: '', port: 0, unresolved: target.reason },
)

/** A filter's own fields: those that are left when it is known which filter it is. */
type Body<K extends HttpFilter['kind']> = Omit<Extract<HttpFilter, { readonly kind: K }>, 'kind'>

const REDIRECT = wholeRecord<Body<'redirect'>>({
  scheme: field('scheme', 1, optional(TEXT)),
  hostname: field('hostname', 2, optional(TEXT)),
  port: field('port', 3, optional(UINT)),
  path: field('path', 4, optional(PATH_EDIT)),
  status: field('status', 5, single(UINT)),
})

const REWRITE = wholeRecord<Body<'rewrite'>>({
  hostname: field('hostname', 1, optional(TEXT)),
  path: field('path', 2, optional(PATH_EDIT)),
})

const MIRROR = wholeRecord<Body<'mirror'>>({
  backend: field('backend', 1, single(TARGET)),
  numerator: field('numerator', 2, single(UINT)),
  denominator: field('denominator', 3, single(UINT)),
})

const CORS = wholeRecord<Body<'cors'>>({
  allowOrigins: field('allow_origins', 1, list(TEXT)),
  allowMethods: field('allow_methods', 2, list(TEXT)),
  allowHeaders: field('allow_headers', 3, list(TEXT)),
  exposeHeaders: field('expose_headers', 4, list(TEXT)),
  allowCredentials: field('allow_credentials', 5, single(FLAG)),
  maxAgeSeconds: field('max_age_seconds', 6, single(UINT)),
})

interface WireFilter {
  readonly requestHeaders: HeaderEdit | undefined
  readonly responseHeaders: HeaderEdit | undefined
  readonly redirect: Body<'redirect'> | undefined
  readonly rewrite: Body<'rewrite'> | undefined
  readonly mirror: Body<'mirror'> | undefined
  readonly cors: Body<'cors'> | undefined
}

const NO_FILTER: WireFilter = {
  requestHeaders: undefined,
  responseHeaders: undefined,
  redirect: undefined,
  rewrite: undefined,
  mirror: undefined,
  cors: undefined,
}

const FILTER: Value<HttpFilter> = converted(
  wholeRecord<WireFilter>({
    requestHeaders: field('request_headers', 1, optional(HEADER_EDIT)),
    responseHeaders: field('response_headers', 2, optional(HEADER_EDIT)),
    redirect: field('redirect', 3, optional(REDIRECT)),
    rewrite: field('rewrite', 4, optional(REWRITE)),
    mirror: field('mirror', 5, optional(MIRROR)),
    cors: field('cors', 6, optional(CORS)),
  }),
  { kind: 'rewrite', hostname: undefined, path: undefined },
  (wire): HttpFilter => {
    const { requestHeaders, responseHeaders, redirect, rewrite, mirror, cors } = wire
    const found: HttpFilter[] = []
    if (requestHeaders) found.push({ kind: 'requestHeaders', edit: requestHeaders })
    if (responseHeaders) found.push({ kind: 'responseHeaders', edit: responseHeaders })
    if (redirect) found.push({ kind: 'redirect', ...redirect })
    if (rewrite) found.push({ kind: 'rewrite', ...rewrite })
    if (mirror) found.push({ kind: 'mirror', ...mirror })
    if (cors) found.push({ kind: 'cors', ...cors })
    const [only, another] = found
    // A filter of a later version, perhaps: without it the rule would not be what somebody wrote.
    if (only === undefined) throw new FieldProblem('says no filter that is known')
    if (another !== undefined) throw new FieldProblem('says several filters')
    return only
  },
  (filter): WireFilter => {
    const { kind } = filter
    if (kind === 'requestHeaders' || kind === 'responseHeaders')
      return { ...NO_FILTER, [kind]: filter.edit }
    return { ...NO_FILTER, [kind]: filter }
  },
)

const BACKEND = wholeRecord<HttpBackend>({
  target: field('target', 1, single(TARGET)),
  weight: field('weight', 2, single(UINT)),
  filters: field('filters', 3, list(FILTER)),
})

const TIMEOUTS = wholeRecord<HttpTimeouts>({
  requestMs: field('request', 1, single(DURATION_MS)),
  backendRequestMs: field('backend_request', 2, single(DURATION_MS)),
})

const RETRY = wholeRecord<HttpRetry>({
  attempts: field('attempts', 1, single(UINT)),
  codes: field('codes', 2, list(UINT)),
  backoffMs: field('backoff', 3, single(DURATION_MS)),
})

const SESSION = wholeRecord<HttpSession>({
  kind: field('kind', 1, single(word<HttpSession['kind']>(['cookie', 'header']))),
  name: field('name', 2, single(TEXT), { isRequired: true }),
  absoluteMs: field('absolute', 3, single(DURATION_MS)),
  idleMs: field('idle', 4, single(DURATION_MS)),
  isPermanent: field('permanent', 5, single(FLAG)),
  key: field('key', 6, single(TEXT), { isRequired: true }),
})

const ROUTE_NAME = wholeRecord<RouteName>({
  kind: field('kind', 1, single(TEXT), { isShared: true }),
  namespace: field('namespace', 2, single(TEXT), { isShared: true }),
  name: field('name', 3, single(TEXT)),
  rule: field('rule', 4, single(TEXT)),
})

const RULE = wholeRecord<HttpRule>({
  route: field('route', 1, single(ROUTE_NAME)),
  matches: field('matches', 2, list(MATCH)),
  filters: field('filters', 3, list(FILTER)),
  backends: field('backends', 4, list(BACKEND)),
  timeouts: field('timeouts', 5, single(TIMEOUTS)),
  retry: field('retry', 6, optional(RETRY)),
  session: field('session', 7, optional(SESSION)),
  fault: field('fault', 8, optional(TEXT)),
})

const CONNECTION_BACKEND = wholeRecord<ConnectionRule['backends'][number]>({
  target: field('target', 1, single(TARGET)),
  weight: field('weight', 2, single(UINT)),
})

const CONNECTION_RULE = wholeRecord<ConnectionRule>({
  route: field('route', 1, single(ROUTE_NAME)),
  isTls: field('tls', 2, single(FLAG)),
  hostnames: field('hostnames', 3, list(TEXT)),
  backends: field('backends', 4, list(CONNECTION_BACKEND)),
  fault: field('fault', 5, optional(TEXT)),
})

/** The key of what a Service's routes are, or those of one of its ports, or of clients of one namespace. */
export function httpRoutesKey(
  service: string,
  port: number | undefined,
  clients: string | undefined,
): string {
  const place = port === undefined ? service : `${service}:${port}`
  return clients === undefined ? place : `${place}@${clients}`
}

/** What stands for routes that cannot be read: a rule for all requests and connections that refuses them, and says why. */
export function unreadableHttpRoutes(key: string, reason: string): HttpRoutes {
  const [service = '', port, clients] = /^(.*?)(?::(\d{1,5}))?(?:@([^@]*))?$/
    .exec(key)
    ?.slice(1) ?? [key]
  const path = { kind: 'prefix', value: '/' } as const
  const route = { kind: 'HttpRoutes', namespace: '', name: key, rule: '0' }
  const fault = `the routes cannot be read: ${reason}`
  return {
    key,
    service,
    port: port === undefined ? undefined : Number(port),
    clients,
    rules: [
      {
        route,
        matches: [{ path, method: undefined, headers: [], queryParams: [] }],
        filters: [],
        backends: [],
        timeouts: { requestMs: 0, backendRequestMs: 0 },
        retry: undefined,
        session: undefined,
        fault,
      },
    ],
    connections: [{ route, isTls: false, hostnames: [], backends: [], fault }],
  }
}

export const HTTP_ROUTES_RECORD = wholeRecord<HttpRoutes>({
  key: derived(
    '',
    ({ service, port, clients }: HttpRoutes) => httpRoutesKey(service, port, clients),
    {
      dump: () => ({}),
    },
  ),
  service: field('service', 1, single(TEXT), { isRequired: true }),
  port: field('port', 2, optional(UINT)),
  rules: field('rules', 3, list(RULE)),
  clients: field('clients', 4, optional(TEXT)),
  connections: field('connections', 5, list(CONNECTION_RULE)),
})
