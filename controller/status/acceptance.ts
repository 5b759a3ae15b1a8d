// SPDX-License-Identifier: Apache-2.0
// What a policy's status says of how it was read: the conditions that Istio's users know, with its reasons. Pure.

import type { AuthorizationPolicyFacts } from '../istio-api/authorization-policy.ts'
import type { Flaw } from '../istio-api/flaw.ts'
import type { PeerAuthenticationFacts } from '../istio-api/peer-authentication.ts'
import type { Rivals } from '../istio-api/peer-placement.ts'

/** Istio's names. */
export const ZTUNNEL_ACCEPTED = 'ZtunnelAccepted'
export const WAYPOINT_ACCEPTED = 'WaypointAccepted'

/** A condition without its times. */
export interface Verdict {
  readonly type: string
  readonly status: 'True' | 'False' | 'Unknown'
  readonly reason: string
  readonly message: string
}

/** Flaws that a message names; the log has more. */
const MOST_NAMED = 5

/** How an AuthorizationPolicy was taken. True: agents have it, be it stricter than written. */
export function acceptanceOf(facts: AuthorizationPolicyFacts, isTooLarge: boolean): Verdict {
  const { action, target, flaws } = facts
  const type = ZTUNNEL_ACCEPTED
  if (action === 'custom')
    return {
      type,
      status: 'False',
      reason: 'UnsupportedValue',
      message:
        'NOT IN FORCE: spec.action: CUSTOM asks an external provider, which agents cannot; this policy denies nothing',
    }
  if (isTooLarge)
    return {
      type,
      status: 'False',
      reason: 'Invalid',
      message: `the policy is too large to be sent: ${closing(facts)}`,
    }
  if (flaws.length === 0)
    return { type, status: 'True', reason: 'Accepted', message: 'agents have it as it is written' }
  const isClosed = facts.isCut || action === undefined || target.kind === 'unreadable'
  const isInvalid = flaws.some(({ kind }) => kind === 'invalid')
  const isPartial = facts.rules.some((rule) => rule.isPartial)
  if (isClosed)
    return {
      type,
      status: 'False',
      reason: 'Invalid',
      message: `${closing(facts)}: ${named(flaws)}`,
    }
  const effect = isPartial ? `${narrowing(facts)}: ` : ''
  return {
    type,
    status: 'True',
    reason: isInvalid ? 'PartiallyInvalid' : 'UnsupportedValue',
    message: `${effect}${named(flaws)}`,
  }
}

/** How a PeerAuthentication was taken, and who else speaks for its workloads. */
export function peerAcceptanceOf(
  { target, flaws, mode }: PeerAuthenticationFacts,
  rivals: Rivals | undefined,
): Verdict {
  const type = ZTUNNEL_ACCEPTED
  if (target.kind === 'unreadable') {
    const effect =
      mode === 'strict'
        ? 'mutual TLS is required of all that it may select'
        : 'it lets nobody in, for it does not say whom it selects'
    return { type, status: 'False', reason: 'Invalid', message: `${effect}: ${named(flaws)}` }
  }
  const { older, others = [] } = rivals ?? {}
  const flawed = flaws.length === 0 ? [] : [named(flaws)]
  if (older !== undefined)
    return {
      type,
      status: 'False',
      reason: 'Invalid',
      message: [
        `${older} is for the same workloads and older, so it counts and this one does not`,
        ...flawed,
      ].join('; '),
    }
  const contested = others.map(
    (rival) =>
      `${rival} is, or can be, for the same workloads: where both are, the older one counts`,
  )
  const message = [...flawed, ...contested].join('; ')
  return flaws.length > 0
    ? {
        type,
        status: 'True',
        reason: 'PartiallyInvalid',
        message: `as strict as it may be meant: ${message}`,
      }
    : {
        type,
        status: 'True',
        reason: 'Accepted',
        message: message || 'agents have it as it is written',
      }
}

/** What becomes of a policy that cannot be read. */
function closing({ action, target }: AuthorizationPolicyFacts): string {
  const whom = target.kind === 'unreadable' ? 'all that it may select' : 'what it selects'
  if (action === 'allow') return `it allows nothing to ${whom}`
  return action === 'audit' ? 'nothing of it is put on record' : `everything is denied to ${whom}`
}

function narrowing({ action }: AuthorizationPolicyFacts): string {
  if (action === 'allow')
    return 'stricter than written, for rules with conditions that agents cannot evaluate allow nothing'
  return action === 'audit'
    ? 'more is put on record than written, for conditions that agents cannot evaluate are left out'
    : 'stricter than written, for conditions that agents cannot evaluate are left out, and the rest denies'
}

/** The first flaws, for a message. */
export function named(flaws: readonly Flaw[]): string {
  const texts = flaws.slice(0, MOST_NAMED).map(({ field, reason }) => `${field} ${reason}`)
  const others = flaws.length - texts.length
  return [...texts, ...(others > 0 ? [`and ${others} more`] : [])].join('; ')
}
