// SPDX-License-Identifier: Apache-2.0
// Lets calls and requests through or not, and puts on record what policies want there.

import type { AuditJournal } from '../../mesh/audit/journal.ts'
import type { ExplainedRequestPolicy } from '../../mesh/policy/request/explain.ts'
import type { JudgedRequest } from '../../mesh/policy/request/types.ts'
import { trialText } from '../../mesh/policy/verdict-words.ts'
import type { AnswerOutcome } from '../exchange/types.ts'
import type { Call } from '../listener/call.ts'
import { type AuditedBy, auditedEvent, cutEvent, refusedEvent, trialEvent } from './call-audit.ts'
import { PolicyGate, type PolicyGateOptions, type PolicyRefusal } from './policy-gate.ts'

/** What a request is answered that is not let through. */
export interface DeniedAnswer extends AnswerOutcome {
  readonly refusal: PolicyRefusal
}

export interface EnforcementOptions extends PolicyGateOptions {
  readonly audit: Pick<AuditJournal, 'admits' | 'recordAdmitted'>
}

/** Envoy's words. */
const DENIED = {
  kind: 'answer',
  status: 403,
  headers: [],
  body: 'RBAC: access denied',
  flag: 'RBAC',
} as const
/** Who asks again, over a connection of its own, is led to the other waypoint. */
const ELSEWHERE = { kind: 'answer', status: 503, headers: [], body: '', flag: 'UH' } as const

export class Enforcement {
  readonly #gate: PolicyGate
  readonly #audit: EnforcementOptions['audit']
  readonly #waypoint: string

  /** @param onChange Called when policies have changed. */
  constructor({ audit, ...options }: EnforcementOptions, onChange: () => void) {
    this.#audit = audit
    this.#waypoint = `${options.waypoint.namespace}/${options.waypoint.name}`
    this.#gate = new PolicyGate(options, onChange)
  }

  /** The answer of a request that is not let through. Hot: once a request. */
  request(call: Call, request: JudgedRequest): DeniedAnswer | undefined {
    const refusal = this.#gate.judgeRequest(call, request)
    if (refusal?.reason === 'waypointUnavailable') return { ...ELSEWHERE, refusal }
    this.#report(call, request)
    if (refusal === undefined) return undefined
    this.#refused(call, request, refusal)
    return { ...DENIED, refusal }
  }

  /** Why a call that carries no requests is not let through. */
  connection(call: Call): PolicyRefusal | undefined {
    const refusal = this.#gate.judgeConnection(call)
    if (refusal?.reason === 'waypointUnavailable') return refusal
    this.#report(call, undefined)
    if (refusal !== undefined) this.#refused(call, undefined, refusal)
    return refusal
  }

  /** Whether it would be let through, should it carry no requests; nobody is told. */
  admitsConnection(call: Call): boolean {
    return this.#gate.judgeConnection(call) === undefined
  }

  /** Whether its client's first message is to be read before it is judged, should it carry no requests. */
  asksServerName(call: Call): boolean {
    return this.#gate.asksServerName(call)
  }

  /** Why a call that was let through is not any more; `request`: it is what became of that one, a WebSocket. */
  again(call: Call, request?: JudgedRequest): PolicyRefusal | undefined {
    const refusal =
      request === undefined
        ? this.#gate.judgeConnection(call)
        : this.#gate.judgeRequest(call, request)
    if (refusal === undefined || refusal.reason === 'waypointUnavailable') return refusal
    const payer = this.#admitted(call)
    if (payer !== undefined)
      this.#audit.recordAdmitted(payer, cutEvent(this.#by(), call, request, refusal))
    return refusal
  }

  /** What each policy that concerns a call says of it, rule by rule: for people. */
  explain(call: Call, request: JudgedRequest | undefined): readonly ExplainedRequestPolicy[] {
    return this.#gate.explain(call, request)
  }

  close(): void {
    this.#gate.close()
  }

  #refused(call: Call, request: JudgedRequest | undefined, refusal: PolicyRefusal): void {
    const payer = this.#admitted(call)
    if (payer !== undefined)
      this.#audit.recordAdmitted(payer, refusedEvent(this.#by(), call, request, refusal))
  }

  #report(call: Call, request: JudgedRequest | undefined): void {
    const reports = this.#gate.reports(call, request)
    if (reports === undefined) return
    const why = trialText(reports.trial)
    const payer = why === undefined ? undefined : this.#admitted(call)
    if (why !== undefined && payer !== undefined)
      this.#audit.recordAdmitted(payer, trialEvent(this.#by(), call, request, why))
    for (const audited of reports.audited) {
      const pays = this.#admitted(call)
      if (pays !== undefined)
        this.#audit.recordAdmitted(pays, auditedEvent(this.#by(), call, request, audited))
    }
  }

  /**
   * At whose expense an event is recorded, which is made only then: that of what was called. Who calls one thing a thousand times hides nothing of
   * the others, and a client that is refused again and again costs no more than one that is let through.
   */
  #admitted({ called }: Call): string | undefined {
    const payer = `${called.kind} ${called.namespace}/${called.name}`
    return this.#audit.admits(payer, called.namespace) ? payer : undefined
  }

  #by(): AuditedBy {
    return { waypoint: this.#waypoint, now: Date.now() }
  }
}
