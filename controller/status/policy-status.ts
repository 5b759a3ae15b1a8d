// SPDX-License-Identifier: Apache-2.0
// What is to be said of one policy object, and how it differs from what its status says. Pure.

import type { PolicyKey } from '../../mesh/model/policy.ts'
import { type Fields, fieldsOf } from '../istio-api/flaw.ts'
import type { SeenObject } from '../istio-api/seen-object.ts'
import { type Verdict, WAYPOINT_ACCEPTED, ZTUNNEL_ACCEPTED } from './acceptance.ts'
import { mergedConditions } from './conditions.ts'
import type { Concern, Enforcement } from './enforcement.ts'

/** Ours alone: Istio says of no policy whether it is in force. */
const ENFORCED = 'Enforced'
const OURS: ReadonlySet<unknown> = new Set([ZTUNNEL_ACCEPTED, ENFORCED])

/** What of an object agents or waypoints are sent. */
export interface SentPolicy {
  readonly key: PolicyKey
  /** Whose policy it is to enforce: agents', for those workloads; or those waypoints', as `namespace/name`. */
  readonly readers:
    | { readonly kind: 'agents'; readonly concern: Concern }
    | { readonly kind: 'waypoints'; readonly gateways: readonly string[] }
  /** On trial, or on record only. */
  readonly use: 'enforced' | 'dryRun' | 'audit'
}

export interface PolicyStatus {
  readonly kind: 'AuthorizationPolicy' | 'PeerAuthentication'
  readonly namespace: string
  readonly name: string
  readonly seen: SeenObject
  readonly accepted: Verdict
  /** Undefined when agents are sent nothing of it; `idle` says what that means. */
  readonly sent: SentPolicy | undefined
  readonly idle: Verdict
}

/** Nothing of the object is enforced by anybody. */
export const NOT_ENFORCED: Verdict = {
  type: ENFORCED,
  status: 'False',
  reason: 'NotEnforced',
  message: 'agents have nothing of it',
}

/** The same of one that is attached to what waypoints serve. */
export const UNHEARD_BY_WAYPOINTS: Verdict = {
  ...NOT_ENFORCED,
  message: 'waypoints have nothing of it',
}

/** It says nothing of its own. */
export const INHERITED: Verdict = {
  type: ENFORCED,
  status: 'True',
  reason: 'NothingAsked',
  message: 'it asks for nothing: what stands above it counts',
}

/** It asks for nothing that could be enforced. */
export const NOTHING_ASKED: Verdict = {
  type: ENFORCED,
  status: 'True',
  reason: 'NothingAsked',
  message: 'callers need not prove who they are',
}

/** What is counted, who is waited for, and what it is called when there is nothing to count. */
const WORDS = {
  agents: {
    what: 'workload',
    who: 'agents of',
    nobody: { reason: 'NoWorkloads', message: 'it concerns no workload of the mesh' },
    absent: 'not connected to a controller: agents of',
    unseen: 'AgentsNotSeen',
  },
  waypoints: {
    what: 'waypoint',
    who: 'pods of',
    nobody: { reason: 'NoWaypoint', message: 'it concerns no waypoint' },
    absent: 'not connected to this controller: pods of',
    unseen: 'WaypointsNotSeen',
  },
} as const

/** Says for how many workloads or waypoints a policy is in force. */
export function enforcedVerdict(
  use: SentPolicy['use'],
  readers: SentPolicy['readers']['kind'],
  counts: Enforcement,
): Verdict {
  const { concerned, inForce, lagging, unseen } = counts
  const type = ENFORCED
  const words = WORDS[readers]
  const of = `${inForce} of ${concerned} ${words.what}${concerned === 1 ? '' : 's'}`
  if (concerned === 0) return { type, status: 'False', ...words.nobody }
  const awaited = [
    ...(lagging.length === 0 ? [] : [`; awaited: ${words.who} ${lagging.join(', ')}`]),
    ...(unseen.length === 0 ? [] : [`; ${words.absent} ${unseen.join(', ')}`]),
  ].join('')
  if (use === 'dryRun')
    return {
      type,
      status: 'False',
      reason: 'DryRun',
      message: `evaluated for ${of}, and enforced for none${awaited}`,
    }
  if (lagging.length > 0)
    return { type, status: 'False', reason: 'Pending', message: `in force for ${of}${awaited}` }
  if (unseen.length > 0)
    return {
      type,
      status: 'Unknown',
      reason: words.unseen,
      message: `in force for ${of}${awaited}`,
    }
  return use === 'audit'
    ? { type, status: 'True', reason: 'Audited', message: `calls to ${of} are put on record` }
    : { type, status: 'True', reason: 'InForce', message: `in force for ${of}` }
}

/** The conditions that the object is to have: those of others as they are, and ours. Undefined when it has them. */
export function wantedConditions(
  { seen }: Pick<PolicyStatus, 'seen'>,
  verdicts: readonly Verdict[],
  now: Date,
): readonly object[] | undefined {
  const types = new Set<unknown>([...OURS, ...verdicts.map(({ type }) => type)])
  const hasSpoken = seen.conditions.some((each) => fieldsOf(each)?.['type'] === ENFORCED)
  const isOurs = (each: Fields): boolean =>
    types.has(each['type']) || isFormerlyOurs(each, hasSpoken)
  return mergedConditions(seen.conditions, isOurs, verdicts, { generation: seen.generation, now })
}

/** A waypoint's condition is whoever serves waypoints'; ours is the one by which we say that nobody does, and any once we have spoken. */
function isFormerlyOurs(condition: Fields, hasSpoken: boolean): boolean {
  return (
    condition['type'] === WAYPOINT_ACCEPTED &&
    (hasSpoken || condition['reason'] === 'AncestorNotBound')
  )
}
