// SPDX-License-Identifier: Apache-2.0
// Reads a ReferenceGrant (gateway.networking.k8s.io/v1beta1): who of another namespace may refer to what of this one. What of it cannot be
// read grants nothing.

import type { Origin } from '../core/origin.ts'
import { FlawReader, fieldsOf, isAbsent } from '../istio-api/flaw.ts'
import type { PolicyObject } from '../istio-api/seen-object.ts'
import type { Reading } from '../reading/object-reader.ts'
import { ANY_TEXT, readEntries, readMap, readText } from './route-fields.ts'
import type { BackendRef } from './route-refs.ts'

interface GrantFrom {
  readonly group: string
  readonly kind: string
  readonly namespace: string
}

interface GrantTo {
  readonly group: string
  readonly kind: string
  /** Undefined: all of the kind. */
  readonly name: string | undefined
}

export interface ReferenceGrantFacts {
  readonly cluster: string
  readonly namespace: string
  readonly from: readonly GrantFrom[]
  readonly to: readonly GrantTo[]
}

const ROUTE_GROUP = 'gateway.networking.k8s.io'
const MOST_ENTRIES = 16

/** Reads a ReferenceGrant. */
export function readReferenceGrant(
  { metadata, spec }: PolicyObject,
  { cluster }: Origin,
): Reading<ReferenceGrantFacts> {
  const { namespace } = fieldsOf(metadata) ?? {}
  const reader = new FlawReader('ReferenceGrant', fieldsOf(metadata))
  const fields = readMap(reader, 'spec', spec, ['from', 'to'])
  const entries = <T>(
    name: 'from' | 'to',
    known: readonly string[],
    readOne: (text: (key: string) => string | undefined, isNamed: boolean) => T | undefined,
  ): readonly T[] => {
    const field = `spec.${name}`
    return readEntries(reader, field, fields?.[name], MOST_ENTRIES).flatMap((each, at) => {
      const place = `${field}[${at}]`
      const before = reader.flaws.length
      const entry = readMap(reader, place, each, known)
      if (entry === undefined) return []
      const text = (key: string) => readText(reader, `${place}.${key}`, entry[key], ANY_TEXT)
      const read = readOne(text, !isAbsent(entry.name))
      // A grant without what narrows it would be a wider one.
      return reader.flaws.length > before || read === undefined ? [] : [read]
    })
  }
  const facts: ReferenceGrantFacts = {
    cluster,
    namespace: typeof namespace === 'string' ? namespace : '',
    from: entries('from', ['group', 'kind', 'namespace'], (text) => {
      const [group, kind, from] = [text('group'), text('kind'), text('namespace')]
      return group === undefined || kind === undefined || from === undefined
        ? undefined
        : { group, kind, namespace: from }
    }),
    to: entries('to', ['group', 'kind', 'name'], (text, isNamed) => {
      const [group, kind] = [text('group'), text('kind')]
      return group === undefined || kind === undefined
        ? undefined
        : { group, kind, name: isNamed ? text('name') : undefined }
    }),
  }
  return { facts, problems: reader.problems }
}

/** Whether it lets routes of this kind and namespace refer to the backend, which is of the grant's own namespace. */
export function grants(
  { from, to }: ReferenceGrantFacts,
  route: { readonly kind: string; readonly namespace: string },
  backend: Pick<BackendRef, 'group' | 'kind' | 'name'>,
): boolean {
  const isFrom = from.some(
    ({ group, kind, namespace }) =>
      group === ROUTE_GROUP && kind === route.kind && namespace === route.namespace,
  )
  return (
    isFrom &&
    to.some(
      ({ group, kind, name }) =>
        group === backend.group &&
        kind === backend.kind &&
        (name === undefined || name === backend.name),
    )
  )
}
