// SPDX-License-Identifier: Apache-2.0
// An authorization policy that waypoints enforce, and its form on the wire. It asks about connections in the words of policy.ts, and about
// requests beside. What its words mean is said in mesh/policy/request; how an AuthorizationPolicy becomes one, in the controller.

import { FLAG, list, optional, single, TEXT, UINT, type Value, word } from './codec/kind.ts'
import { converted, derived, field, wholeRecord } from './codec/record.ts'
import { FieldProblem } from './codec/wire-reader.ts'
import {
  CONNECTION_MATCH,
  EMPTY_MATCH,
  type PolicyAction,
  type PolicyKey,
  type PolicyMatch,
  STRING_MATCH,
  type StringMatch,
} from './policy.ts'

/** A path, without its query: compared as other texts, or by a template with `{*}` and `{**}`. */
export type PathMatch = StringMatch | { readonly kind: 'template'; readonly text: string }

/** What is asked of one header: of `values` one must match, of `notValues` none. */
export interface HeaderCondition {
  /** In lower case. */
  readonly name: string
  readonly values: readonly StringMatch[]
  readonly notValues: readonly StringMatch[]
}

/** True when what it says of the connection is, and each of its own fields that is not empty. */
export interface RequestMatch {
  readonly connection: PolicyMatch
  /** Compared without regard to case, with the port where the request names one. */
  readonly hosts: readonly StringMatch[]
  readonly notHosts: readonly StringMatch[]
  readonly methods: readonly StringMatch[]
  readonly notMethods: readonly StringMatch[]
  readonly paths: readonly PathMatch[]
  readonly notPaths: readonly PathMatch[]
  readonly headers: readonly HeaderCondition[]
  /** Of the TLS that a client opens inside the tunnel. */
  readonly snis: readonly StringMatch[]
  readonly notSnis: readonly StringMatch[]
}

/** True when one of its matches is. */
export interface RequestClause {
  readonly matches: readonly RequestMatch[]
}

/** True when all its clauses are. */
export interface RequestRule {
  readonly clauses: readonly RequestClause[]
  /** Its place in the object's `spec.rules`, from 0. Undefined for what stands for rules that cannot be enforced. */
  readonly place: number | undefined
}

/**
 * Whose calls a policy judges: all by one waypoint, those to one Service, or, where it cannot be told what its writer meant, all that
 * have to do with a namespace, or all there are.
 */
export interface PolicyTarget {
  readonly kind: 'waypoint' | 'service' | 'namespace' | 'mesh'
  /** Empty of `mesh`. */
  readonly namespace: string
  /** Of the Gateway or Service. */
  readonly name: string
}

export interface WaypointPolicy {
  readonly key: PolicyKey
  readonly namespace: string
  readonly name: string
  /** One of them is enough. */
  readonly targets: readonly PolicyTarget[]
  readonly action: PolicyAction
  /** It matches when one of them does. */
  readonly rules: readonly RequestRule[]
  /** To be evaluated and reported, never to be enforced. */
  readonly isDryRun: boolean
  /** Of the action AUDIT: calls that match are put on record. It is on trial, too. */
  readonly isAudit: boolean
}

/** Whether it judges calls, rather than to report on them. */
export function isEnforced({ isDryRun, isAudit }: WaypointPolicy): boolean {
  return !isDryRun && !isAudit
}

const PATH_MATCH: Value<PathMatch> = converted(
  wholeRecord<{ readonly text: StringMatch | undefined; readonly template: string | undefined }>({
    text: field('text', 1, optional(STRING_MATCH)),
    template: field('template', 2, optional(TEXT)),
  }),
  { kind: 'present' },
  ({ text, template }) => {
    if (text !== undefined && template === undefined) return text
    if (text === undefined && template !== undefined) return { kind: 'template', text: template }
    throw new FieldProblem('says no kind of match, or several')
  },
  (match) =>
    match.kind === 'template'
      ? { text: undefined, template: match.text }
      : { text: match, template: undefined },
)

const HEADER_CONDITION = wholeRecord<HeaderCondition>({
  name: field('name', 1, single(TEXT), { isRequired: true }),
  values: field('values', 2, list(STRING_MATCH)),
  notValues: field('not_values', 3, list(STRING_MATCH)),
})

const MATCH = wholeRecord<RequestMatch>({
  connection: field('connection', 1, single(CONNECTION_MATCH)),
  hosts: field('hosts', 2, list(STRING_MATCH)),
  notHosts: field('not_hosts', 3, list(STRING_MATCH)),
  methods: field('methods', 4, list(STRING_MATCH)),
  notMethods: field('not_methods', 5, list(STRING_MATCH)),
  paths: field('paths', 6, list(PATH_MATCH)),
  notPaths: field('not_paths', 7, list(PATH_MATCH)),
  headers: field('headers', 8, list(HEADER_CONDITION)),
  snis: field('snis', 9, list(STRING_MATCH)),
  notSnis: field('not_snis', 10, list(STRING_MATCH)),
})

/** A match that says nothing. */
export const EMPTY_REQUEST_MATCH: RequestMatch = { ...MATCH.zero, connection: EMPTY_MATCH }

const CLAUSE = wholeRecord<RequestClause>({ matches: field('matches', 1, list(MATCH)) })

const RULE = wholeRecord<RequestRule>({
  clauses: field('clauses', 1, list(CLAUSE)),
  place: field('place', 2, optional(UINT)),
})

const TARGET = wholeRecord<PolicyTarget>({
  kind: field(
    'kind',
    1,
    single(word<PolicyTarget['kind']>(['mesh', 'namespace', 'waypoint', 'service'])),
  ),
  namespace: field('namespace', 2, single(TEXT)),
  name: field('name', 3, single(TEXT)),
})

export const WAYPOINT_POLICY = wholeRecord<WaypointPolicy>({
  key: derived(
    '' as PolicyKey,
    ({ namespace, name }: WaypointPolicy) => `${namespace}/${name}` as PolicyKey,
    { dump: () => ({}) },
  ),
  name: field('name', 1, single(TEXT), { isRequired: true }),
  namespace: field('namespace', 2, single(TEXT), { isRequired: true }),
  targets: field('targets', 3, list(TARGET)),
  action: field('action', 4, single(word<PolicyAction>(['allow', 'deny']))),
  rules: field('rules', 5, list(RULE)),
  isDryRun: field('dry_run', 6, single(FLAG)),
  isAudit: field('audit', 7, single(FLAG)),
})
