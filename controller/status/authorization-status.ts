// SPDX-License-Identifier: Apache-2.0
// What follows for the status of an AuthorizationPolicy from the object alone. Pure.

import type { Policy } from '../../mesh/model/policy.ts'
import type { TranslateConfig } from '../core/config.ts'
import type { AuthorizationPolicyFacts } from '../istio-api/authorization-policy.ts'
import { authorizationOf, isTooLarge } from '../istio-api/authorization-rules.ts'
import { acceptanceOf } from './acceptance.ts'
import { type Concern, EVERYBODY, inNamespace, namers } from './enforcement.ts'
import { NOT_ENFORCED, type PolicyStatus, type SentPolicy } from './policy-status.ts'

/** Says how the object was taken, and what of it agents are sent. */
export function authorizationStatus(
  config: TranslateConfig,
  facts: AuthorizationPolicyFacts,
): PolicyStatus {
  const { namespace, name, uid, generation, resourceVersion, createdAt, conditions } = facts
  const placed = authorizationOf(config, facts)
  return {
    kind: 'AuthorizationPolicy',
    namespace,
    name,
    seen: { uid, generation, resourceVersion, createdAt, conditions },
    accepted: acceptanceOf(facts, isTooLarge(config, facts)),
    sent: placed && sentPolicy(placed.policy),
    idle: NOT_ENFORCED,
  }
}

/** What of an object agents are sent, and whom it concerns. */
export function sentPolicy(policy: Policy): SentPolicy {
  const { key, isAudit, isDryRun } = policy
  const use = isAudit ? 'audit' : isDryRun ? 'dryRun' : 'enforced'
  return { key, readers: { kind: 'agents', concern: concernOf(policy) }, use }
}

function concernOf({ key, namespace, scope }: Policy): Concern {
  if (scope === 'mesh') return EVERYBODY
  return scope === 'namespace' ? inNamespace(namespace) : namers(key)
}
