// SPDX-License-Identifier: Apache-2.0
// Whether a pod lets a call in, rule by rule: the mesh's own rules, then the policies that concern the pod, by the functions that agents
// ask. Pure.

import { type InboundCall, judge } from '../../agent/proxy/admission.ts'
import { ingressRefusal } from '../../agent/proxy/decision/network-judge.ts'
import {
  POLICY_WAIT_MS,
  policyCall,
  policyRefusal,
  verdictOf,
} from '../../agent/proxy/decision/policy-judge.ts'
import type { PodPolicies } from '../../agent/proxy/decision/pod-policies.ts'
import type { LocalPod } from '../../agent/proxy/local-pod.ts'
import type { PolicyKey } from '../../mesh/model/policy.ts'
import { type ExplainedPolicy, explain, type Obstacle } from '../../mesh/policy/explain.ts'
import type { PolicyHit } from '../../mesh/policy/types.ts'
import { named, objectOf } from '../../mesh/policy/verdict-words.ts'
import { networkLines, networkStop } from './network-step.ts'
import type { Step } from './steps.ts'
import type { AgentView } from './world.ts'

/** The step of one pod, as its own agent has it. */
export function admissionStep(view: AgentView, pod: LocalPod, call: InboundCall): Step {
  const name = `${pod.namespace}/${pod.name}`
  const own = judge(call, pod)
  if (own !== undefined) return { step: 'admission', result: 'stop', what: own.message }
  // What is missing may be on its way, and calls wait for it: told is what becomes of them when it does not come.
  const policies: PodPolicies = { ...view.policies.of(pod), gapMetAtMs: 0 }
  const refusal = policyRefusal(policies, call, view.missingPolicies, POLICY_WAIT_MS)
  const asked = policyCall(call)
  const concerning = policies.layers.flatMap(({ keys }) =>
    [...keys].flatMap((key) => view.mesh.policies.get(key as PolicyKey) ?? []),
  )
  const details = [
    ...explain(concerning, asked).flatMap(policyLines),
    ...networkLines(policies.network.policies, 'ingress'),
  ]
  const verdict = verdictOf(policies.layers, asked)
  if (refusal?.reason === 'policyMissing' || verdict === undefined)
    return {
      step: 'admission',
      result: 'stop',
      what: `${name} is closed: ${refusal?.message ?? ''}`,
      change: 'correct that policy, or see why it does not reach the agent ("ambit status")',
      details,
    }
  const kept = ingressRefusal(policies, call, pod, view.mesh)
  if (kept !== undefined) return networkStop('admission', name, kept, details)
  const who = call.peerIdentity ?? `somebody without identity at ${call.peer.address}`
  switch (verdict.kind) {
    case 'allowed':
      return {
        step: 'admission',
        result: 'ok',
        what:
          verdict.by === undefined
            ? `${name} lets ${who} in: no ALLOW policy concerns it, and none denies`
            : `${name} lets ${who} in, by ${hitText(verdict.by)}`,
        ...(verdict.by === undefined ? {} : { object: objectOf(verdict.by.policy) }),
        details,
      }
    case 'denied':
    case 'unknown':
      return {
        step: 'admission',
        result: 'stop',
        what:
          verdict.kind === 'denied'
            ? `${name} refuses ${who}: explicitly denied by ${hitText(verdict.by)}`
            : `${name} refuses ${who}: whether ${hitText(verdict.by)} denies cannot be told here, so it does`,
        object: objectOf(verdict.by.policy),
        change:
          call.peerIdentity === undefined
            ? 'bring the caller into the mesh, so that it has an identity; or change that rule'
            : 'change that rule so that it leaves this caller out',
        details,
      }
    case 'notAllowed':
      return {
        step: 'admission',
        result: 'stop',
        what: `${name} refuses ${who}: allow policies exist, but none allowed`,
        object: named(verdict.policies.map(objectOf)),
        change:
          call.peerIdentity === undefined
            ? 'bring the caller into the mesh, so that it has an identity; or add a rule that allows it without one'
            : `add a rule that allows ${who.replace('spiffe://', '')} on port ${call.target.port}`,
        details,
      }
  }
}

function hitText({ policy, rule }: PolicyHit): string {
  const place = rule.place === undefined ? '' : ` rule ${rule.place}`
  return `${objectOf(policy)}${place}`
}

function policyLines({ policy, isEnforced, truth, rules }: ExplainedPolicy): readonly string[] {
  const kind = policy.isAudit ? 'AUDIT' : policy.action.toUpperCase()
  const trial = isEnforced || policy.isAudit ? '' : ' (dry run)'
  const says = { yes: 'matches', no: 'does not match', unknown: 'cannot be told' }[truth]
  return [
    `${kind} ${policy.namespace}/${policy.name}${trial}: ${rules.length === 0 ? 'has no rule that could match' : says}`,
    ...rules.map(({ rule, truth: ofRule, obstacles }, at) => {
      const place = rule.place ?? at
      if (ofRule === 'yes') return `  rule ${place}: matches`
      return `  rule ${place}: ${ofRule === 'no' ? 'no' : 'cannot be told'}${obstacles.length === 0 ? '' : `: ${obstacles.map(obstacleText).join('; ')}`}`
    }),
  ]
}

function obstacleText({ kind, field, wanted, had }: Obstacle): string {
  if (kind === 'unread') return 'it has conditions that cannot be read here'
  if (kind === 'empty') return 'it says nothing'
  const isNegative = field?.startsWith('not') === true
  return `${field ?? ''} ${isNegative ? 'excludes' : 'wants'} ${wanted}, the call has ${had === '' ? 'none' : had}`
}
