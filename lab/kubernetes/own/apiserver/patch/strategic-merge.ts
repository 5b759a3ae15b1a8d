// SPDX-License-Identifier: Apache-2.0
// Strategic merge patch: like a merge patch, but lists whose members have a key merge by it, and
// directives ($patch, $retainKeys, $deleteFromPrimitiveList, $setElementOrder) say what else to do.

import { isDeepStrictEqual } from 'node:util'
import { type Draft, list, record, texts } from '../../../objects/json.ts'
import type { ListKindOf } from './list-kinds.ts'

const PATCH_DIRECTIVE = '$patch'
const RETAIN_KEYS = '$retainKeys'
const DELETE_FROM_LIST = '$deleteFromPrimitiveList/'
const ELEMENT_ORDER = '$setElementOrder/'

const isDirective = (field: string): boolean => field.startsWith('$')

/** Patches carry directives even inside values that are new to the target: take them out. */
function withoutDirectives(value: unknown): unknown {
  if (Array.isArray(value)) {
    return (value as readonly unknown[])
      .filter((member) => record(member)?.[PATCH_DIRECTIVE] === undefined)
      .map(withoutDirectives)
  }
  const fields = record(value)
  if (fields === undefined) return value
  return Object.fromEntries(
    Object.entries(fields)
      .filter(([field, member]) => !isDirective(field) && member !== null)
      .map(([field, member]) => [field, withoutDirectives(member)]),
  )
}

function mergeKeyedList(
  target: readonly unknown[],
  patch: readonly unknown[],
  key: string,
  path: readonly string[],
  listKindOf: ListKindOf,
): unknown[] {
  if (patch.some((member) => record(member)?.[PATCH_DIRECTIVE] === 'replace'))
    return list(withoutDirectives(patch)).slice()
  let result = target.slice()
  for (const member of patch) {
    const change = record(member)
    const keyValue = change?.[key]
    const index = result.findIndex((existing) => record(existing)?.[key] === keyValue)
    if (change?.[PATCH_DIRECTIVE] === 'delete') result = result.filter((_, at) => at !== index)
    else if (index === -1 || change === undefined) result.push(withoutDirectives(member))
    else result[index] = mergeObject(record(result[index]) ?? {}, change, path, listKindOf)
  }
  return result
}

/** Brings members into the order the client wants; members it does not know keep theirs, at the end. */
function reorder(members: readonly unknown[], wanted: readonly unknown[], key: string | undefined) {
  const identity = (member: unknown): unknown =>
    key === undefined ? member : record(member)?.[key]
  const positions = wanted.map(identity)
  const rank = (member: unknown): number => {
    const position = positions.findIndex((one) => isDeepStrictEqual(one, identity(member)))
    return position === -1 ? positions.length : position
  }
  return members.toSorted((left, right) => rank(left) - rank(right))
}

function mergeList(
  target: unknown,
  patch: readonly unknown[],
  path: readonly string[],
  listKindOf: ListKindOf,
): unknown[] {
  const kind = listKindOf(path)
  switch (kind.kind) {
    case 'atomic':
      return patch.slice()
    case 'set':
      return [...new Set([...list(target), ...patch])]
    case 'map':
      // Strategic merge knows one key only, the first.
      return mergeKeyedList(list(target), patch, kind.keys[0] ?? 'name', path, listKindOf)
  }
}

function mergeObject(
  target: Draft,
  patch: Draft,
  path: readonly string[],
  listKindOf: ListKindOf,
): Draft {
  if (patch[PATCH_DIRECTIVE] === 'replace') return record(withoutDirectives(patch)) ?? {}
  if (patch[PATCH_DIRECTIVE] === 'delete') return {}
  const result: Draft = { ...target }
  for (const [field, change] of Object.entries(patch)) {
    if (isDirective(field)) continue
    const fieldPath = [...path, field]
    if (change === null) delete result[field]
    else if (Array.isArray(change))
      result[field] = mergeList(result[field], change as readonly unknown[], fieldPath, listKindOf)
    else if (record(change) === undefined) result[field] = change
    else
      result[field] = mergeObject(
        record(result[field]) ?? {},
        record(change) ?? {},
        fieldPath,
        listKindOf,
      )
  }
  applyDirectives(result, patch, path, listKindOf)
  return result
}

function applyDirectives(
  result: Draft,
  patch: Draft,
  path: readonly string[],
  listKindOf: ListKindOf,
): void {
  const retained = patch[RETAIN_KEYS]
  if (retained !== undefined) {
    const keep = new Set(texts(retained))
    for (const field of Object.keys(result)) if (!keep.has(field)) delete result[field]
  }
  for (const [directive, value] of Object.entries(patch)) {
    if (directive.startsWith(DELETE_FROM_LIST)) {
      const field = directive.slice(DELETE_FROM_LIST.length)
      result[field] = list(result[field]).filter((member) => !list(value).includes(member))
    }
    if (directive.startsWith(ELEMENT_ORDER)) {
      const field = directive.slice(ELEMENT_ORDER.length)
      const kind = listKindOf([...path, field])
      if (!Array.isArray(result[field])) continue
      const key = kind.kind === 'map' ? kind.keys[0] : undefined
      result[field] = reorder(list(result[field]), list(value), key)
    }
  }
}

/** The result of a strategic merge patch; the target is not changed. */
export function strategicMergePatch(target: Draft, patch: Draft, listKindOf: ListKindOf): Draft {
  return mergeObject(target, patch, [], listKindOf)
}
