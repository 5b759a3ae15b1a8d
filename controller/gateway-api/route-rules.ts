// SPDX-License-Identifier: Apache-2.0
// The rules of a route as waypoints have them, and what its backends lack. Pure.

import { createHmac } from 'node:crypto'
import type { HttpFilter, HttpRule, HttpSession } from '../../mesh/model/http-routes.ts'
import type { FilterFacts } from './route-filters.ts'
import { type ClusterLookup, findBackend, type RefProblem } from './route-backends.ts'
import type { RouteFacts, RuleFacts } from './route-object.ts'
import type { BackendRef } from './route-refs.ts'

export interface ResolvedRules {
  readonly rules: readonly HttpRule[]
  readonly problems: readonly RefProblem[]
}

/**
 * Resolves all rules of a route; they are the same for each of its parents.
 *
 * @param secret of the mesh, from which keys of sessions follow; undefined while there is none
 */
export function resolveRules(
  route: RouteFacts,
  lookup: ClusterLookup,
  secret: string | undefined,
): ResolvedRules {
  const problems: RefProblem[] = []
  const find = (ref: BackendRef) => {
    const { target, problem } = findBackend(route, ref, lookup)
    if (problem !== undefined) problems.push(problem)
    return target
  }
  const resolve = (filter: FilterFacts): HttpFilter =>
    filter.kind === 'mirror' ? { ...filter, backend: find(filter.backend) } : filter
  const rules = route.rules.map(
    (rule): HttpRule => ({
      route: nameOf(route, rule),
      matches: rule.matches,
      filters: rule.filters.map(resolve),
      backends: rule.backends.map(({ ref, weight, filters }) => ({
        target: find(ref),
        weight,
        filters: filters.map(resolve),
      })),
      timeouts: rule.timeouts,
      retry: rule.retry,
      session: sessionOf(route, rule, secret),
      fault: rule.fault?.message ?? withoutKey(rule, secret),
    }),
  )
  return { rules, problems }
}

/** Sessions that anybody could make up are none. */
function withoutKey({ session }: RuleFacts, secret: string | undefined): string | undefined {
  return session !== undefined && secret === undefined ? 'its sessions have no key yet' : undefined
}

/** Each rule has a key of its own: what one has sealed is nothing to another. */
function sessionOf(
  route: RouteFacts,
  { name, session }: RuleFacts,
  secret: string | undefined,
): HttpSession | undefined {
  if (session === undefined || secret === undefined) return undefined
  const { kind, cluster, namespace } = route
  const id = [kind, cluster, namespace, route.name, name].join('/')
  return { ...session, key: createHmac('sha256', secret).update(id).digest('base64url') }
}

function nameOf({ kind, namespace, name }: RouteFacts, rule: RuleFacts): HttpRule['route'] {
  return { kind, namespace, name, rule: rule.name }
}
