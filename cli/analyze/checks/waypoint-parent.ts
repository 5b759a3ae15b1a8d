// SPDX-License-Identifier: Apache-2.0
// Routes that name a waypoint as their parent, in place of the Services that use it.

import { isOurs, readGatewayClass } from '../../../controller/gateway-api/gateway-class.ts'
import { readGateway } from '../../../controller/gateway-api/gateway.ts'
import { WAYPOINT_CLASS } from '../../waypoint/waypoint-gateway.ts'
import { finding, refName } from '../finding.ts'
import type { Objects } from '../objects.ts'
import { ROUTE_KINDS } from '../routes.ts'
import type { Check } from './check.ts'

const ORIGIN = { cluster: '', clusterDomain: '' }

export const WAYPOINT_PARENT: Check = {
  codes: ['AMB115'],
  needs: [...ROUTE_KINDS, 'Gateway', 'GatewayClass'],
  *run({ routes, objects }) {
    if (!routes.some(({ facts }) => facts.gateways.length > 0)) return
    const waypoints = waypointsOf(objects)
    for (const route of routes) {
      const named = new Set(route.facts.gateways.map(refName))
      for (const name of named)
        if (waypoints.has(name))
          yield finding('AMB115', route, 'spec.parentRefs', `Gateway ${name} is a waypoint`)
    }
  },
}

/** By `namespace/name`. */
function waypointsOf(objects: Objects): ReadonlySet<string> {
  const owners = new Map(
    objects.of('GatewayClass').flatMap((object) => {
      const { facts } = readGatewayClass(object, ORIGIN)
      return facts === undefined ? [] : [[facts.name, isOurs(facts)] as const]
    }),
  )
  return new Set(
    objects.of('Gateway').flatMap((object) => {
      const { facts } = readGateway(object, ORIGIN)
      if (facts === undefined) return []
      // The controller makes its class, so that files need not have it.
      const isWaypoint = owners.get(facts.className) ?? facts.className === WAYPOINT_CLASS
      return isWaypoint ? [refName(facts)] : []
    }),
  )
}
