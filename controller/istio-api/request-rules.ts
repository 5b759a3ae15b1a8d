// SPDX-License-Identifier: Apache-2.0
// From an AuthorizationPolicy that is attached to something to the policy that waypoints enforce. As for agents it is never wider than
// written: where something of it cannot be evaluated, an ALLOW allows less, and a DENY denies more. Pure.

import type { PolicyKey } from '../../mesh/model/policy.ts'
import type {
  PolicyTarget,
  RequestMatch,
  RequestRule,
  WaypointPolicy,
} from '../../mesh/model/waypoint-policy.ts'
import type { TranslateConfig } from '../core/config.ts'
import type { AuthorizationPolicyFacts } from './authorization-policy.ts'
import {
  type Domains,
  inAllDomains,
  isExpansible,
  LARGEST_POLICY,
  sizeOf,
  textSize,
} from './authorization-rules.ts'
import type { RuleFacts } from './rule-reader.ts'
import type { TargetRefs } from './target-refs.ts'

/** A rule that everything matches. */
const EVERYTHING: RequestRule = { clauses: [], place: undefined }

/** A waypoint by its Gateway. */
export interface NamedWaypoint {
  readonly namespace: string
  readonly name: string
}

/** What is known of the cluster. */
export interface AttachmentWorld {
  /** The waypoints of a class, those that are on their way out among them; any of them more than once. */
  readonly waypointsOfClass: (name: string) => readonly NamedWaypoint[]
}

/** Gives the policy; undefined when waypoints have no part in it. */
export function waypointPolicyOf(
  config: TranslateConfig,
  facts: AuthorizationPolicyFacts,
  world: AttachmentWorld,
): WaypointPolicy | undefined {
  const { namespace, name, action, target } = facts
  const isAudit = action === 'audit'
  // Only somebody else's service can say what CUSTOM means.
  if (target.kind !== 'attached' || action === 'custom') return undefined
  // Nobody can say what such a policy wants on record, and it lets nobody in.
  if (isAudit && (target.refs.isUnreadable || facts.isCut)) return undefined
  const targets = targetsOf(config, namespace, target.refs, world)
  if (targets.length === 0) return undefined
  return {
    key: `${namespace}/${name}` as PolicyKey,
    namespace,
    name,
    targets,
    action: action === 'allow' ? 'allow' : 'deny',
    rules: rulesOf(config, facts, target.refs.isUnreadable),
    // Who does not know of audits sees a policy that denies nothing.
    isDryRun: facts.isDryRun || isAudit,
    isAudit,
  }
}

/** Whether the policy is too large to be sent as it is written; it is closed instead. */
export function isTooLargeForWaypoints(
  config: Domains,
  { requestRules }: AuthorizationPolicyFacts,
): boolean {
  let size = 0
  for (const { clauses } of requestRules)
    for (const { matches } of clauses)
      for (const match of matches) {
        if (!isExpansible(config, match.connection)) return true
        size += sizeOf(match.connection, 1 + config.trustDomainAliases.length) + textsOf(match)
      }
  return size > LARGEST_POLICY
}

function textsOf(match: RequestMatch): number {
  const { hosts, notHosts, methods, notMethods, paths, notPaths, headers, snis, notSnis } = match
  const ofHeaders = headers.flatMap(({ values, notValues }) => [...values, ...notValues])
  return [hosts, notHosts, methods, notMethods, paths, notPaths, ofHeaders, snis, notSnis]
    .flat()
    .reduce((total, each) => total + textSize(each), 0)
}

function targetsOf(
  { rootNamespace }: TranslateConfig,
  namespace: string,
  { refs, isUnreadable }: TargetRefs,
  { waypointsOfClass }: AttachmentWorld,
): readonly PolicyTarget[] {
  const isRoot = namespace === rootNamespace
  const found = refs.flatMap(({ kind, name }): readonly PolicyTarget[] => {
    switch (kind) {
      case 'Gateway':
        return [{ kind: 'waypoint', namespace, name }]
      case 'Service':
        return [{ kind: 'service', namespace, name }]
      case 'GatewayClass':
        return isRoot ? waypointsOfClass(name).map((each) => ({ kind: 'waypoint', ...each })) : []
      case 'ServiceEntry':
        return []
    }
  })
  // What it names may be anything of its namespace, and of the root namespace a class, whose waypoints are everywhere.
  if (isUnreadable)
    return [
      isRoot
        ? { kind: 'mesh', namespace: '', name: '' }
        : { kind: 'namespace', namespace, name: '' },
    ]
  const once = new Map(found.map((each) => [`${each.kind} ${each.namespace}/${each.name}`, each]))
  return [...once.values()]
}

function rulesOf(
  config: TranslateConfig,
  facts: AuthorizationPolicyFacts,
  isTargetUnreadable: boolean,
): readonly RequestRule[] {
  const { action, requestRules } = facts
  const isUnsure = facts.isCut || isTooLargeForWaypoints(config, facts)
  if (action === 'allow')
    return isUnsure || isTargetUnreadable
      ? []
      : requestRules.filter(({ isPartial }) => !isPartial).map((rule) => ruleOf(config, rule))
  // A denial that cannot be read denies; whoever meant to allow something allows nothing by it, either.
  if (action === undefined || isUnsure) return [EVERYTHING]
  return requestRules.map((rule) => ruleOf(config, rule))
}

function ruleOf(config: Domains, { place, clauses }: RuleFacts<RequestMatch>): RequestRule {
  return {
    place,
    clauses: clauses.map(({ matches }) => ({
      matches: matches.map((match) => ({
        ...match,
        connection: inAllDomains(config, match.connection),
      })),
    })),
  }
}
