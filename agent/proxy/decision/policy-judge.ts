// SPDX-License-Identifier: Apache-2.0
// What a pod's policies say of a call into it, in the form in which admission asks. Where a policy is missing the pod is closed; only
// what is known to deny is not waited for. Pure.

import type { Policy } from '../../../mesh/model/policy.ts'
import type { PolicyCall, PolicyVerdict } from '../../../mesh/policy/types.ts'
import { decidedBy, denialOf, named, trialText } from '../../../mesh/policy/verdict-words.ts'
import type { DecidedBy, PolicyReports } from '../../../mesh/telemetry/connection-record.ts'
import type { InboundCall, Refusal } from '../admission.ts'
import type { PodGap, PodPolicies } from './pod-policies.ts'
import type { PolicyLayer } from './policy-layers.ts'

/** What becomes of calls into a pod of whose policies one is missing. */
export type MissingPolicies = 'refuse' | 'serve'

/**
 * How long a missing policy may be on its way: a control plane may name it first and send it next, and a pod may be called before
 * discovery has told of it. Shorter than a far agent waits for the answer to its CONNECT, which so hears the reason.
 */
export const POLICY_WAIT_MS = 8_000

const ALLOWED: PolicyVerdict = { kind: 'allowed', by: undefined }
/** In place of a gap where there is none. */
const COMPILING: PodGap = {
  kind: 'unknown',
  key: undefined,
  message: 'policies of the pod are being compiled',
}

/** What is asked of policies. */
export function policyCall({ peer, peerIdentity, target }: InboundCall): PolicyCall {
  return { identity: peerIdentity, source: peer.address, destination: target }
}

/** Why the call is refused, if it is; `nowMs` is the monotonic clock. Hot: once per call. */
export function policyRefusal(
  policies: PodPolicies,
  call: InboundCall,
  mode: MissingPolicies,
  nowMs: number,
): Refusal | undefined {
  const { gap } = policies
  if (gap?.kind === 'unreadable' && mode === 'refuse') return closedFor(gap, undefined)
  const verdict = verdictOf(policies.layers, policyCall(call))
  // What is here and not compiled yet is not missing: nothing is served without it.
  if (verdict === undefined) return gapRefusal(policies, gap ?? COMPILING, 'refuse', nowMs)
  if (gap === undefined || isDenied(verdict)) return refusalOf(verdict)
  return gapRefusal(policies, gap, mode, nowMs) ?? refusalOf(verdict)
}

/** That the pod is closed for what is missing of its policies, as long as it is; `nowMs` is the monotonic clock. */
export function gapRefusal(
  policies: PodPolicies,
  gap: PodGap,
  mode: MissingPolicies,
  nowMs: number,
): Refusal | undefined {
  policies.gapMetAtMs ??= nowMs
  const untilMs = policies.gapMetAtMs + POLICY_WAIT_MS
  const isPending = gap.kind !== 'unreadable' && nowMs < untilMs
  if (mode === 'serve' && !isPending) return undefined
  return closedFor(gap, isPending ? untilMs : undefined)
}

/** What those policies say of the call that are not enforced. */
export function policyReports(
  { layers }: PodPolicies,
  call: InboundCall,
): PolicyReports | undefined {
  let dryRun: string | undefined
  let audit: string[] | undefined
  // Hot: there are next to none, ever.
  if (layers.some(({ trial }) => trial !== undefined))
    dryRun = trialText(verdictOf(layers, policyCall(call), 'trial'))
  for (const { set, hasAudit } of layers)
    if (set !== undefined && set !== 'compiling' && hasAudit)
      for (const { policy } of set.reports(policyCall(call)))
        if (policy.isAudit) (audit ??= []).push(policy.key)
  if (dryRun === undefined && audit === undefined) return undefined
  return { dryRun, audit: audit && named(audit) }
}

/** Which rule lets the call in, where it takes one. */
export function allowedBy({ layers }: PodPolicies, call: InboundCall): DecidedBy | undefined {
  const verdict = verdictOf(layers, policyCall(call))
  return verdict?.kind === 'allowed' ? verdict.by && decidedBy(verdict.by) : undefined
}

/** As one set of all layers would say it; undefined when that turns on policies that are being compiled. */
export function verdictOf(
  layers: readonly PolicyLayer[],
  call: PolicyCall,
  which: 'set' | 'trial' = 'set',
): PolicyVerdict | undefined {
  let isCompiling = false
  let unknown: PolicyVerdict | undefined
  let allowed: PolicyVerdict | undefined
  let notAllowed: readonly Policy[] | undefined
  for (const layer of layers) {
    const set = layer[which]
    if (set === 'compiling') isCompiling = true
    if (set === undefined || set === 'compiling') continue
    const verdict = set.evaluate(call)
    if (verdict.kind === 'denied') return verdict
    if (verdict.kind === 'unknown') unknown ??= verdict
    else if (verdict.kind === 'notAllowed')
      notAllowed =
        notAllowed === undefined ? verdict.policies : [...notAllowed, ...verdict.policies]
    else if (verdict.by !== undefined) allowed ??= verdict
  }
  if (unknown !== undefined) return unknown
  if (isCompiling) return undefined
  if (allowed !== undefined) return allowed
  return notAllowed === undefined ? ALLOWED : { kind: 'notAllowed', policies: notAllowed }
}

function isDenied({ kind }: PolicyVerdict): boolean {
  return kind === 'denied' || kind === 'unknown'
}

function refusalOf(verdict: PolicyVerdict): Refusal | undefined {
  const denial = denialOf(verdict)
  return denial && { kind: 'refuse', reason: 'policyDenied', ...denial }
}

function closedFor(gap: PodGap, pendingUntilMs: number | undefined): Refusal {
  const { key, message } = gap
  const madeOf = 'madeOf' in gap ? gap.madeOf : undefined
  return {
    kind: 'refuse',
    reason: 'policyMissing',
    message,
    by: key === undefined ? undefined : { policy: key, rule: undefined, madeOf },
    ...(pendingUntilMs !== undefined && { pendingUntilMs }),
  }
}
