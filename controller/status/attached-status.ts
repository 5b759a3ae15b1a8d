// SPDX-License-Identifier: Apache-2.0
// What follows for the status of an AuthorizationPolicy that is attached to something: whether waypoints have it, and which. Pure.

import type { WaypointPolicy } from '../../mesh/model/waypoint-policy.ts'
import type { TranslateConfig } from '../core/config.ts'
import type { AuthorizationPolicyFacts } from '../istio-api/authorization-policy.ts'
import { isTooLargeForWaypoints } from '../istio-api/request-rules.ts'
import type { Attachment } from '../istio-api/waypoint-policies.ts'
import { named, type Verdict, WAYPOINT_ACCEPTED } from './acceptance.ts'
import { type PolicyStatus, UNHEARD_BY_WAYPOINTS } from './policy-status.ts'

/** Waypoints that a message names. */
const MOST_NAMED = 5

/** Says how the object was taken; undefined when it is somebody else's to say. `policy`: what waypoints are offered of it. */
export function attachedStatus(
  config: TranslateConfig,
  facts: AuthorizationPolicyFacts,
  attachments: readonly Attachment[],
  policy: WaypointPolicy | undefined,
): PolicyStatus | undefined {
  const { namespace, name, uid, generation, resourceVersion, createdAt, conditions } = facts
  if (attachments.length > 0 && attachments.every(({ kind }) => kind === 'foreign'))
    return undefined
  const gateways = new Set(
    attachments.flatMap(({ waypoints }) =>
      waypoints.map((each) => `${each.namespace}/${each.name}`),
    ),
  )
  const use = facts.action === 'audit' ? 'audit' : facts.isDryRun ? 'dryRun' : 'enforced'
  return {
    kind: 'AuthorizationPolicy',
    namespace,
    name,
    seen: { uid, generation, resourceVersion, createdAt, conditions },
    accepted: acceptanceOf(
      facts,
      attachments,
      [...gateways],
      isTooLargeForWaypoints(config, facts),
    ),
    sent: policy && {
      key: policy.key,
      use,
      readers: { kind: 'waypoints', gateways: [...gateways].sort() },
    },
    idle: UNHEARD_BY_WAYPOINTS,
  }
}

function acceptanceOf(
  facts: AuthorizationPolicyFacts,
  attachments: readonly Attachment[],
  gateways: readonly string[],
  isTooLarge: boolean,
): Verdict {
  const { action, target, flaws } = facts
  const verdict = (status: Verdict['status'], reason: string, message: string): Verdict => ({
    type: WAYPOINT_ACCEPTED,
    status,
    reason,
    message,
  })
  if (action === 'custom')
    return verdict(
      'False',
      'UnsupportedValue',
      'NOT IN FORCE: spec.action: CUSTOM asks an external provider, which waypoints do not yet; this policy denies nothing',
    )
  const isUnreadable = target.kind === 'attached' && target.refs.isUnreadable
  if (isTooLarge || facts.isCut || action === undefined || isUnreadable) {
    const why = isTooLarge ? 'the policy is too large to be sent' : named(flaws)
    return verdict('False', 'Invalid', `${closing(facts, isUnreadable)}: ${why}`)
  }
  const loose = attachments.filter(({ kind }) => kind !== 'bound')
  const looseText = loose.map(({ field, what, reason }) => `${field}: ${what} ${reason}`)
  if (loose.length === attachments.length) {
    const isMissing = attachments.length > 0 && attachments.every(({ kind }) => kind === 'missing')
    const why = [...looseText, ...(flaws.length === 0 ? [] : [named(flaws)])].join('; ')
    return verdict(
      'False',
      isMissing ? 'TargetNotFound' : 'AncestorNotBound',
      `no waypoint enforces it: ${why}`,
    )
  }
  const bound = `bound to ${fewOf(gateways)}`
  if (flaws.length === 0 && loose.length === 0) return verdict('True', 'Accepted', bound)
  const isInvalid = loose.length > 0 || flaws.some(({ kind }) => kind === 'invalid')
  const effect = facts.requestRules.some(({ isPartial }) => isPartial) ? [narrowing(facts)] : []
  return verdict(
    'True',
    isInvalid ? 'PartiallyInvalid' : 'UnsupportedValue',
    [bound, ...effect, ...looseText, ...(flaws.length === 0 ? [] : [named(flaws)])].join('; '),
  )
}

function fewOf(gateways: readonly string[]): string {
  if (gateways.length === 0) return 'a class of which there is no waypoint yet'
  const more = gateways.length - MOST_NAMED
  return `${gateways.slice(0, MOST_NAMED).join(', ')}${more > 0 ? ` and ${more} more` : ''}`
}

/** What becomes of a policy that cannot be read. */
function closing({ action }: AuthorizationPolicyFacts, isTargetUnreadable: boolean): string {
  const whom = isTargetUnreadable ? 'all calls that it may be about' : 'what it is attached to'
  if (action === 'allow') return `it allows nothing to ${whom}`
  return action === 'audit' ? 'nothing of it is put on record' : `everything is denied to ${whom}`
}

function narrowing({ action }: AuthorizationPolicyFacts): string {
  if (action === 'allow')
    return 'stricter than written, for rules with conditions that waypoints cannot evaluate allow nothing'
  return action === 'audit'
    ? 'more is put on record than written, for conditions that waypoints cannot evaluate are left out'
    : 'stricter than written, for conditions that waypoints cannot evaluate are left out, and the rest denies'
}
