// SPDX-License-Identifier: Apache-2.0
// What the mesh needs of a route of the Gateway API, read once. Anything may stand in such an object: a rule that is not whole and understood
// is not used, and the others are.

import { errorMessage } from '../../mesh/errors.ts'
import type { HttpMatch, HttpRetry, HttpTimeouts } from '../../mesh/model/http-routes.ts'
import type { Origin } from '../core/origin.ts'
import { type Fields, FlawReader, fieldsOf, isAbsent } from '../istio-api/flaw.ts'
import type { PolicyObject } from '../istio-api/seen-object.ts'
import type { ObjectProblem, Reading } from '../reading/object-reader.ts'
import {
  areIncompatible,
  type FilterContext,
  type FilterFacts,
  readFilters,
} from './route-filters.ts'
import { OBJECT_NAME, readEntries, readInteger, readMap, readOptionalText } from './route-fields.ts'
import {
  BACKEND_FIELDS,
  type BackendRef,
  type ParentRef,
  readBackendRef,
  readParents,
} from './route-refs.ts'
import type { SessionFacts } from './rule-settings.ts'
import { readSeenEntries, type SeenEntries } from './seen-entries.ts'

export type RouteKind = 'HTTPRoute' | 'GRPCRoute' | 'TCPRoute' | 'TLSRoute'
/** Those of connections, not of requests. */
const OF_CONNECTIONS: ReadonlySet<RouteKind> = new Set(['TCPRoute', 'TLSRoute'])

export interface BackendFacts {
  readonly ref: BackendRef
  readonly weight: number
  readonly filters: readonly FilterFacts[]
}

/** Why a rule is not used. */
export interface RuleFault {
  readonly reason: 'UnsupportedValue' | 'IncompatibleFilters'
  /** Field and reason of its first flaw. */
  readonly message: string
}

export interface RuleFacts {
  /** Its name, or its place. */
  readonly name: string
  /** Those that could be read. */
  readonly matches: readonly HttpMatch[]
  readonly filters: readonly FilterFacts[]
  readonly backends: readonly BackendFacts[]
  readonly timeouts: HttpTimeouts
  readonly retry: HttpRetry | undefined
  readonly session: SessionFacts | undefined
  readonly fault: RuleFault | undefined
}

export interface RouteFacts {
  readonly kind: RouteKind
  readonly cluster: string
  readonly namespace: string
  readonly name: string
  readonly seen: SeenEntries
  /** Services; there may be other parents. */
  readonly parents: readonly ParentRef[]
  /** Gateways, whosoever they are. */
  readonly gateways: readonly ParentRef[]
  readonly rules: readonly RuleFacts[]
  /** Of a TLSRoute: the names that clients ask for; none: whatever they ask for. */
  readonly hostnames: readonly string[]
}

/** Whether it says where connections go, and nothing of requests. */
export function isOfConnections(kind: RouteKind): boolean {
  return OF_CONNECTIONS.has(kind)
}

/** What the kinds differ in. */
export interface RouteForm {
  readonly kind: RouteKind
  /** Reads a rule, but for its flaws. `id` tells it from all other rules of the mesh. */
  readonly readRule: (context: RuleContext, field: string, rule: Fields, id: string) => RuleContent
  /** Undefined: host names mean nothing to it. */
  readonly readHostnames?: (reader: FlawReader, field: string, value: unknown) => readonly string[]
  /** What it is about that says no rules. */
  readonly withoutRules: readonly RuleFacts[]
}

export type RuleContext = Omit<FilterContext, 'types'>
export type RuleContent = Omit<RuleFacts, 'name' | 'fault'>

const SPEC_FIELDS = ['parentRefs', 'hostnames', 'rules', 'useDefaultGateways']
const MOST_RULES = 16
const MOST_BACKENDS = 16
const MOST_WEIGHT = 1_000_000
/** Of which requests nobody can say which they are. */
const NOTHING: RuleContent = {
  matches: [],
  filters: [],
  backends: [],
  timeouts: { requestMs: 0, backendRequestMs: 0 },
  retry: undefined,
  session: undefined,
}
const EVERYTHING: HttpMatch = {
  path: { kind: 'prefix', value: '/' },
  method: undefined,
  headers: [],
  queryParams: [],
}

/**
 * Reads a route. Never throws. Of one that cannot be read nothing is known but that it is there: its requests, all of them, are answered
 * with an error, if only its parents can be read.
 */
export function readRoute(
  form: RouteForm,
  object: PolicyObject,
  origin: Origin,
): Reading<RouteFacts> {
  try {
    return read(form, object, origin)
  } catch (thrown) {
    const { metadata, spec, status } = object
    const parentRefs = fieldsOf(spec)?.parentRefs
    const rules = `what cannot be read: ${errorMessage(thrown)}`
    return read(form, { metadata, spec: { parentRefs, rules }, status }, origin)
  }
}

function read(form: RouteForm, object: PolicyObject, { cluster }: Origin): Reading<RouteFacts> {
  const metadata = fieldsOf(object.metadata) ?? {}
  const reader = new FlawReader(form.kind, metadata)
  const namespace = typeof metadata.namespace === 'string' ? metadata.namespace : ''
  const name = typeof metadata.name === 'string' ? metadata.name : ''
  const seen = readSeenEntries(reader, object, 'parents')
  const { services: parents, gateways } = readParents(
    reader,
    namespace,
    fieldsOf(object.spec)?.parentRefs,
  )
  const problems: ObjectProblem[] = []
  const read = readRules(form, metadata, object.spec, problems)
  const facts = { kind: form.kind, cluster, namespace, name, seen, parents, gateways, ...read }
  return { facts, problems: [...reader.problems, ...problems] }
}

function readRules(
  form: RouteForm,
  metadata: Fields,
  written: unknown,
  problems: ObjectProblem[],
): Pick<RouteFacts, 'rules' | 'hostnames'> {
  const reader = new FlawReader(form.kind, metadata)
  const spec = readMap(reader, 'spec', written, SPEC_FIELDS)
  const entries = readEntries(reader, 'spec.rules', spec?.rules, MOST_RULES)
  const hostnames = form.readHostnames?.(reader, 'spec.hostnames', spec?.hostnames) ?? []
  const [flaw] = reader.flaws
  if (flaw !== undefined) {
    problems.push(...reader.problems)
    const message = `${flaw.field} ${flaw.reason}`
    const fault: RuleFault = { reason: 'UnsupportedValue', message }
    return { rules: [{ ...NOTHING, matches: [EVERYTHING], name: '0', fault }], hostnames }
  }
  if (isAbsent(spec?.rules) || entries.length === 0) return { rules: form.withoutRules, hostnames }
  const rules = entries.map((rule, at) => {
    // Each has flaws of its own.
    const ofRule = new FlawReader(form.kind, metadata)
    const facts = readRule(form, ofRule, metadata, at, rule)
    problems.push(...ofRule.problems)
    return facts
  })
  return { rules, hostnames }
}

function readRule(
  form: RouteForm,
  reader: FlawReader,
  metadata: Fields,
  place: number,
  value: unknown,
): RuleFacts {
  const field = `spec.rules[${place}]`
  const namespace = String(metadata.namespace)
  const fields = fieldsOf(value)
  const written = readOptionalText(reader, `${field}.name`, fields?.name, OBJECT_NAME)
  const name = written ?? String(place)
  const id = [form.kind, namespace, metadata.name, name].join('/')
  const content =
    fields === undefined ? undefined : form.readRule({ reader, namespace }, field, fields, id)
  if (fields === undefined) reader.note(field, 'is not a map')
  const fault = faultOf(reader, field, content)
  return fault === undefined && content !== undefined
    ? { ...content, name, fault: undefined }
    : { ...NOTHING, matches: content?.matches ?? [], name, fault }
}

function faultOf(
  reader: FlawReader,
  field: string,
  content: RuleContent | undefined,
): RuleFault | undefined {
  const isTorn =
    content !== undefined &&
    [content, ...content.backends].some(({ filters }) => areIncompatible(filters))
  if (isTorn) reader.note(`${field}.filters`, 'has a redirect beside a rewrite')
  const [flaw] = reader.flaws
  if (flaw === undefined) return undefined
  return isTorn
    ? { reason: 'IncompatibleFilters', message: `${field}.filters has a redirect beside a rewrite` }
    : { reason: 'UnsupportedValue', message: `${flaw.field} ${flaw.reason}` }
}

/** Reads where a rule sends requests. */
export function readBackends(
  context: FilterContext,
  field: string,
  value: unknown,
): readonly BackendFacts[] {
  const { reader, namespace } = context
  return readEntries(reader, field, value, MOST_BACKENDS).flatMap((each, at) => {
    const place = `${field}[${at}]`
    const fields = readMap(reader, place, each, [...BACKEND_FIELDS, 'weight', 'filters'])
    const ref = fields && readBackendRef(reader, namespace, place, fields)
    if (fields === undefined || ref === undefined) return []
    const weight = readInteger(reader, `${place}.weight`, fields.weight ?? 1, 0, MOST_WEIGHT) ?? 0
    return [{ ref, weight, filters: readFilters(context, `${place}.filters`, fields.filters) }]
  })
}
