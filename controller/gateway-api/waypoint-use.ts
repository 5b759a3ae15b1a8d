// SPDX-License-Identifier: Apache-2.0
// Which waypoint an object asks for: the labels istio.io/use-waypoint and istio.io/use-waypoint-namespace of a Namespace, Service or Pod,
// which other takes a share of its connections, and whether its traffic may pass while that waypoint is not there.

import type { GatewayAddress } from '../../mesh/model/gateway.ts'
import {
  CANARY_WAYPOINT_LABEL,
  CANARY_WAYPOINT_NAMESPACE_LABEL,
  CANARY_WAYPOINT_WEIGHT,
  FAIL_OPEN_ANNOTATION,
  INGRESS_USE_WAYPOINT_LABEL,
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
  /** Another waypoint that takes a share of the connections. */
  readonly canary: AskedWaypoint | 'none' | undefined
  /** How many of a hundred connections that is, as it is written; undefined where nothing is. */
  readonly canaryWeight: string | undefined
  /** Whether gateways at the edge are to call it by its waypoint, as it is written. */
  readonly ingress: string | undefined
}

/** No Gateway is called so; the host name is what agents say of it (RFC 2606: nobody can have it). */
const UNKNOWN = {
  name: 'of a namespace that is not known yet',
  hostname: 'namespace-not-known.invalid',
} as const

/**
 * What a namespace says that is not known yet: its objects may be told of before it is, and nobody can tell then that it asks for no
 * waypoint. So it asks for one that nobody is.
 */
export function useOfUnknown(cluster: string, namespace: string): WaypointUse {
  const { name, hostname } = UNKNOWN
  return {
    asked: {
      gateway: objectKey(cluster, namespace, name),
      namespace,
      name,
      address: { destination: { kind: 'hostname', namespace, hostname }, hbonePort: HBONE_PORT },
    },
    isFailOpen: undefined,
    canary: undefined,
    canaryWeight: undefined,
    ingress: undefined,
  }
}

/** The labels that name a waypoint, and its namespace. */
export interface WaypointLabels {
  readonly name: string
  readonly namespace: string
}

export const PRIMARY: WaypointLabels = {
  name: USE_WAYPOINT_LABEL,
  namespace: USE_WAYPOINT_NAMESPACE_LABEL,
}
export const CANARY: WaypointLabels = {
  name: CANARY_WAYPOINT_LABEL,
  namespace: CANARY_WAYPOINT_NAMESPACE_LABEL,
}

/** The Gateway that labels of an object of namespace `own` name; undefined where none is named: an empty label is not the word `none`. */
export function namedWaypoint(
  labels: ReadonlyMap<string, string>,
  by: WaypointLabels,
  own: string,
): { readonly namespace: string; readonly name: string } | 'none' | undefined {
  const name = labels.get(by.name) || undefined
  if (name === undefined || name === 'none') return name
  return { namespace: labels.get(by.namespace) || own, name }
}

/** Reads it; undefined when the object says nothing. `namespace` is the one whose waypoints it means by mere names. */
export function readWaypointUse(
  reader: ObjectReader,
  namespace: string,
  labels: ReadonlyMap<string, string>,
  annotations: ReadonlyMap<string, string>,
  origin: Origin,
): WaypointUse | undefined {
  const asked = readAsked(reader, namespace, labels, origin, PRIMARY)
  const isFailOpen = readFailOpen(reader, annotations.get(FAIL_OPEN_ANNOTATION))
  const canary = readAsked(reader, namespace, labels, origin, CANARY)
  const canaryWeight = annotations.get(CANARY_WAYPOINT_WEIGHT)
  const ingress = labels.get(INGRESS_USE_WAYPOINT_LABEL)
  const use = { asked, isFailOpen, canary, canaryWeight, ingress }
  return Object.values(use).every((said) => said === undefined) ? undefined : use
}

function readAsked(
  reader: ObjectReader,
  own: string,
  labels: ReadonlyMap<string, string>,
  { cluster, clusterDomain }: Origin,
  by: WaypointLabels,
): WaypointUse['asked'] {
  if (labels.get(by.name) === '')
    reader.note(`metadata.labels[${by.name}]`, 'is empty, and is taken as not written')
  const named = namedWaypoint(labels, by, own)
  if (named === undefined || named === 'none') return named
  const { namespace, name } = named
  const hostname = `${name}.${namespace}.svc.${clusterDomain}`
  return {
    gateway: objectKey(cluster, namespace, name),
    namespace,
    name,
    address: { destination: { kind: 'hostname', namespace, hostname }, hbonePort: HBONE_PORT },
  }
}

/** How many of a hundred connections a canary takes: 0 where nobody says, and undefined where that is no whole number up to a hundred. */
export function canaryShare(written: string | undefined): number | undefined {
  const share = /^\d{1,3}$/.test(written ?? '0') ? Number(written ?? '0') : undefined
  return share !== undefined && share <= 100 ? share : undefined
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
