// SPDX-License-Identifier: Apache-2.0
// What follows for the status of a PeerAuthentication from objects alone. Pure.

import type { Policy } from '../../mesh/model/policy.ts'
import type { PeerAuthenticationFacts } from '../istio-api/peer-authentication.ts'
import type { Rivals } from '../istio-api/peer-placement.ts'
import { peerAcceptanceOf } from './acceptance.ts'
import { sentPolicy } from './authorization-status.ts'
import { INHERITED, NOT_ENFORCED, NOTHING_ASKED, type PolicyStatus } from './policy-status.ts'

/** Says how the object was taken; `policy` is what agents are sent of it, if anything. */
export function peerStatus(
  facts: PeerAuthenticationFacts,
  policy: Policy | undefined,
  rivals: Rivals | undefined,
): PolicyStatus {
  const { namespace, name, uid, generation, resourceVersion, createdAt, conditions } = facts
  const isVoid = facts.target.kind === 'unreadable' || rivals?.older !== undefined
  return {
    kind: 'PeerAuthentication',
    namespace,
    name,
    seen: { uid, generation, resourceVersion, createdAt, conditions },
    accepted: peerAcceptanceOf(facts, rivals),
    sent: policy && sentPolicy(policy),
    idle: isVoid ? NOT_ENFORCED : facts.mode === 'unset' ? INHERITED : NOTHING_ASKED,
  }
}
