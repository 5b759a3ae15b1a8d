// SPDX-License-Identifier: Apache-2.0
// What the mesh needs of an AuthorizationPolicy (security.istio.io/v1), read once. What it means for a workload is said in
// authorization-rules.ts. Anything may stand in such an object, and nobody's mistake may open what a policy was to close.

import { errorMessage } from '../../mesh/errors.ts'
import type { PolicyMatch } from '../../mesh/model/policy.ts'
import type { RequestMatch } from '../../mesh/model/waypoint-policy.ts'
import type { Origin } from '../core/origin.ts'
import type { Reading } from '../reading/object-reader.ts'
import { type Fields, type Flaw, FlawReader, fieldsOf, hasOthers, isAbsent, shown } from './flaw.ts'
import { OF_WAYPOINTS } from './request-conditions.ts'
import { OF_AGENTS, type RuleContext, type Vocabulary } from './rule-conditions.ts'
import { readRule, type RuleFacts } from './rule-reader.ts'
import { type PolicyObject, readSeen, type SeenObject } from './seen-object.ts'
import { type PolicyTarget, readSelector } from './selector.ts'
import { isAttached, readTargetRefs } from './target-refs.ts'

export type AuthorizationAction = 'allow' | 'deny' | 'audit' | 'custom'

export interface AuthorizationPolicyFacts extends SeenObject {
  readonly cluster: string
  readonly namespace: string
  readonly name: string
  /** Undefined when it is none that there is. */
  readonly action: AuthorizationAction | undefined
  readonly target: PolicyTarget
  /** To be evaluated and reported only. */
  readonly isDryRun: boolean
  /** Of a policy for agents. */
  readonly rules: readonly RuleFacts<PolicyMatch>[]
  /** Of one that is attached to something. */
  readonly requestRules: readonly RuleFacts<RequestMatch>[]
  /** Its rules are not all that it says, or not all that it was to say. */
  readonly isCut: boolean
  readonly flaws: readonly Flaw[]
}

const ACTIONS: ReadonlyMap<unknown, AuthorizationAction> = new Map<unknown, AuthorizationAction>([
  ['ALLOW', 'allow'],
  ['DENY', 'deny'],
  ['AUDIT', 'audit'],
  ['CUSTOM', 'custom'],
])
const SPEC_FIELDS = ['selector', 'targetRef', 'targetRefs', 'rules', 'action', 'provider']
const DRY_RUN_ANNOTATION = 'istio.io/dry-run'
/** As Go reads a flag, and so Istio. */
const TRUE = new Set(['1', 't', 'T', 'TRUE', 'true', 'True'])
const FALSE = new Set(['0', 'f', 'F', 'FALSE', 'false', 'False'])
/**
 * Rules, alternatives, conditions and values of one policy. An object of a megabyte has room for many more, and each agent of the
 * mesh would keep them.
 */
const MOST_ENTRIES = 10_000

/**
 * Reads an AuthorizationPolicy. Never throws, and costs no more than in proportion to its size. Should the reading itself fail, the
 * object is one of which nothing can be read: not one that does not exist, for that would open what it closes.
 */
export function readAuthorizationPolicy(
  object: PolicyObject,
  origin: Origin,
): Reading<AuthorizationPolicyFacts> {
  try {
    return read(object, origin)
  } catch (thrown) {
    const { metadata } = object
    return read({ metadata, spec: `what cannot be read: ${errorMessage(thrown)}` }, origin)
  }
}

function read(object: PolicyObject, { cluster }: Origin): Reading<AuthorizationPolicyFacts> {
  const metadata = fieldsOf(object.metadata) ?? {}
  const reader = new FlawReader('AuthorizationPolicy', metadata)
  const namespace = typeof metadata.namespace === 'string' ? metadata.namespace : ''
  const seen = readSeen(reader, object)
  const spec = isAbsent(object.spec) ? {} : fieldsOf(object.spec)
  if (spec === undefined) reader.note('spec', `${shown(object.spec)} is not a map`)
  const target =
    spec === undefined ? { kind: 'unreadable' as const } : readTarget(reader, namespace, spec)
  const isOfWaypoints = target.kind === 'attached'
  const none = { rules: [], isCut: false }
  const ofAgents = isOfWaypoints ? none : readRules(reader, namespace, spec ?? {}, OF_AGENTS)
  const ofWaypoints = isOfWaypoints ? readRules(reader, namespace, spec ?? {}, OF_WAYPOINTS) : none
  const facts: AuthorizationPolicyFacts = {
    ...seen,
    cluster,
    namespace,
    name: typeof metadata.name === 'string' ? metadata.name : '',
    action: spec === undefined ? undefined : readAction(reader, spec),
    target,
    isDryRun: readDryRun(reader, fieldsOf(metadata.annotations)?.[DRY_RUN_ANNOTATION]),
    rules: ofAgents.rules,
    requestRules: ofWaypoints.rules,
    isCut:
      hasOthers(reader, 'spec', spec ?? {}, SPEC_FIELDS) ||
      isAmbiguous(reader, spec ?? {}) ||
      ofAgents.isCut ||
      ofWaypoints.isCut,
    flaws: reader.flaws,
  }
  return { facts, problems: reader.problems }
}

function readAction(reader: FlawReader, { action }: Fields): AuthorizationAction | undefined {
  if (isAbsent(action) || action === '') return 'allow'
  const known = ACTIONS.get(action)
  if (known === undefined)
    reader.note('spec.action', `${shown(action)} is not ALLOW, DENY, AUDIT or CUSTOM`)
  return known
}

function readTarget(reader: FlawReader, namespace: string, spec: Fields): PolicyTarget {
  // Who is attached to something is no agent's affair, however it is written.
  return isAttached(spec) && isAbsent(spec.selector)
    ? { kind: 'attached', refs: readTargetRefs(reader, namespace, spec) }
    : readSelector(reader, spec)
}

/** Istio refuses both: it would mean the same policy twice, in two places with different powers. */
function isAmbiguous(reader: FlawReader, spec: Fields): boolean {
  if (!isAttached(spec) || isAbsent(spec.selector)) return false
  reader.note('spec.targetRefs', 'stands beside spec.selector, and a policy can have one of them')
  return true
}

function readRules<Match>(
  reader: FlawReader,
  namespace: string,
  { rules }: Fields,
  vocabulary: Vocabulary<Match>,
): { readonly rules: readonly RuleFacts<Match>[]; readonly isCut: boolean } {
  if (isAbsent(rules)) return { rules: [], isCut: false }
  if (!Array.isArray(rules)) {
    reader.note('spec.rules', 'is not a list')
    return { rules: [], isCut: true }
  }
  let left = MOST_ENTRIES
  const context: RuleContext = {
    reader,
    namespace,
    spend: (entries) => {
      left -= entries
      return left >= 0
    },
  }
  const read: RuleFacts<Match>[] = []
  for (const [place, rule] of (rules as readonly unknown[]).entries()) {
    if (context.spend(1)) read.push(readRule(context, vocabulary, place, rule))
    if (left >= 0) continue
    reader.note('spec.rules', `have more than ${MOST_ENTRIES} entries and values in all`)
    return { rules: [], isCut: true }
  }
  return { rules: read, isCut: false }
}

/** What is not clearly a trial is none: it is enforced. */
function readDryRun(reader: FlawReader, value: unknown): boolean {
  if (isAbsent(value)) return false
  if (typeof value === 'string' && TRUE.has(value)) return true
  if (typeof value !== 'string' || !FALSE.has(value))
    reader.note(
      `metadata.annotations[${DRY_RUN_ANNOTATION}]`,
      `${shown(value)} is not true or false`,
    )
  return false
}
