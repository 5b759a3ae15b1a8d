// SPDX-License-Identifier: Apache-2.0
// Which waypoint a Service's or a workload's traffic goes through. Bound means enforced: whoever is bound to a waypoint that is not there, not
// ready, or not for him has an address all the same, at which agents find nobody, so that his traffic fails rather than going
// unpoliced. Only FAIL_OPEN_ANNOTATION lets it pass. Pure.

import type { GatewayAddress } from '../../mesh/model/gateway.ts'
import type { ServiceWaypoints } from '../../mesh/model/service-waypoints.ts'
import {
  CANARY_WAYPOINT_LABEL,
  CANARY_WAYPOINT_WEIGHT,
  INGRESS_USE_WAYPOINT_LABEL,
  USE_WAYPOINT_LABEL,
  WAYPOINT_FOR_LABEL,
} from '../../mesh/model/names.ts'
import { excerpt } from '../../mesh/telemetry/excerpt.ts'
import { type AskedWaypoint, canaryShare, type WaypointUse } from './waypoint-use.ts'
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
  /** The canary that takes a share of its connections; undefined where none does, for want of one or by a fault of its. */
  readonly canary: Canary | undefined
}

/** A waypoint beside the one that is asked for. */
interface Canary {
  readonly asked: AskedWaypoint
  /** Of a hundred connections. */
  readonly weight: number
}

export const NO_WAYPOINTS: ServiceWaypoints = { waypoint: undefined, weightedWaypoints: [] }

type Flaw = { readonly reason: BindingReason; readonly message: string }
/** Of the canary alone: all goes by the other waypoint then. */
type CanaryFlaw = { readonly flaw: string }

/** A name that nobody can have (RFC 2606): the waypoint is there, and must not get the traffic of those whom it does not take. */
const NOBODY = 'attachment-denied.invalid'
const HUNDRED = 100

/** The binding of an object; undefined when it asks for no waypoint. `asks` also whether the waypoint is ready, which changes often. */
export function bindingOf(facts: BindingFacts): Binding | undefined {
  const asked = askedOf(facts)
  if (asked === undefined) return undefined
  const flaw = flawOf(facts, asked)
  if (flaw?.reason === 'UnsupportedTrafficType')
    return { asked, isEnforced: false, canary: undefined, ...flaw }
  const { ready } = facts.podsOf(asked) ?? { ready: 0 }
  const problem =
    flaw ??
    (ready === 0
      ? { reason: 'WaypointIsNotReady' as const, message: `no pod of ${nameOf(asked)} is ready` }
      : undefined)
  const isOpen = isFailOpen(facts)
  // While the waypoint is not ready its canary waits with it, unless traffic passes both.
  const canary = flaw === undefined && !(problem && isOpen) ? canaryOf(facts, asked) : undefined
  const used = canary === undefined || 'flaw' in canary ? undefined : canary
  if (problem === undefined)
    return {
      asked,
      reason: 'WaypointAccepted',
      isEnforced: true,
      message: `its traffic goes through ${nameOf(asked)}${sharedWith(facts, canary)}${ofIngress(facts)}`,
      canary: used,
    }
  const effect = isOpen
    ? 'traffic goes past it, as its annotation wants'
    : 'its traffic is refused until that is put right'
  return {
    asked,
    reason: problem.reason,
    isEnforced: !isOpen,
    message: `${problem.message}: ${effect}`,
    canary: used,
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

/** The same for a Service, with its canary. A canary is there only beside a waypoint that takes the Service's traffic. */
export function serviceWaypoints(facts: BindingFacts): ServiceWaypoints {
  const asked = askedOf(facts)
  const waypoint = waypointAddress(facts)
  if (asked === undefined || waypoint === undefined) return NO_WAYPOINTS
  const canary = flawOf(facts, asked) === undefined ? canaryOf(facts, asked) : undefined
  if (canary === undefined || 'flaw' in canary) return { waypoint, weightedWaypoints: [] }
  return {
    waypoint,
    weightedWaypoints: [
      { destination: waypoint, weight: HUNDRED - canary.weight },
      { destination: canary.asked.address, weight: canary.weight },
    ],
  }
}

/**
 * The canary beside `primary`. Who names a waypoint himself does not have the canary of his namespace: that is for another. Whatever is wrong
 * with it, it takes nothing. Whether it is ready the agents see.
 */
function canaryOf(facts: BindingFacts, primary: AskedWaypoint): Canary | CanaryFlaw | undefined {
  const { own, inherited } = facts
  const around = own?.asked === undefined ? inherited : undefined
  const asked = own?.canary ?? around?.canary
  if (asked === undefined || asked === 'none') return undefined
  if (asked.gateway === primary.gateway)
    return { flaw: `CanarySameAsPrimary: the label ${CANARY_WAYPOINT_LABEL} names it again` }
  const written = own?.canaryWeight ?? around?.canaryWeight
  const weight = canaryShare(written)
  if (weight === undefined)
    return {
      flaw: `CanaryInvalidWeight: the annotation ${CANARY_WAYPOINT_WEIGHT} is "${excerpt(written ?? '')}", and no whole number from 0 to 100`,
    }
  const flaw = flawOf(facts, asked, CANARY_WAYPOINT_LABEL)
  return flaw === undefined ? { asked, weight } : { flaw: `${flaw.reason}: ${flaw.message}` }
}

/** What a binding says of the canary. */
function sharedWith({ podsOf }: BindingFacts, canary: Canary | CanaryFlaw | undefined): string {
  if (canary === undefined) return ''
  if ('flaw' in canary) return `, all of it, for its canary is not used. ${canary.flaw}`
  const { asked, weight } = canary
  const share = `, ${weight} of 100 connections through its canary ${nameOf(asked)}`
  return (podsOf(asked)?.ready ?? 0) === 0 ? `${share} as soon as a pod of that is ready` : share
}

/** What a binding says of gateways at the edge, where somebody has asked. */
function ofIngress({ own, inherited }: BindingFacts): string {
  const written = own?.ingress ?? inherited?.ingress
  if (written === undefined) return ''
  const isSo = 'gateways of the mesh that call the Service go through it as all its clients do'
  return written === 'true'
    ? `; ${isSo}`
    : `; ${INGRESS_USE_WAYPOINT_LABEL} is "${excerpt(written)}", and is not followed: ${isSo}`
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
  label = USE_WAYPOINT_LABEL,
): Flaw | undefined {
  const waypoint = waypointOf(asked)
  const name = nameOf(asked)
  // Nobody can tell what it would have been for, so that it takes everything.
  if (waypoint === undefined)
    return {
      reason: 'WaypointMissing',
      message: `${name}, which the label ${label} names, is not there or is no waypoint`,
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
