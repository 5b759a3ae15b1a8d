// SPDX-License-Identifier: Apache-2.0
// Reading untyped JSON safely: every look-up answers undefined where the shape is another than hoped for.

import type { KubeInput, StoredObject } from './stored-object.ts'

/** A working copy owned by the one request that writes it. */
export interface Draft {
  [field: string]: unknown
}

/** The value as an object with fields, or undefined. */
export function record(value: unknown): Draft | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Draft)
    : undefined
}

/** The value at a path of field names. */
export function at(value: unknown, ...path: readonly string[]): unknown {
  let here: unknown = value
  for (const field of path) {
    const fields = record(here)
    if (fields === undefined || !Object.hasOwn(fields, field)) return undefined
    here = fields[field]
  }
  return here
}

export function text(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}

export function integer(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isInteger(value) ? value : undefined
}

export function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? (value as readonly unknown[]) : []
}

/** The members of a list that are objects. */
export function records(value: unknown): readonly Draft[] {
  return list(value)
    .map(record)
    .filter((member) => member !== undefined)
}

export function texts(value: unknown): readonly string[] {
  return list(value).filter((member) => typeof member === 'string')
}

/** The string values of a map such as labels. */
export function stringMap(value: unknown): { readonly [key: string]: string } {
  const fields = record(value)
  if (fields === undefined) return {}
  return Object.fromEntries(
    Object.entries(fields).filter(
      (entry): entry is [string, string] => typeof entry[1] === 'string',
    ),
  )
}

/** The object in a field, made when it is absent: for defaulting in place. */
export function ensureRecord(parent: Draft, field: string): Draft {
  const existing = record(parent[field])
  if (existing !== undefined) return existing
  const made: Draft = {}
  parent[field] = made
  return made
}

/** Sets a field unless it has a value already. */
export function setDefault(parent: Draft, field: string, value: unknown): void {
  if (parent[field] === undefined || parent[field] === null) parent[field] = value
}

/** A deep copy that may be changed freely; fields that are undefined are left out, as on the wire. */
export function draftOf(object: StoredObject | KubeInput | Draft): Draft {
  return JSON.parse(JSON.stringify(object)) as Draft
}

const serialized = new WeakMap<object, string>()

/** JSON text of a stored object. Stored objects never change, so each is turned into text once. */
export function stringifyOnce(object: StoredObject): string {
  let textForm = serialized.get(object)
  if (textForm === undefined) {
    textForm = JSON.stringify(object)
    serialized.set(object, textForm)
  }
  return textForm
}
