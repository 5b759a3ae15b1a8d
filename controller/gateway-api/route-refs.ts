// SPDX-License-Identifier: Apache-2.0
// Reads what a route is attached to and where it sends requests, as it is written: whether there are such objects is another question
// (route-parents.ts, route-backends.ts).

import { type Fields, type FlawReader, fieldsOf, isAbsent, shown } from '../istio-api/flaw.ts'
import {
  ANY_TEXT,
  OBJECT_NAME,
  readEntries,
  readInteger,
  readMap,
  readOptionalText,
  readText,
} from './route-fields.ts'

/** A Service, or a Gateway, that a route names as its parent. */
export interface ParentRef {
  /** As it is written; a status repeats it. */
  readonly written: Fields
  readonly namespace: string
  readonly name: string
  readonly port: number | undefined
  readonly sectionName: string | undefined
}

/** What a route names as a backend. */
export interface BackendRef {
  readonly field: string
  readonly group: string
  readonly kind: string
  readonly namespace: string
  readonly name: string
  /** Undefined where it names none: a Service without one is no backend. */
  readonly port: number | undefined
}

const MOST_PARENTS = 32
/** What a parentRef means that says neither group nor kind. */
const GATEWAY_GROUP = 'gateway.networking.k8s.io'
const PARENT_FIELDS = ['group', 'kind', 'namespace', 'name', 'sectionName', 'port']
export const BACKEND_FIELDS = ['group', 'kind', 'namespace', 'name', 'port']
const MOST_PORTS = 65_535

/** The parents of a route, by their kinds; of others nothing is read. */
export interface RouteParents {
  readonly services: readonly ParentRef[]
  /** Whose they are their classes say. */
  readonly gateways: readonly ParentRef[]
}

/** Reads them. What is said of Gateways that are no waypoints is for whoever serves those. */
export function readParents(reader: FlawReader, namespace: string, value: unknown): RouteParents {
  const field = 'spec.parentRefs'
  const services: ParentRef[] = []
  const gateways: ParentRef[] = []
  for (const [at, each] of readEntries(reader, field, value, MOST_PARENTS).entries()) {
    const written = fieldsOf(each)
    const group = written?.group ?? GATEWAY_GROUP
    const kind = written?.kind ?? 'Gateway'
    const list =
      group === '' && kind === 'Service'
        ? services
        : group === GATEWAY_GROUP && kind === 'Gateway'
          ? gateways
          : undefined
    if (written === undefined || list === undefined) continue
    const parent = readParent(reader, namespace, `${field}[${at}]`, written)
    if (parent !== undefined) list.push(parent)
  }
  return { services, gateways }
}

function readParent(
  reader: FlawReader,
  ownNamespace: string,
  field: string,
  written: Fields,
): ParentRef | undefined {
  const before = reader.flaws.length
  readMap(reader, field, written, PARENT_FIELDS)
  const name = readText(reader, `${field}.name`, written.name, OBJECT_NAME)
  const namespace = readOptionalText(reader, `${field}.namespace`, written.namespace, OBJECT_NAME)
  const sectionName = readOptionalText(
    reader,
    `${field}.sectionName`,
    written.sectionName,
    ANY_TEXT,
  )
  const port = isAbsent(written.port)
    ? undefined
    : readInteger(reader, `${field}.port`, written.port, 1, MOST_PORTS)
  // A parent without the port that it was narrowed to would be another one.
  if (name === undefined || reader.flaws.length > before) return undefined
  return {
    written,
    namespace: namespace ?? ownNamespace,
    name,
    port,
    sectionName: sectionName === '' ? undefined : sectionName,
  }
}

/** Reads one backend; of a kind that nobody serves, too, for its share of the requests is to fail and not the rule. */
export function readBackendRef(
  reader: FlawReader,
  ownNamespace: string,
  field: string,
  fields: Fields,
): BackendRef | undefined {
  const name = readText(reader, `${field}.name`, fields.name, ANY_TEXT)
  const text = (key: 'group' | 'kind' | 'namespace', absent: string): string =>
    readOptionalText(reader, `${field}.${key}`, fields[key], ANY_TEXT) ?? absent
  const port = isAbsent(fields.port)
    ? undefined
    : readInteger(reader, `${field}.port`, fields.port, 1, MOST_PORTS)
  if (name === undefined) return undefined
  return {
    field,
    group: text('group', ''),
    kind: text('kind', 'Service'),
    namespace: text('namespace', ownNamespace),
    name,
    port,
  }
}

/** For people. */
export function nameOfBackend({ group, kind, namespace, name }: BackendRef): string {
  return `${group === '' ? kind : `${kind}.${group}`} ${shown(`${namespace}/${name}`)}`
}
