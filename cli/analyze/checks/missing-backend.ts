// SPDX-License-Identifier: Apache-2.0
// Routes that name what is not there: a Service they are for, one they lead to, or a port of it. And routes that nobody follows.

import type { RuleFacts } from '../../../controller/gateway-api/route-object.ts'
import { USE_WAYPOINT_LABEL } from '../../../mesh/model/names.ts'
import { type Finding, finding } from '../finding.ts'
import { ROUTE_KINDS, type RouteObject } from '../routes.ts'
import type { ServiceFacts } from '../services.ts'
import type { World } from '../world.ts'
import type { Check } from './check.ts'

export const MISSING_BACKEND: Check = {
  codes: ['AMB110', 'AMB111', 'AMB209'],
  needs: [...ROUTE_KINDS],
  *run(world) {
    if (world.routes.length === 0) return
    const services = new Map(world.services.map((each) => [`${each.namespace}/${each.name}`, each]))
    for (const route of world.routes) {
      yield* parentsOf(world, services, route)
      for (const rule of route.facts.rules) yield* backendsOf(world, services, route, rule)
    }
  },
}

type Services = ReadonlyMap<string, ServiceFacts>

function* parentsOf(
  { has, namespaces }: World,
  services: Services,
  route: RouteObject,
): Generator<Finding> {
  for (const [at, { namespace, name, port }] of route.facts.parents.entries()) {
    const field = 'spec.parentRefs'
    const service = services.get(`${namespace}/${name}`)
    if (service === undefined) {
      if (has('Service', namespace, name) === false)
        yield finding('AMB111', route, field, `there is no Service ${namespace}/${name}`)
      continue
    }
    const isTwice = route.facts.parents.findIndex(
      (each) => each.namespace === namespace && each.name === name,
    )
    if (port !== undefined && !service.ports.some((each) => each.port === port))
      yield finding('AMB111', route, field, `Service ${namespace}/${name} has no port ${port}`)
    const around = namespaces.get(namespace)
    if (around === undefined || isTwice !== at) continue
    const used = service.labels.get(USE_WAYPOINT_LABEL) ?? around.get(USE_WAYPOINT_LABEL) ?? ''
    if (used === '' || used === 'none')
      yield finding('AMB209', route, field, `Service ${namespace}/${name} uses no waypoint`)
  }
}

function* backendsOf(
  { has }: World,
  services: Services,
  route: RouteObject,
  { backends, filters }: RuleFacts,
): Generator<Finding> {
  const copies = [...filters, ...backends.flatMap((each) => each.filters)].flatMap((filter) =>
    filter.kind === 'mirror' ? [filter.backend] : [],
  )
  for (const { field, group, kind, namespace, name, port } of [
    ...backends.map(({ ref }) => ref),
    ...copies,
  ]) {
    // What else may be a backend the controller refuses in the route's own status.
    if (kind !== 'Service' || (group !== '' && group !== 'core')) continue
    const service = services.get(`${namespace}/${name}`)
    const named = `Service ${namespace}/${name}`
    if (service === undefined) {
      if (has('Service', namespace, name) === false)
        yield finding('AMB110', route, field, `there is no ${named}`)
    } else if (port !== undefined && !service.ports.some((each) => each.port === port))
      yield finding('AMB110', route, field, `${named} has no port ${port}`)
  }
}
