// SPDX-License-Identifier: Apache-2.0
// Sets of fields in the form of metadata.managedFields (FieldsV1): `f:name` a field, `k:{...}` a list
// member by its keys, `v:...` a member of a set, `.` the member itself. Used by apply patches only.

import { type Draft, list, record } from '../../../objects/json.ts'
import { KEY_DEFAULTS, type ListKindOf } from './list-kinds.ts'

export interface FieldSet {
  [element: string]: FieldSet
}

/** Never owned: they name the object rather than describe it. */
const UNOWNED = new Set(['apiVersion', 'kind'])
const UNOWNED_METADATA = new Set([
  'name',
  'namespace',
  'uid',
  'resourceVersion',
  'creationTimestamp',
  'generation',
  'managedFields',
])

/** The keys of a list member in canonical form, defaults filled in. */
export function memberKey(member: unknown, keys: readonly string[]): string {
  const fields = record(member) ?? {}
  return JSON.stringify(
    Object.fromEntries(
      keys.toSorted().map((key) => [key, fields[key] ?? KEY_DEFAULTS[key] ?? null]),
    ),
  )
}

/** All fields a value sets. */
export function fieldsOf(
  value: unknown,
  listKindOf: ListKindOf,
  path: readonly string[] = [],
): FieldSet {
  const fields = record(value)
  if (fields !== undefined) {
    const set: FieldSet = {}
    for (const [field, member] of Object.entries(fields)) {
      if (path.length === 0 && UNOWNED.has(field)) continue
      if (path.length === 1 && path[0] === 'metadata' && UNOWNED_METADATA.has(field)) continue
      const below = fieldsOf(member, listKindOf, [...path, field])
      // Metadata that only names the object owns nothing, unlike an empty object such as `emptyDir: {}`.
      if (path.length === 0 && field === 'metadata' && isLeaf(below)) continue
      set[`f:${field}`] = below
    }
    return set
  }
  if (!Array.isArray(value)) return {}
  const kind = listKindOf(path)
  if (kind.kind === 'atomic') return {}
  const set: FieldSet = {}
  for (const member of list(value)) {
    if (kind.kind === 'set') set[`v:${JSON.stringify(member)}`] = {}
    else
      set[`k:${memberKey(member, kind.keys)}`] = { '.': {}, ...fieldsOf(member, listKindOf, path) }
  }
  return set
}

const isLeaf = (set: FieldSet): boolean => Object.keys(set).length === 0

/** Whether a set has the field at a path of elements (or something below it). */
export function contains(set: FieldSet, path: readonly string[]): boolean {
  let here: FieldSet | undefined = set
  for (const element of path) here = here?.[element]
  return here !== undefined
}

/** The paths of a set's leaves. */
export function leaves(
  set: FieldSet,
  path: readonly string[] = [],
): readonly (readonly string[])[] {
  return Object.entries(set).flatMap(([element, below]) =>
    isLeaf(below) ? [[...path, element]] : leaves(below, [...path, element]),
  )
}

/** Takes a leaf out, and the branches that become empty by it. */
export function withoutLeaf(set: FieldSet, path: readonly string[]): FieldSet {
  const [element, ...rest] = path
  const below = element === undefined ? undefined : set[element]
  if (element === undefined || below === undefined) return set
  const { [element]: _removed, ...others } = set
  if (rest.length === 0) return others
  const remaining = withoutLeaf(below, rest)
  return isLeaf(remaining) ? others : { ...others, [element]: remaining }
}

interface Place {
  readonly parent: Draft | unknown[]
  readonly key: string | number
}

function findPlace(root: Draft, path: readonly string[], keysOf: ListKindOf): Place | undefined {
  let parent: Draft | unknown[] = root
  const fieldPath: string[] = []
  for (const [index, element] of path.entries()) {
    let key: string | number
    if (element.startsWith('f:')) {
      key = element.slice(2)
      fieldPath.push(key)
    } else {
      if (!Array.isArray(parent)) return undefined
      const kind = keysOf(fieldPath)
      key = element.startsWith('v:')
        ? parent.findIndex((member) => JSON.stringify(member) === element.slice(2))
        : parent.findIndex(
            (member) => kind.kind === 'map' && memberKey(member, kind.keys) === element.slice(2),
          )
      if (key === -1) return undefined
    }
    if (index === path.length - 1) return { parent, key }
    const next: unknown = (parent as { [key: string | number]: unknown })[key]
    if (typeof next !== 'object' || next === null) return undefined
    parent = next as Draft | unknown[]
  }
  return undefined
}

/** The value a path of elements leads to; for `.`, the member itself. */
export function valueAt(root: Draft, path: readonly string[], keysOf: ListKindOf): unknown {
  const target = path.at(-1) === '.' ? path.slice(0, -1) : path
  const place = findPlace(root, target, keysOf)
  return place === undefined
    ? undefined
    : (place.parent as { [key: string | number]: unknown })[place.key]
}

/** Removes what a path leads to, in place; for `.`, the list member. */
export function removeAt(root: Draft, path: readonly string[], keysOf: ListKindOf): void {
  const target = path.at(-1) === '.' ? path.slice(0, -1) : path
  const place = findPlace(root, target, keysOf)
  if (place === undefined) return
  if (Array.isArray(place.parent)) place.parent.splice(Number(place.key), 1)
  else delete place.parent[place.key]
}
