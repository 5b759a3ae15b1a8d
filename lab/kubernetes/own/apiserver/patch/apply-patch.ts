// SPDX-License-Identifier: Apache-2.0
// Server-side apply: the fields a manager sends become its own, those it no longer sends go away, and
// fields another applier owns with another value are conflicts. Writers that do not apply are not
// tracked as owners, so an apply after an edit wins without --force-conflicts.

import { isDeepStrictEqual } from 'node:util'
import { type Result, err, ok } from '../../../../../mesh/result.ts'
import { type Draft, ensureRecord, list, record, records } from '../../../objects/json.ts'
import {
  type FieldSet,
  contains,
  fieldsOf,
  leaves,
  memberKey,
  removeAt,
  valueAt,
  withoutLeaf,
} from './field-set.ts'
import type { ListKindOf } from './list-kinds.ts'

export interface ApplyRequest {
  readonly manager: string
  readonly apiVersion: string
  readonly subresource: string | undefined
  readonly force: boolean
  readonly now: string
  readonly listKindOf: ListKindOf
}

/** Fields in conflict: whose they are and where, as Kubernetes prints them. */
export interface ApplyConflict {
  readonly manager: string
  readonly field: string
}

interface ManagedEntry {
  readonly entry: Draft
  readonly fields: FieldSet
}

function mergeApplied(
  target: unknown,
  config: unknown,
  path: readonly string[],
  keysOf: ListKindOf,
): unknown {
  const changes = record(config)
  if (changes !== undefined) {
    const result: Draft = { ...record(target) }
    for (const [field, value] of Object.entries(changes))
      result[field] = mergeApplied(result[field], value, [...path, field], keysOf)
    return result
  }
  if (!Array.isArray(config)) return config
  const kind = keysOf(path)
  if (kind.kind === 'atomic') return config
  if (kind.kind === 'set') return [...new Set([...list(target), ...list(config)])]
  const result = list(target).slice()
  for (const member of list(config)) {
    const key = memberKey(member, kind.keys)
    const index = result.findIndex((existing) => memberKey(existing, kind.keys) === key)
    if (index === -1) result.push(member)
    else result[index] = mergeApplied(result[index], member, path, keysOf)
  }
  return result
}

/** `f:spec/f:containers/k:{"name":"a"}/f:image` as `.spec.containers[name="a"].image`. */
function readable(path: readonly string[]): string {
  return path
    .map((element) => {
      if (element.startsWith('f:')) return `.${element.slice(2)}`
      if (element.startsWith('v:')) return `[=${element.slice(2)}]`
      if (element === '.') return ''
      const keys = record(JSON.parse(element.slice(2))) ?? {}
      return `[${Object.entries(keys)
        .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
        .join(',')}]`
    })
    .join('')
}

function findConflicts(
  current: Draft,
  config: Draft,
  ours: FieldSet,
  others: readonly ManagedEntry[],
  keysOf: ListKindOf,
): readonly { readonly owner: ManagedEntry; readonly path: readonly string[] }[] {
  return leaves(ours)
    .filter((path) => path.at(-1) !== '.')
    .filter(
      (path) => !isDeepStrictEqual(valueAt(current, path, keysOf), valueAt(config, path, keysOf)),
    )
    .flatMap((path) =>
      others
        .filter((owner) => leaves(owner.fields).some((leaf) => isDeepStrictEqual(leaf, path)))
        .map((owner) => ({ owner, path })),
    )
}

/** Applies a configuration to the current object (an empty draft when there is none). */
export function applyPatch(
  current: Draft,
  config: Draft,
  request: ApplyRequest,
): Result<Draft, readonly ApplyConflict[]> {
  const { listKindOf: keysOf } = request
  const entries: readonly ManagedEntry[] = records(record(current.metadata)?.managedFields).map(
    (entry) => ({ entry, fields: (record(entry.fieldsV1) ?? {}) as FieldSet }),
  )
  const isOurs = ({ entry }: ManagedEntry): boolean =>
    entry.manager === request.manager &&
    entry.operation === 'Apply' &&
    (entry.subresource ?? undefined) === request.subresource
  const previous = entries.find(isOurs)
  let others = entries.filter((entry) => !isOurs(entry))

  const ours = fieldsOf(config, keysOf)
  const conflicts = findConflicts(current, config, ours, others, keysOf)
  if (conflicts.length > 0 && !request.force)
    return err(
      conflicts.map(({ owner, path }) => ({
        manager: String(owner.entry.manager),
        field: readable(path),
      })),
    )
  for (const { owner, path } of conflicts)
    others = others.map((entry) =>
      entry.entry === owner.entry
        ? { entry: entry.entry, fields: withoutLeaf(entry.fields, path) }
        : entry,
    )

  const result = record(mergeApplied(current, structuredClone(config), [], keysOf)) ?? {}
  const abandoned = leaves(previous?.fields ?? {}).filter(
    (path) => !contains(ours, path) && !others.some((owner) => contains(owner.fields, path)),
  )
  // List members go whole (their `.` leaf comes first), then single fields of members that stay.
  const copy = structuredClone(result)
  for (const path of abandoned) removeAt(copy, path, keysOf)

  const metadata = ensureRecord(copy, 'metadata')
  metadata.managedFields = [
    ...others.map(({ entry, fields }) => ({ ...entry, fieldsV1: fields })),
    {
      manager: request.manager,
      operation: 'Apply',
      apiVersion: request.apiVersion,
      time: request.now,
      fieldsType: 'FieldsV1',
      fieldsV1: ours,
      ...(request.subresource === undefined ? {} : { subresource: request.subresource }),
    },
  ]
  return ok(copy)
}
