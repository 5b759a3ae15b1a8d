// SPDX-License-Identifier: Apache-2.0
// Reads a GRPCRoute (gateway.networking.k8s.io/v1). To HTTP a call of gRPC is a request for /service/method, so its rules are those of an
// HTTPRoute that match such paths.

import type { HttpMatch, PathMatch } from '../../mesh/model/http-routes.ts'
import type { Origin } from '../core/origin.ts'
import { type FlawReader, isAbsent } from '../istio-api/flaw.ts'
import type { PolicyObject } from '../istio-api/seen-object.ts'
import type { Reading } from '../reading/object-reader.ts'
import { type Form, readMap, readText, readWord } from './route-fields.ts'
import { GRPC_FILTERS, readFilters } from './route-filters.ts'
import { readHeaderMatches, readMatches } from './route-matches.ts'
import { readBackends, readRoute, type RouteFacts, type RouteForm } from './route-object.ts'
import { checkRegex, literal } from './route-regex.ts'
import { NO_TIMEOUTS, readSession } from './rule-settings.ts'

const RULE_FIELDS = ['name', 'matches', 'filters', 'backendRefs', 'sessionPersistence']
const LONGEST = 1024
const SERVICE: Form = {
  pattern: /^\.?[a-z_][a-z_0-9]*(?:\.[a-z_][a-z_0-9]*)*$/i,
  longest: LONGEST,
  words: 'a service of gRPC',
}
const METHOD: Form = {
  pattern: /^[A-Za-z_][A-Za-z_0-9]*$/,
  longest: LONGEST,
  words: 'a method of gRPC',
}
const ANY_SEGMENT = '[^/]+'

const FORM: RouteForm = {
  kind: 'GRPCRoute',
  readRule: ({ reader, namespace }, field, rule, id) => {
    const context = { reader, namespace, types: GRPC_FILTERS }
    readMap(reader, field, rule, RULE_FIELDS)
    return {
      matches: readMatches(reader, `${field}.matches`, rule.matches, readGrpcMatch),
      filters: readFilters(context, `${field}.filters`, rule.filters),
      backends: readBackends(context, `${field}.backendRefs`, rule.backendRefs),
      // It has no way to say them.
      timeouts: NO_TIMEOUTS,
      retry: undefined,
      session: readSession(reader, `${field}.sessionPersistence`, rule.sessionPersistence, id),
    }
  },
  withoutRules: [],
}

/** Reads a GRPCRoute. */
export function readGrpcRoute(object: PolicyObject, origin: Origin): Reading<RouteFacts> {
  return readRoute(FORM, object, origin)
}

function readGrpcMatch(reader: FlawReader, field: string, value: unknown): HttpMatch | undefined {
  const fields = readMap(reader, field, value, ['method', 'headers'])
  if (fields === undefined) return undefined
  const before = reader.flaws.length
  const path = readMethod(reader, `${field}.method`, fields.method)
  const headers = readHeaderMatches(reader, `${field}.headers`, fields.headers)
  if (reader.flaws.length > before || path === undefined) return undefined
  return { path, method: undefined, headers, queryParams: [] }
}

function readMethod(reader: FlawReader, field: string, value: unknown): PathMatch | undefined {
  const every: PathMatch = { kind: 'prefix', value: '/' }
  if (isAbsent(value)) return every
  const fields = readMap(reader, field, value, ['type', 'service', 'method'])
  if (fields === undefined) return undefined
  const type = readWord(reader, `${field}.type`, fields.type ?? 'Exact', [
    'Exact',
    'RegularExpression',
  ] as const)
  if (type === undefined) return undefined
  const part = (name: 'service' | 'method', form: Form): string | undefined => {
    const written = fields[name]
    if (isAbsent(written) || written === '') return undefined
    return type === 'Exact'
      ? readText(reader, `${field}.${name}`, written, form)
      : checkRegex(reader, `${field}.${name}`, written, form.longest)
  }
  const service = part('service', SERVICE)
  const method = part('method', METHOD)
  if (type === 'RegularExpression') {
    const [one, other] = [service, method].map((each) =>
      each === undefined ? ANY_SEGMENT : `(?:${each})`,
    )
    return service === undefined && method === undefined
      ? every
      : { kind: 'regex', value: `/${one}/${other}` }
  }
  if (service !== undefined && method !== undefined)
    return { kind: 'exact', value: `/${service}/${method}` }
  if (service !== undefined) return { kind: 'prefix', value: `/${service}` }
  return method === undefined
    ? every
    : { kind: 'regex', value: `/${ANY_SEGMENT}/${literal(method)}` }
}
