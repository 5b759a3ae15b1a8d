// SPDX-License-Identifier: Apache-2.0
// What a route's status says of each of its parents: the conditions of the Gateway API, and Istio's that says whether a waypoint is there to
// serve it. Pure.

import type { HttpRule } from '../../mesh/model/http-routes.ts'
import type { ObjectKey } from '../core/origin.ts'
import type { RefProblem } from '../gateway-api/route-backends.ts'
import { isOfConnections, type RouteFacts } from '../gateway-api/route-object.ts'
import type { Attachment, ServiceWaypoint } from '../gateway-api/route-parents.ts'
import type { ParentRef } from '../gateway-api/route-refs.ts'
import type { SeenEntries } from '../gateway-api/seen-entries.ts'
import type { Fields } from '../istio-api/flaw.ts'
import type { Verdict } from './acceptance.ts'
import { type EntryList, wantedEntries } from './status-entries.ts'

/** A route and what has come of it. */
export interface JudgedRoute {
  readonly route: RouteFacts
  readonly rules: readonly HttpRule[]
  readonly problems: readonly RefProblem[]
  readonly parents: readonly JudgedParent[]
  /** Parents that are waypoints of ours. */
  readonly atWaypoints: readonly ParentRef[]
}

export interface JudgedParent {
  readonly parent: ParentRef
  /** The Service's object, and its key in the mesh. */
  readonly at: ObjectKey
  readonly key: string
  readonly waypoint: ServiceWaypoint
  readonly attachment: Attachment
}

export interface RouteStatus {
  readonly kind: RouteFacts['kind']
  readonly namespace: string
  readonly name: string
  readonly seen: SeenEntries
  /** Those that are ours, in the order of the spec. */
  readonly parents: readonly ParentStatus[]
}

interface ParentStatus {
  readonly parentRef: Fields
  readonly verdicts: readonly Verdict[]
}

const ACCEPTED = 'Accepted'
const RESOLVED_REFS = 'ResolvedRefs'
const PARTIALLY_INVALID = 'PartiallyInvalid'
/** Istio's. */
const RESOLVED_WAYPOINTS = 'ResolvedWaypoints'
const OURS: ReadonlySet<unknown> = new Set([
  ACCEPTED,
  RESOLVED_REFS,
  PARTIALLY_INVALID,
  RESOLVED_WAYPOINTS,
])
/** Flaws that a message names; the log has more. */
const MOST_NAMED = 5
const PARENTS: EntryList = { ref: 'parentRef', types: OURS, most: 32 }

/** What has become of an attached route among the routes of its Service. */
export type Standing = 'counts' | 'noRoom' | 'conflicted'

type Attached = Extract<Attachment, { readonly kind: 'attached' }>
type StandingAt = (service: string, attachment: Attached) => Standing

/** Says how a route was taken. */
export function routeStatus(judged: JudgedRoute, standingAt: StandingAt): RouteStatus {
  const { route, problems, parents, atWaypoints } = judged
  const { kind, namespace, name, seen } = route
  const ours = parents.filter(({ attachment }) => attachment.kind !== 'foreign')
  return {
    kind,
    namespace,
    name,
    seen,
    parents: [
      ...ours.map((each) => ({
        parentRef: each.parent.written,
        verdicts: [
          accepted(route, each, standingAt),
          resolvedRefs(problems),
          ...partiallyInvalid(route, each),
          resolvedWaypoints(each),
        ],
      })),
      ...atWaypoints.map((parent) => ({
        parentRef: parent.written,
        verdicts: [notByGateway(parent), resolvedRefs(problems)],
      })),
    ],
  }
}

/** GEP-1294: in a mesh routes are at Services. One that names a waypoint would be followed by nobody, and is told so. */
function notByGateway({ namespace, name }: ParentRef): Verdict {
  return {
    type: ACCEPTED,
    status: 'False',
    reason: 'NoMatchingParent',
    message: `Gateway ${namespace}/${name} is a waypoint, which follows the routes of the Services that use it: name those as parents`,
  }
}

function accepted(
  { rules, kind }: RouteFacts,
  { attachment, key }: JudgedParent,
  standingAt: StandingAt,
): Verdict {
  const type = ACCEPTED
  if (attachment.kind !== 'attached') {
    const message = attachment.kind === 'refused' ? attachment.message : ''
    return { type, status: 'False', reason: 'NoMatchingParent', message }
  }
  const standing = standingAt(key, attachment)
  if (standing === 'conflicted') {
    // GEP-1294, Route types: only one kind counts at a port of a Service.
    const message =
      'the Service has routes of another kind there, and one kind counts: GRPCRoutes, then HTTPRoutes, TLSRoutes, TCPRoutes'
    return { type, status: 'False', reason: 'Conflicted', message }
  }
  if (standing === 'noRoom') {
    const message = 'older routes of the Service leave no room for it on the way to a waypoint'
    return { type, status: 'False', reason: 'UnsupportedValue', message }
  }
  const faults = rules.flatMap(({ fault }) => fault ?? [])
  const [first] = faults
  if (first !== undefined && faults.length === rules.length)
    return {
      type,
      status: 'False',
      reason: first.reason,
      message: `no rule can be used, and their ${becomesOf(kind)}: ${named(faults)}`,
    }
  return { type, status: 'True', reason: ACCEPTED, message: 'its rules are offered to waypoints' }
}

function resolvedRefs(problems: readonly RefProblem[]): Verdict {
  const type = RESOLVED_REFS
  const [first] = problems
  return first === undefined
    ? { type, status: 'True', reason: RESOLVED_REFS, message: 'all that it refers to is there' }
    : { type, status: 'False', reason: first.reason, message: named(problems) }
}

/** What becomes of what falls under a rule that cannot be used. */
function becomesOf(kind: RouteFacts['kind']): string {
  if (isOfConnections(kind)) return 'connections are refused'
  return `requests are answered with ${kind === 'GRPCRoute' ? 'UNAVAILABLE' : '500'}`
}

/** Said only where it is so: the Gateway API knows no other state of it. */
function partiallyInvalid({ rules, kind }: RouteFacts, { attachment }: JudgedParent): Verdict[] {
  const faulty = rules.flatMap(({ name, fault }) => (fault === undefined ? [] : [{ name, fault }]))
  if (attachment.kind !== 'attached' || faulty.length === 0 || faulty.length === rules.length)
    return []
  const names = faulty.map(({ name }) => name).join(', ')
  return [
    {
      type: PARTIALLY_INVALID,
      status: 'True',
      reason: 'UnsupportedValue',
      // The Gateway API prescribes how it begins.
      message: `Dropped Rule ${names}, whose ${becomesOf(kind)}: ${named(faulty.map(({ fault }) => fault))}`,
    },
  ]
}

function resolvedWaypoints({ waypoint, attachment, parent }: JudgedParent): Verdict {
  const type = RESOLVED_WAYPOINTS
  const not = (reason: string, message: string): Verdict => {
    return { type, status: 'False', reason, message }
  }
  if (attachment.kind === 'refused') return not('NoMatchingParent', attachment.message)
  const service = `Service ${parent.namespace}/${parent.name}`
  if (waypoint.kind !== 'asked')
    return not(
      'MissingUseWaypointLabel',
      `${service} uses no waypoint, so that nobody does what the route says: label it or its namespace with istio.io/use-waypoint`,
    )
  if (waypoint.flaw !== undefined) return not('NoMatchingParent', waypoint.flaw)
  const message = `Gateway ${waypoint.namespace}/${waypoint.name} serves ${service}`
  return { type, status: 'True', reason: RESOLVED_WAYPOINTS, message }
}

function named(flaws: readonly { readonly message: string }[]): string {
  const texts = flaws.slice(0, MOST_NAMED).map(({ message }) => message)
  const others = flaws.length - texts.length
  return [...texts, ...(others > 0 ? [`and ${others} more`] : [])].join('; ')
}

/** The entries that a route's status is to have: those of others as they are, and ours. Undefined when it has them. */
export function wantedParents(
  { namespace, seen, parents }: RouteStatus,
  now: Date,
): readonly unknown[] | undefined {
  const wanted = parents.map(({ parentRef, verdicts }) => ({ ref: parentRef, verdicts }))
  return wantedEntries(PARENTS, { namespace, seen, wanted }, now)
}
