// SPDX-License-Identifier: Apache-2.0
// Rules of routes that no request ever falls under: each of their matches stands, word for word, in a rule that comes before. Between
// matches that differ the Gateway API decides by how much they say, so that of those nothing is certain.

import { isOfConnections } from '../../../controller/gateway-api/route-object.ts'
import type { HttpMatch, NamedMatch } from '../../../mesh/model/http-routes.ts'
import { type Finding, finding } from '../finding.ts'
import { ROUTE_KINDS, type RouteObject } from '../routes.ts'
import type { Check } from './check.ts'

export const SHADOWED_ROUTE: Check = {
  codes: ['AMB302'],
  needs: [...ROUTE_KINDS],
  *run({ routes }) {
    const byPlace = new Map<string, RouteObject[]>()
    for (const route of routes) {
      if (isOfConnections(route.kind)) continue
      for (const place of placesOf(route)) {
        const there = byPlace.get(place) ?? []
        there.push(route)
        byPlace.set(place, there)
      }
    }
    const told = new Set<string>()
    for (const there of byPlace.values()) yield* shadowed(there.toSorted(byAge), told)
  },
}

/** Where it counts: kind, Service and port, and for whose clients. */
function placesOf({ kind, namespace, facts }: RouteObject): readonly string[] {
  return facts.parents.map((parent) => {
    const clients = parent.namespace === namespace ? '' : namespace
    return [kind, parent.namespace, parent.name, parent.port ?? '', clients].join(' ')
  })
}

/** In the order of precedence among equals: each match that was there before takes all that the same one could. */
function* shadowed(routes: readonly RouteObject[], told: Set<string>): Generator<Finding> {
  const taken = new Map<string, string>()
  for (const route of new Set(routes))
    for (const [at, rule] of route.facts.rules.entries()) {
      const matches = rule.matches.map(matchKey)
      const field = `spec.rules[${at}]`
      const before = matches.map((match) => taken.get(match))
      const named = `${route.kind} ${route.namespace}/${route.name} ${rule.name}`
      const [first] = before
      const isShadowed = first !== undefined && before.every((each) => each !== undefined)
      if (isShadowed && !told.has(named)) {
        told.add(named)
        yield finding('AMB302', route, field, `all it matches is taken by ${first}`)
      }
      for (const match of matches) if (!taken.has(match)) taken.set(match, named)
    }
}

function matchKey({ path, method, headers, queryParams }: HttpMatch): string {
  const named = (all: readonly NamedMatch[]): readonly string[] =>
    all.map((each) => JSON.stringify(each)).sort()
  return JSON.stringify([path, method ?? null, named(headers), named(queryParams)])
}

/** The oldest first, then by namespace/name, as the controller has them. */
function byAge(one: RouteObject, other: RouteObject): number {
  const key = ({ facts, namespace, name }: RouteObject): string =>
    `${facts.seen.createdAt} ${namespace}/${name}`
  return key(one) < key(other) ? -1 : Number(key(one) > key(other))
}
