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

/** A Service that a route names as its parent. */
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
const PARENT_FIELDS = ['group', 'kind', 'namespace', 'name', 'sectionName', 'port']
export const BACKEND_FIELDS = ['group', 'kind', 'namespace', 'name', 'port']
const MOST_PORTS = 65_535

/** Its parents that are Services; what it says of Gateways is for whoever serves those. */
export function readParents(
  reader: FlawReader,
  namespace: string,
  value: unknown,
): readonly ParentRef[] {
  const field = 'spec.parentRefs'
  return readEntries(reader, field, value, MOST_PARENTS).flatMap((each, at) => {
    const written = fieldsOf(each)
    if (written?.group !== '' || written.kind !== 'Service') return []
    return readParent(reader, namespace, `${field}[${at}]`, written) ?? []
  })
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
