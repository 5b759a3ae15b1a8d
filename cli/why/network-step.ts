// SPDX-License-Identifier: Apache-2.0
// What NetworkPolicies say of a connection, at either end, by the functions that agents ask. Pure.

import type { Refusal } from '../../agent/proxy/admission.ts'
import { egressRefusal } from '../../agent/proxy/decision/network-judge.ts'
import { POLICY_WAIT_MS } from '../../agent/proxy/decision/policy-judge.ts'
import type { OutboundDecision } from '../../agent/proxy/decision/outbound.ts'
import { trueTargets } from '../../agent/proxy/decision/true-targets.ts'
import type { LocalPod } from '../../agent/proxy/local-pod.ts'
import type { NetworkPolicy } from '../../mesh/model/network-policy.ts'
import type { SocketAddress } from '../../mesh/model/types.ts'
import type { NetworkWay } from '../../mesh/policy/network.ts'
import type { Step } from './steps.ts'
import type { AgentView } from './world.ts'

/** The step of the pod that calls; none where no NetworkPolicy is about its calls. */
export function egressSteps(
  { mesh, policies: ofPods, missingPolicies }: AgentView,
  pod: LocalPod,
  way: Exclude<OutboundDecision, { readonly kind: 'deny' }>,
  asked: SocketAddress,
): readonly Step[] {
  // What is missing may be on its way, and calls wait for it: told is what becomes of them when it does not come.
  const policies = { ...ofPods.of(pod), gapMetAtMs: 0 }
  const details = networkLines(policies.network.policies, 'egress')
  const targets = trueTargets(mesh, way, asked)
  const refused = egressRefusal(policies, { targets }, pod, mesh, missingPolicies, POLICY_WAIT_MS)
  const name = `${pod.namespace}/${pod.name}`
  if (refused !== undefined) return [networkStop('egress', name, refused, details)]
  if (details.length === 0) return []
  return [{ step: 'egress', result: 'ok', what: `${name} may call it`, details }]
}

/** That the connection ends here. */
export function networkStop(
  step: 'egress' | 'admission',
  name: string,
  { message, by }: Refusal,
  details: readonly string[],
): Step {
  return {
    step,
    result: 'stop',
    what: `${name}: ${message}`,
    ...(by?.madeOf !== undefined && { object: by.madeOf }),
    change:
      'add a rule to a NetworkPolicy that selects the pod, for the port of the called pod and this peer',
    details,
  }
}

/** One line for each that is about the direction. */
export function networkLines(
  policies: readonly NetworkPolicy[],
  way: NetworkWay,
): readonly string[] {
  return policies.flatMap(({ key, [way]: direction }) =>
    direction === undefined
      ? []
      : [`NetworkPolicy ${key}: ${way}, ${direction.rules.length} rules for TCP`],
  )
}
