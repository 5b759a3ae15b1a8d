// SPDX-License-Identifier: Apache-2.0
// Which waypoint an object asks for: the labels istio.io/use-waypoint and istio.io/use-waypoint-namespace of a Namespace, Service or Pod,
// and whether its traffic may pass while that waypoint is not there.

import type { GatewayAddress } from '../../mesh/model/gateway.ts'
import {
  FAIL_OPEN_ANNOTATION,
  USE_WAYPOINT_LABEL,
  USE_WAYPOINT_NAMESPACE_LABEL,
} from '../../mesh/model/names.ts'
import { objectKey, type ObjectKey, type Origin } from '../core/origin.ts'
import type { ObjectReader } from '../reading/object-reader.ts'
import { HBONE_PORT } from './listener.ts'

/** A waypoint by its name; whether there is one is another question. */
export interface AskedWaypoint {
  /** The key of its Gateway. */
  readonly gateway: ObjectKey
  readonly namespace: string
  readonly name: string
  /** Its Service: agents find the waypoint's pods as they find those of any other. */
  readonly address: GatewayAddress
}

/** What an object says of waypoints. */
export interface WaypointUse {
  /** `none`: no waypoint, whatever its namespace says. Undefined: as its namespace says. */
  readonly asked: AskedWaypoint | 'none' | undefined
  /** Whether traffic may pass without the waypoint while that is not ready. Undefined: as its namespace says. */
  readonly isFailOpen: boolean | undefined
}

/** Reads it; undefined when the object says nothing. `namespace` is the one whose waypoints it means by mere names. */
export function readWaypointUse(
  reader: ObjectReader,
  namespace: string,
  labels: ReadonlyMap<string, string>,
  annotations: ReadonlyMap<string, string>,
  origin: Origin,
): WaypointUse | undefined {
  const asked = readAsked(reader, namespace, labels, origin)
  const isFailOpen = readFailOpen(reader, annotations.get(FAIL_OPEN_ANNOTATION))
  return asked === undefined && isFailOpen === undefined ? undefined : { asked, isFailOpen }
}

function readAsked(
  reader: ObjectReader,
  own: string,
  labels: ReadonlyMap<string, string>,
  { cluster, clusterDomain }: Origin,
): WaypointUse['asked'] {
  const name = labels.get(USE_WAYPOINT_LABEL)
  if (name === undefined) return undefined
  if (name === '') {
    // Not what says "none": that is a word of its own.
    reader.note(`metadata.labels[${USE_WAYPOINT_LABEL}]`, 'is empty, and is taken as not written')
    return undefined
  }
  if (name === 'none') return 'none'
  const namespace = labels.get(USE_WAYPOINT_NAMESPACE_LABEL) || own
  const hostname = `${name}.${namespace}.svc.${clusterDomain}`
  return {
    gateway: objectKey(cluster, namespace, name),
    namespace,
    name,
    address: { destination: { kind: 'hostname', namespace, hostname }, hbonePort: HBONE_PORT },
  }
}

function readFailOpen(reader: ObjectReader, value: string | undefined): boolean | undefined {
  if (value === undefined) return undefined
  if (value !== 'true' && value !== 'false')
    reader.note(
      `metadata.annotations[${FAIL_OPEN_ANNOTATION}]`,
      'is neither true nor false: traffic does not pass without the waypoint',
    )
  return value === 'true'
}
