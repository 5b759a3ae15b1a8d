// SPDX-License-Identifier: Apache-2.0
// Whether a route counts for a Service that it names as its parent, and at which of its ports. Pure.

import type { ServiceFacts } from '../core/service.ts'
import type { ParentRef } from './route-refs.ts'
import type { Binding } from './waypoint-binding.ts'

/** The waypoint of a Service, as far as routes care: not whether it is ready. */
export type ServiceWaypoint =
  | { readonly kind: 'none' }
  /** Of somebody else's class: so are the routes. */
  | { readonly kind: 'foreign' }
  | {
      readonly kind: 'asked'
      readonly namespace: string
      readonly name: string
      /** Why it will not serve the Service; undefined when it will, now or once it is ready. */
      readonly flaw: string | undefined
      /** Another one that serves it beside. */
      readonly canary: { readonly namespace: string; readonly name: string } | undefined
    }

export const NO_WAYPOINT: ServiceWaypoint = { kind: 'none' }

/** How a route stands to a parent. */
export type Attachment =
  /** `port`: of all ports where undefined. `clients`: of the clients of that namespace, of all where undefined. */
  | {
      readonly kind: 'attached'
      readonly port: number | undefined
      readonly clients: string | undefined
    }
  | { readonly kind: 'refused'; readonly message: string }
  /** None of ours. */
  | { readonly kind: 'foreign' }

/** Judges it for a route of this namespace. A Service that has no waypoint may get one: the route is attached, and waits. */
export function attachmentOf(
  namespace: string,
  parent: ParentRef,
  service: ServiceFacts | undefined,
  waypoint: ServiceWaypoint,
): Attachment {
  const named = `Service ${parent.namespace}/${parent.name}`
  if (service === undefined)
    return { kind: 'refused', message: `${named} is not there or is a mere name` }
  if (waypoint.kind === 'foreign') return { kind: 'foreign' }
  // GEP-1294: a route at a Service of another namespace is for the clients of its own. Whoever runs the Service's waypoint speaks for all.
  const isOwners =
    namespace === service.namespace ||
    (waypoint.kind === 'asked' && waypoint.namespace === namespace)
  const clients = isOwners ? undefined : namespace
  const { port, sectionName } = parent
  if (port === undefined && sectionName === undefined) return { kind: 'attached', port, clients }
  const found = service.ports.find(
    ({ name, servicePort }) =>
      (port === undefined || servicePort === port) &&
      (sectionName === undefined || name === sectionName),
  )
  if (found !== undefined) return { kind: 'attached', port: found.servicePort, clients }
  const wanted = [
    ...(port === undefined ? [] : [`port ${port}`]),
    ...(sectionName === undefined ? [] : [`a port named ${sectionName}`]),
  ].join(' that is ')
  return { kind: 'refused', message: `${named} has not ${wanted}` }
}

/** What routes ask of a binding. `isForeign`: the Gateway is there, and somebody else serves it. */
export function serviceWaypointOf(
  binding: Binding | undefined,
  isForeign: boolean,
): ServiceWaypoint {
  if (binding === undefined) return NO_WAYPOINT
  if (isForeign) return { kind: 'foreign' }
  const { asked, reason, message, canary } = binding
  const isServed = reason === 'WaypointAccepted' || reason === 'WaypointIsNotReady'
  return {
    kind: 'asked',
    namespace: asked.namespace,
    name: asked.name,
    flaw: isServed ? undefined : message,
    canary: canary && { namespace: canary.asked.namespace, name: canary.asked.name },
  }
}
