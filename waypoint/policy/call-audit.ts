// SPDX-License-Identifier: Apache-2.0
// What goes on record of calls and requests that policies have judged: what was refused or cut and by which rule, what policies on trial
// would have done, and what is wanted on record. In the words of agents' audits. Pure.

import type { AuditEvent, AuditKind } from '../../mesh/audit/event.ts'
import { formatSocketAddress } from '../../mesh/model/address.ts'
import type { JudgedRequest } from '../../mesh/policy/request/types.ts'
import { objectOf } from '../../mesh/policy/verdict-words.ts'
import { END_REASONS } from '../../mesh/telemetry/end-reason.ts'
import type { Call } from '../listener/call.ts'
import type { PolicyRefusal, PolicyReports } from './policy-gate.ts'

/** By which waypoint, as `namespace/name`, and when. */
export interface AuditedBy {
  readonly waypoint: string
  readonly now: number
}

/** A request, or, without, a call, is not let through. */
export function refusedEvent(
  by: AuditedBy,
  call: Call,
  request: JudgedRequest | undefined,
  refusal: PolicyRefusal,
): AuditEvent {
  const kind = `${saidOf(request)}.denied` as const
  const text = END_REASONS[refusal.reason].text
  return decided(by, call, request, { kind, text, refusal })
}

/** An open call, or a WebSocket that a request asked for, is ended, for policies have changed. */
export function cutEvent(
  by: AuditedBy,
  call: Call,
  request: JudgedRequest | undefined,
  refusal: PolicyRefusal,
): AuditEvent {
  const { text } = END_REASONS.policyChanged
  return decided(by, call, request, { kind: 'connection.closed', text, refusal })
}

/** What policies on trial would have said. */
export function trialEvent(
  by: AuditedBy,
  call: Call,
  request: JudgedRequest | undefined,
  why: string,
): AuditEvent {
  return { ...about(by, call, request, `${saidOf(request)}.dryRun`), why }
}

/** A policy wants it on record. */
export function auditedEvent(
  by: AuditedBy,
  call: Call,
  request: JudgedRequest | undefined,
  { policy, rule }: PolicyReports['audited'][number],
): AuditEvent {
  return {
    ...about(by, call, request, `${saidOf(request)}.audited`),
    object: objectOf(policy),
    rule: rule.place,
    why: policy.key,
  }
}

function saidOf(request: JudgedRequest | undefined): 'connection' | 'request' {
  return request === undefined ? 'connection' : 'request'
}

interface Decision {
  readonly kind: AuditKind
  readonly text: string
  readonly refusal: PolicyRefusal
}

function decided(
  by: AuditedBy,
  call: Call,
  request: JudgedRequest | undefined,
  { kind, text, refusal }: Decision,
): AuditEvent {
  const decidedBy = refusal.by
  return {
    ...about(by, call, request, kind),
    object: decidedBy?.madeOf,
    rule: decidedBy?.rule,
    why: kind === 'request.denied' ? refusal.message : `${text}: ${refusal.message}`,
  }
}

function about(
  { waypoint, now }: AuditedBy,
  { source, target, called, service }: Call,
  request: JudgedRequest | undefined,
  kind: AuditKind,
): Omit<AuditEvent, 'why'> {
  const from = formatSocketAddress(source.address)
  const at = `${called.kind === 'service' ? 'Service' : 'pod'} ${called.namespace}/${called.name} at ${formatSocketAddress(target)}`
  return {
    kind,
    time: now,
    namespace: called.namespace,
    who: source.identity ?? from,
    // Without the query, in which secrets may be.
    what:
      request === undefined ? at : `${request.method} ${request.authority}${request.path} of ${at}`,
    details: {
      'src.addr': from,
      'src.workload': source.workload?.name,
      'src.namespace': source.workload?.namespace,
      waypoint,
      service: service?.hostname,
      method: request?.method,
      path: request?.path,
      authority: request?.authority,
    },
  }
}
