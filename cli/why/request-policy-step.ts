// SPDX-License-Identifier: Apache-2.0
// What the policies of a waypoint say of a request, rule by rule. Pure.

import type { RequestHead } from '../../mesh/http/message.ts'
import type { SpiffeId } from '../../mesh/model/types.ts'
import type {
  ExplainedRequestPolicy,
  ExplainedRequestRule,
  RequestObstacle,
} from '../../mesh/policy/request/explain.ts'
import type { ExplainedRequest } from '../../waypoint/explain-request.ts'
import type { PolicyRefusal } from '../../waypoint/policy/policy-gate.ts'
import type { Step } from './steps.ts'

interface Asked {
  /** Of the waypoint. */
  readonly name: string
  readonly who: SpiffeId | undefined
  readonly head: RequestHead
}

export function policyStep(
  { policies, refusal }: Extract<ExplainedRequest, { readonly kind: 'request' }>,
  { name, who, head }: Asked,
): Step {
  const details = policyDetails(policies)
  const asked = `${head.method} ${head.target}`
  const client = who ?? 'somebody without identity'
  if (refusal === undefined) {
    const by = allowing(policies)
    return {
      step: 'policy',
      result: 'ok',
      what:
        by === undefined
          ? `${client} may ask ${asked}: no ALLOW policy concerns it, and none denies`
          : `${client} may ask ${asked}`,
      ...(by !== undefined && { object: by }),
      details,
    }
  }
  const { by, message, reason } = refusal
  const object = by && `${by.madeOf ?? by.policy}${by.rule === undefined ? '' : ` rule ${by.rule}`}`
  return {
    step: 'policy',
    result: 'stop',
    what: `waypoint ${name} answers ${asked} with 403: ${message}`,
    ...(object !== undefined && { object }),
    change: changeFor(reason, by?.rule, `${client.replace('spiffe://', '')} ${asked}`),
    details,
  }
}

function changeFor(
  reason: PolicyRefusal['reason'],
  rule: number | undefined,
  asked: string,
): string {
  // Of a connection that is open; here one is asked about that is not.
  if (reason === 'waypointUnavailable') return 'call again'
  if (reason === 'policyMissing')
    return 'correct that policy: nothing passes by what cannot be read'
  return rule === undefined
    ? `add a rule that allows ${asked}`
    : 'change that rule so that it leaves such requests out'
}

/** The first rule that lets it in. */
function allowing(policies: readonly ExplainedRequestPolicy[]): string | undefined {
  for (const { policy, isEnforced, rules } of policies) {
    const rule = rules.find(({ truth }) => truth === 'yes')?.rule
    if (rule !== undefined && isEnforced && policy.action === 'allow')
      return `AuthorizationPolicy ${policy.key}${rule.place === undefined ? '' : ` rule ${rule.place}`}`
  }
  return undefined
}

/** Policy by policy, and of each rule by rule. */
export function policyDetails(policies: readonly ExplainedRequestPolicy[]): readonly string[] {
  return policies.flatMap(({ policy, isEnforced, truth, rules }) => {
    const kind = policy.isAudit ? 'AUDIT' : policy.action.toUpperCase()
    const trial = isEnforced || policy.isAudit ? '' : ' (dry run)'
    const says = { yes: 'matches', no: 'does not match', unknown: 'cannot be told' }[truth]
    return [
      `${kind} ${policy.key}${trial}: ${rules.length === 0 ? 'has no rule that could match' : says}`,
      ...rules.map(ruleLine),
    ]
  })
}

function ruleLine({ rule, truth, obstacles }: ExplainedRequestRule, at: number): string {
  const place = `  rule ${rule.place ?? at}:`
  if (truth === 'yes') return `${place} matches`
  const why = obstacles.map(obstacleText).join('; ')
  return `${place} ${truth === 'no' ? 'no' : 'cannot be told'}${why === '' ? '' : `: ${why}`}`
}

function obstacleText(obstacle: RequestObstacle): string {
  if (obstacle.kind === 'unread') return 'it has conditions that cannot be read here'
  const { field, isNegated, wanted, had } = obstacle
  return `${field} ${isNegated ? 'excludes' : 'wants'} ${wanted}, there is ${had === '' ? 'none' : had}`
}
