// SPDX-License-Identifier: Apache-2.0
// Which waypoint a Service's or a workload's traffic goes through. Bound means enforced: whoever is bound to a waypoint that is not there, not
// ready, or not for him has an address all the same, at which agents find nobody, so that his traffic fails rather than going
// unpoliced. Only FAIL_OPEN_ANNOTATION lets it pass. Pure.

import type { GatewayAddress } from '../../mesh/model/gateway.ts'
import { USE_WAYPOINT_LABEL, WAYPOINT_FOR_LABEL } from '../../mesh/model/names.ts'
import type { AskedWaypoint, WaypointUse } from './waypoint-use.ts'
import { takes } from './waypoint-traffic.ts'
import { admits, type Waypoint, type WaypointPods } from './waypoints.ts'

/** What the binding of an object depends on. */
export interface BindingFacts {
  readonly target: 'service' | 'workload'
  /** Of the object, and of its namespace. */
  readonly own: WaypointUse | undefined
  readonly inherited: WaypointUse | undefined
  readonly namespace: string
  /** The namespace's, undefined while it is not known. */
  readonly namespaceLabels: ReadonlyMap<string, string> | undefined
  /** The waypoint of this name, if there is one. */
  readonly waypointOf: (asked: AskedWaypoint) => Waypoint | undefined
  readonly podsOf: (asked: AskedWaypoint) => WaypointPods | undefined
}

export type BindingReason =
  | 'WaypointAccepted'
  | 'WaypointMissing'
  | 'WaypointIsNotReady'
  | 'AttachmentDenied'
  | 'UnsupportedTrafficType'

/** How an object stands to the waypoint that is asked for. */
export interface Binding {
  readonly asked: AskedWaypoint
  readonly reason: BindingReason
  /** Whether its traffic goes to the waypoint, or past it. */
  readonly isEnforced: boolean
  readonly message: string
}

/** A name that nobody can have (RFC 2606): the waypoint is there, and must not get the traffic of those whom it does not take. */
const NOBODY = 'attachment-denied.invalid'

/** The binding of an object; undefined when it asks for no waypoint. `asks` also whether the waypoint is ready, which changes often. */
export function bindingOf(facts: BindingFacts): Binding | undefined {
  const asked = askedOf(facts)
  if (asked === undefined) return undefined
  const flaw = flawOf(facts, asked)
  if (flaw?.reason === 'UnsupportedTrafficType') return { asked, isEnforced: false, ...flaw }
  const { ready } = facts.podsOf(asked) ?? { ready: 0 }
  const problem =
    flaw ??
    (ready === 0
      ? { reason: 'WaypointIsNotReady' as const, message: `no pod of ${nameOf(asked)} is ready` }
      : undefined)
  if (problem === undefined)
    return {
      asked,
      reason: 'WaypointAccepted',
      isEnforced: true,
      message: `its traffic goes through ${nameOf(asked)}`,
    }
  const isOpen = isFailOpen(facts)
  const effect = isOpen
    ? 'traffic goes past it, as its annotation wants'
    : 'its traffic is refused until that is put right'
  return {
    asked,
    reason: problem.reason,
    isEnforced: !isOpen,
    message: `${problem.message}: ${effect}`,
  }
}

/** Where agents send the object's traffic. Asks whether the waypoint is ready only where that decides. */
export function waypointAddress(facts: BindingFacts): GatewayAddress | undefined {
  const asked = askedOf(facts)
  if (asked === undefined) return undefined
  if (isFailOpen(facts)) return bindingOf(facts)?.isEnforced === true ? asked.address : undefined
  const flaw = flawOf(facts, asked)
  if (flaw?.reason === 'UnsupportedTrafficType') return undefined
  return flaw?.reason === 'AttachmentDenied' ? unreachable(asked.address) : asked.address
}

function askedOf({ own, inherited }: BindingFacts): AskedWaypoint | undefined {
  const asked = own?.asked ?? inherited?.asked
  return asked === 'none' ? undefined : asked
}

function isFailOpen({ own, inherited }: BindingFacts): boolean {
  return own?.isFailOpen ?? inherited?.isFailOpen ?? false
}

/** What keeps it from the waypoint for as long as nobody changes an object. */
function flawOf(
  { target, namespace, namespaceLabels, waypointOf }: BindingFacts,
  asked: AskedWaypoint,
): { readonly reason: BindingReason; readonly message: string } | undefined {
  const waypoint = waypointOf(asked)
  const name = nameOf(asked)
  // Nobody can tell what it would have been for, so that it takes everything.
  if (waypoint === undefined)
    return {
      reason: 'WaypointMissing',
      message: `${name}, which the label ${USE_WAYPOINT_LABEL} names, is not there or is no waypoint`,
    }
  if (!takes(waypoint.traffic, target))
    return {
      reason: 'UnsupportedTrafficType',
      message: `${name} is not for traffic to ${target}s: its ${WAYPOINT_FOR_LABEL} is ${waypoint.traffic}`,
    }
  if (waypoint.allowed === undefined)
    return {
      reason: 'WaypointIsNotReady',
      message: `${name} has not the one listener of a waypoint, HBONE on port 15008`,
    }
  if (admits(waypoint, namespace, namespaceLabels)) return undefined
  return {
    reason: 'AttachmentDenied',
    message: `${name} does not let namespace ${namespace} use it: see allowedRoutes of its listener`,
  }
}

function unreachable({ destination, hbonePort }: GatewayAddress): GatewayAddress {
  const { namespace } = destination.kind === 'hostname' ? destination : { namespace: '' }
  return { destination: { kind: 'hostname', namespace, hostname: NOBODY }, hbonePort }
}

function nameOf({ namespace, name }: AskedWaypoint): string {
  return `Gateway ${namespace}/${name}`
}
