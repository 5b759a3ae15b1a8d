// SPDX-License-Identifier: Apache-2.0
// What the policies that judge the calls of one place say of them, compiled. A set never changes: a change of policies is another set, and
// takes force with the next request.

import { isEnforced, type RequestRule, type WaypointPolicy } from '../../model/waypoint-policy.ts'
import { factsOf } from '../call-facts.ts'
import { type FiledRule, type FiledRules, fileRequestRules } from './rule-filing.ts'
import { type ConnectionFacts, mayMatch, truthOfConnection, truthOfRequest } from './truth.ts'
import type { JudgedCall, JudgedRequest, RequestHit, RequestVerdict } from './types.ts'

/** A connection as one set sees it, to be kept while the connection lives and the set is in force. */
export interface SeenCall extends ConnectionFacts {
  readonly deny: readonly FiledRule[]
  readonly allow: readonly FiledRule[]
}

interface Found {
  truth: 'yes' | 'unknown'
  rule: FiledRule
}

const ALLOWED: RequestVerdict = { kind: 'allowed', by: undefined }

/** What the last request met: kept, so that a request allocates nothing. */
const met: FiledRule[][] = []

export class RequestPolicies {
  readonly #deny: FiledRules
  readonly #allow: FiledRules
  readonly #allowing: readonly WaypointPolicy[]
  /** Those on trial (dry run), as if they were enforced, and nothing else. */
  readonly #trial: RequestPolicies | undefined
  readonly #audit: FiledRules | undefined
  /** Whether any rule is about the server name of a client's TLS. */
  readonly asksServerName: boolean

  private constructor(policies: readonly WaypointPolicy[], others: readonly WaypointPolicy[]) {
    this.#allowing = policies.filter(({ action }) => action === 'allow')
    this.#allow = fileRequestRules(hitsOf(this.#allowing))
    this.#deny = fileRequestRules(hitsOf(policies.filter(({ action }) => action === 'deny')))
    const audits = others.filter(({ isAudit }) => isAudit)
    const trials = others.filter(({ isAudit }) => !isAudit)
    this.#audit = audits.length === 0 ? undefined : fileRequestRules(hitsOf(audits))
    this.#trial = trials.length === 0 ? undefined : new RequestPolicies(trials, [])
    this.asksServerName = [...policies, ...others].some(({ rules }) =>
      rules.some(isAboutServerName),
    )
  }

  /** @param policies All that judge the calls of a place, in their order. Takes some microseconds a rule. */
  static of(policies: readonly WaypointPolicy[]): RequestPolicies {
    const [enforced, others] = [
      policies.filter(isEnforced),
      policies.filter((each) => !isEnforced(each)),
    ]
    return new RequestPolicies(enforced, others)
  }

  /** Whether it has anything to say of any call. */
  get isEmpty(): boolean {
    return (
      this.#allowing.length + this.#deny.all.length === 0 &&
      this.#trial === undefined &&
      this.#audit === undefined
    )
  }

  /** Whether it has anything to tell beside its verdicts. */
  get hasReports(): boolean {
    return this.#trial !== undefined || this.#audit !== undefined
  }

  /** Looks at a connection. */
  see({ connection, sni }: JudgedCall): SeenCall {
    const known: ConnectionFacts = { facts: factsOf(connection), sni }
    const open = ({ others }: FiledRules): readonly FiledRule[] =>
      others.filter(({ compiled }) => mayMatch(compiled, known))
    return { ...known, deny: open(this.#deny), allow: open(this.#allow) }
  }

  /**
   * Says what becomes of a request. A DENY rule that matches, or of which that cannot be told, denies; one that certainly matches is
   * named first. Then, if there are ALLOW policies, one of them must certainly match. Hot: once a request; the bench `request-policy`
   * watches it.
   */
  judge(call: SeenCall, request: JudgedRequest): RequestVerdict {
    const deny = first(this.#deny, call.deny, call, request)
    if (deny !== undefined)
      return { kind: deny.truth === 'yes' ? 'denied' : 'unknown', by: deny.rule }
    if (this.#allowing.length === 0) return ALLOWED
    const allow = first(this.#allow, call.allow, call, request)
    return allow?.truth === 'yes'
      ? { kind: 'allowed', by: allow.rule }
      : { kind: 'notAllowed', policies: this.#allowing }
  }

  /** The same of a connection that carries no requests. */
  judgeConnection(call: ConnectionFacts): RequestVerdict {
    const deny = firstOfConnection(this.#deny, call, 'deny')
    if (deny !== undefined)
      return { kind: deny.truth === 'yes' ? 'denied' : 'unknown', by: deny.rule }
    if (this.#allowing.length === 0) return ALLOWED
    const allow = firstOfConnection(this.#allow, call, 'allow')
    return allow?.truth === 'yes'
      ? { kind: 'allowed', by: allow.rule }
      : { kind: 'notAllowed', policies: this.#allowing }
  }

  /** What those on trial would make of it; undefined where there are none. `request`: undefined of a connection without. */
  tried(call: ConnectionFacts, request: JudgedRequest | undefined): RequestVerdict | undefined {
    const trial = this.#trial
    if (trial === undefined) return undefined
    return request === undefined
      ? trial.judgeConnection(call)
      : trial.judge({ ...call, deny: trial.#deny.others, allow: trial.#allow.others }, request)
  }

  /** Of each policy that wants calls on record the first rule that certainly matches. */
  audited(call: ConnectionFacts, request: JudgedRequest | undefined): readonly RequestHit[] {
    if (this.#audit === undefined) return NO_HITS
    const hits = new Map<WaypointPolicy, RequestHit>()
    for (const rule of this.#audit.all) {
      if (hits.has(rule.policy)) continue
      const truth =
        request === undefined
          ? truthOfConnection(rule.compiled, call, 'deny')
          : truthOfRequest(rule.compiled, call, request)
      if (truth === 'yes') hits.set(rule.policy, rule)
    }
    return [...hits.values()]
  }
}

const NO_HITS: readonly RequestHit[] = []

function isAboutServerName({ clauses }: RequestRule): boolean {
  return clauses.some(({ matches }) =>
    matches.some(({ snis, notSnis }) => snis.length + notSnis.length > 0),
  )
}

function hitsOf(policies: readonly WaypointPolicy[]): readonly RequestHit[] {
  return policies.flatMap((policy) => policy.rules.map((rule) => ({ policy, rule })))
}

/** The first rule that certainly matches; if there is none, the first of which that cannot be told. */
function first(
  filed: FiledRules,
  open: readonly FiledRule[],
  call: ConnectionFacts,
  request: JudgedRequest,
): Found | undefined {
  if (filed.all.length === 0) return undefined
  let found = look(open, call, request, undefined)
  const ofMethod = filed.byMethod.get(request.method)
  if (ofMethod !== undefined) found = look(ofMethod, call, request, found)
  met.length = 0
  filed.byPath.collect(request.path, met)
  for (const rules of met) found = look(rules, call, request, found)
  return found
}

/** Looks for one that goes before what was found already. */
function look(
  rules: readonly FiledRule[],
  call: ConnectionFacts,
  request: JudgedRequest,
  found: Found | undefined,
): Found | undefined {
  for (const rule of rules) {
    if (found?.truth === 'yes' && rule.place >= found.rule.place) return found
    const truth = truthOfRequest(rule.compiled, call, request)
    if (truth === 'no') continue
    if (found === undefined || goesBefore(truth, rule, found)) found = { truth, rule }
  }
  return found
}

function goesBefore(truth: 'yes' | 'unknown', rule: FiledRule, found: Found): boolean {
  return truth === found.truth ? rule.place < found.rule.place : truth === 'yes'
}

function firstOfConnection(
  { all }: FiledRules,
  call: ConnectionFacts,
  action: 'allow' | 'deny',
): Found | undefined {
  let unknown: Found | undefined
  for (const rule of all) {
    const truth = truthOfConnection(rule.compiled, call, action)
    if (truth === 'yes') return { truth, rule }
    if (truth === 'unknown') unknown ??= { truth, rule }
  }
  return unknown
}
