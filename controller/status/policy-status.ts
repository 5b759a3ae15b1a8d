// SPDX-License-Identifier: Apache-2.0
// What is to be said of one policy object, and how it differs from what its status says. Pure.

import type { PolicyKey } from '../../mesh/model/policy.ts'
import { type Fields, fieldsOf } from '../istio-api/flaw.ts'
import type { Condition, SeenObject } from '../istio-api/seen-object.ts'
import { type Verdict, WAYPOINT_ACCEPTED, ZTUNNEL_ACCEPTED } from './acceptance.ts'
import type { Concern, Enforcement } from './enforcement.ts'

/** Ours alone: Istio says of no policy whether it is in force. */
const ENFORCED = 'Enforced'
const OURS: ReadonlySet<unknown> = new Set([ZTUNNEL_ACCEPTED, ENFORCED])

/** What of an object agents are sent. */
export interface SentPolicy {
  readonly key: PolicyKey
  readonly concern: Concern
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

/** Says for how many workloads a policy is in force. */
export function enforcedVerdict(use: SentPolicy['use'], counts: Enforcement): Verdict {
  const { concerned, inForce, lagging, unseen } = counts
  const type = ENFORCED
  const of = `${inForce} of ${concerned} workload${concerned === 1 ? '' : 's'}`
  if (concerned === 0)
    return {
      type,
      status: 'False',
      reason: 'NoWorkloads',
      message: 'it concerns no workload of the mesh',
    }
  const awaited = [
    ...(lagging.length === 0 ? [] : [`; awaited: agents of ${lagging.join(', ')}`]),
    ...(unseen.length === 0
      ? []
      : [`; not connected to this controller: agents of ${unseen.join(', ')}`]),
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
      reason: 'AgentsNotSeen',
      message: `in force for ${of}${awaited}`,
    }
  return use === 'audit'
    ? { type, status: 'True', reason: 'Audited', message: `calls to ${of} are put on record` }
    : { type, status: 'True', reason: 'InForce', message: `in force for ${of}` }
}

/**
 * The conditions that the object is to have: those of others as they are, and ours. Undefined when it has them. What has not changed
 * keeps its time.
 */
export function wantedConditions(
  { seen }: Pick<PolicyStatus, 'seen'>,
  verdicts: readonly Verdict[],
  now: Date,
): readonly object[] | undefined {
  const types = new Set<unknown>([...OURS, ...verdicts.map(({ type }) => type)])
  const there = seen.conditions.map((each): Fields => fieldsOf(each) ?? {})
  const mine = there.filter((each) => types.has(each['type']) || isFormerlyOurs(each))
  const isRight =
    mine.length === verdicts.length &&
    verdicts.every((verdict) => mine.some((each) => saysSame(each, verdict, seen.generation)))
  if (isRight) return undefined
  return [
    ...there.filter((each) => !mine.includes(each)),
    ...verdicts.map((verdict): Condition => {
      const before = mine.find(({ type }) => type === verdict.type)
      const since = before?.['status'] === verdict.status ? before['lastTransitionTime'] : undefined
      return {
        ...verdict,
        observedGeneration: seen.generation,
        lastTransitionTime: typeof since === 'string' ? since : wholeSeconds(now),
      }
    }),
  ]
}

/** A waypoint's condition is whoever serves waypoints', but for the one by which we say that nobody does. */
function isFormerlyOurs(condition: Fields): boolean {
  return condition['type'] === WAYPOINT_ACCEPTED && condition['reason'] === 'AncestorNotBound'
}

function saysSame(condition: Fields, verdict: Verdict, generation: number): boolean {
  return (
    condition['type'] === verdict.type &&
    condition['status'] === verdict.status &&
    condition['reason'] === verdict.reason &&
    condition['message'] === verdict.message &&
    Number(condition['observedGeneration']) === generation
  )
}

/** As Kubernetes writes times. */
function wholeSeconds(date: Date): string {
  return date.toISOString().replace(/\.\d+Z$/, 'Z')
}
