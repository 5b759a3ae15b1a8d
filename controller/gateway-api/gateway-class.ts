// SPDX-License-Identifier: Apache-2.0
// What the mesh needs of a GatewayClass: whether its Gateways are our waypoints. A class says itself whose it is
// (spec.controllerName, which cannot be changed), and that alone counts, whatever its name is.

import { WAYPOINT_CONTROLLER, WAYPOINT_FOR_LABEL } from '../../mesh/model/names.ts'
import type { Origin } from '../core/origin.ts'
import { fieldsOf, shown } from '../istio-api/flaw.ts'
import { type PolicyObject, readSeen, type SeenObject } from '../istio-api/seen-object.ts'
import { ObjectReader, type Reading } from '../reading/object-reader.ts'
import { readTraffic, type WaypointTraffic } from './waypoint-traffic.ts'

export interface GatewayClassFacts {
  readonly cluster: string
  readonly name: string
  readonly seen: SeenObject
  /** Who serves the Gateways of this class. */
  readonly controllerName: string
  /** Which traffic its waypoints are for, where they do not say. */
  readonly traffic: WaypointTraffic | undefined
}

/** Reads a GatewayClass. */
export function readGatewayClass(
  object: PolicyObject,
  { cluster }: Origin,
): Reading<GatewayClassFacts> {
  const metadata = fieldsOf(object.metadata) ?? {}
  const reader = new ObjectReader('GatewayClass', metadata)
  const controllerName = fieldsOf(object.spec)?.['controllerName']
  if (typeof controllerName !== 'string')
    reader.note('spec.controllerName', `${shown(controllerName)} is no text: the class is nobody's`)
  const facts: GatewayClassFacts = {
    cluster,
    name: typeof metadata['name'] === 'string' ? metadata['name'] : '',
    seen: readSeen(reader, object),
    controllerName: typeof controllerName === 'string' ? controllerName : '',
    traffic: readTraffic(reader, fieldsOf(metadata['labels'])?.[WAYPOINT_FOR_LABEL]),
  }
  return { facts, problems: reader.problems }
}

/** Whether Gateways of this class are ours to serve. */
export function isOurs({ controllerName }: Pick<GatewayClassFacts, 'controllerName'>): boolean {
  return controllerName === WAYPOINT_CONTROLLER
}
