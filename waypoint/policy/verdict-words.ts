// SPDX-License-Identifier: Apache-2.0
// What policies have said of a call, in words: the same as agents', which operators search for.

import type { WaypointPolicy } from '../../mesh/model/waypoint-policy.ts'
import type { RequestHit, RequestVerdict } from '../../mesh/policy/request/types.ts'
import type { DecidedBy } from '../../mesh/telemetry/connection-record.ts'

/** A call, or a request, is not let through. */
export interface PolicyRefusal {
  /** `policyMissing`: what is to judge it cannot be read. */
  readonly reason: 'policyDenied' | 'policyMissing'
  readonly message: string
  readonly by: DecidedBy | undefined
}

/** Policies that a message names. */
const MOST_NAMED = 5

/** Undefined of a call that is let through. */
export function refusalOf(verdict: RequestVerdict): PolicyRefusal | undefined {
  switch (verdict.kind) {
    case 'allowed':
      return undefined
    case 'denied':
      return denied(`explicitly denied by: ${verdict.by.policy.key}`, decidedBy(verdict.by))
    case 'unknown':
      return denied(
        `explicitly denied by: ${verdict.by.policy.key} (whether its rule matches cannot be told)`,
        decidedBy(verdict.by),
      )
    case 'notAllowed': {
      const { policies } = verdict
      const [only] = policies.length === 1 ? policies : []
      return denied(
        `allow policies exist, but none allowed: ${namesOf(policies)}`,
        only && { policy: only.key, rule: undefined, madeOf: objectOf(only) },
      )
    }
  }
}

/** What policies on trial would have made of it; undefined when nothing. */
export function trialText(verdict: RequestVerdict | undefined): string | undefined {
  switch (verdict?.kind) {
    case undefined:
      return undefined
    case 'denied':
    case 'unknown':
      return `would be denied by: ${hitText(verdict.by)}`
    case 'notAllowed':
      return `would not be allowed by: ${namesOf(verdict.policies)}`
    case 'allowed':
      return verdict.by && `would be allowed by: ${hitText(verdict.by)}`
  }
}

/** The object that a person has written. */
export function objectOf({ key }: Pick<WaypointPolicy, 'key'>): string {
  return `AuthorizationPolicy ${key}`
}

function denied(message: string, by: DecidedBy | undefined): PolicyRefusal {
  return { reason: 'policyDenied', message, by }
}

function decidedBy({ policy, rule }: RequestHit): DecidedBy {
  return { policy: policy.key, rule: rule.place, madeOf: objectOf(policy) }
}

function hitText({ policy, rule }: RequestHit): string {
  return rule.place === undefined ? policy.key : `${policy.key}, rule ${rule.place}`
}

function namesOf(policies: readonly WaypointPolicy[]): string {
  const more = policies.length - MOST_NAMED
  const names = policies.slice(0, MOST_NAMED).map(({ key }) => key)
  return names.join(', ') + (more > 0 ? ` and ${more} more` : '')
}
