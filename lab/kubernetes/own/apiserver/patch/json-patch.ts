// SPDX-License-Identifier: Apache-2.0
// JSON patch, RFC 6902, with JSON pointers, RFC 6901.

import { isDeepStrictEqual } from 'node:util'
import { type Result, err, ok } from '../../../../../mesh/result.ts'
import { type Draft, record, text } from '../../../objects/json.ts'

type Container = Draft | unknown[]

const unescape = (token: string): string => token.replaceAll('~1', '/').replaceAll('~0', '~')

function parsePointer(pointer: string): Result<readonly string[], string> {
  if (pointer === '') return ok([])
  if (!pointer.startsWith('/')) return err(`pointer ${JSON.stringify(pointer)} must start with "/"`)
  return ok(pointer.slice(1).split('/').map(unescape))
}

const isContainer = (value: unknown): value is Container =>
  typeof value === 'object' && value !== null

/** The position a token names in a list: an index, or `-` for its end. */
function listIndex(list: readonly unknown[], token: string, limit: number): number | undefined {
  if (token === '-') return list.length
  const index = /^(0|[1-9][0-9]*)$/.test(token) ? Number(token) : undefined
  return index !== undefined && index <= limit ? index : undefined
}

function child(value: Container, token: string): Result<unknown, string> {
  if (Array.isArray(value)) {
    const index = listIndex(value, token, value.length - 1)
    return index === undefined || index >= value.length
      ? err(`index ${token} is out of range`)
      : ok(value[index])
  }
  return Object.hasOwn(value, token) ? ok(value[token]) : err(`field ${token} does not exist`)
}

function lookUp(root: unknown, tokens: readonly string[]): Result<unknown, string> {
  let here: unknown = root
  for (const token of tokens) {
    if (!isContainer(here)) return err(`${token} is looked for in a scalar`)
    const next = child(here, token)
    if (!next.ok) return next
    here = next.value
  }
  return ok(here)
}

function add(root: Container, tokens: readonly string[], value: unknown): Result<void, string> {
  const parent = lookUp(root, tokens.slice(0, -1))
  if (!parent.ok) return parent
  const token = tokens.at(-1) ?? ''
  if (!isContainer(parent.value)) return err('the parent is a scalar')
  if (Array.isArray(parent.value)) {
    const index = listIndex(parent.value, token, parent.value.length)
    if (index === undefined) return err(`index ${token} is out of range`)
    parent.value.splice(index, 0, value)
  } else parent.value[token] = value
  return ok(undefined)
}

function remove(root: Container, tokens: readonly string[]): Result<unknown, string> {
  const parent = lookUp(root, tokens.slice(0, -1))
  if (!parent.ok) return parent
  const token = tokens.at(-1) ?? ''
  if (!isContainer(parent.value)) return err('the parent is a scalar')
  const removed = child(parent.value, token)
  if (!removed.ok) return removed
  if (Array.isArray(parent.value)) parent.value.splice(Number(token), 1)
  else delete parent.value[token]
  return removed
}

function applyOperation(root: Draft, operation: Draft): Result<void, string> {
  const path = parsePointer(text(operation.path) ?? 'missing')
  if (!path.ok) return path
  if (path.value.length === 0) return err('the whole object cannot be the target')
  switch (operation.op) {
    case 'add':
      return add(root, path.value, structuredClone(operation.value))
    case 'remove': {
      const removed = remove(root, path.value)
      return removed.ok ? ok(undefined) : removed
    }
    case 'replace': {
      const removed = remove(root, path.value)
      return removed.ok ? add(root, path.value, structuredClone(operation.value)) : removed
    }
    case 'test': {
      const found = lookUp(root, path.value)
      if (!found.ok) return found
      return isDeepStrictEqual(found.value, operation.value)
        ? ok(undefined)
        : err('the value is another one')
    }
    case 'move':
    case 'copy': {
      const from = parsePointer(text(operation.from) ?? 'missing')
      if (!from.ok) return from
      const found = operation.op === 'move' ? remove(root, from.value) : lookUp(root, from.value)
      return found.ok ? add(root, path.value, structuredClone(found.value)) : found
    }
    default:
      return err(
        `op ${JSON.stringify(operation.op)} is not one of add, remove, replace, move, copy, test`,
      )
  }
}

/** Applies the operations to a copy, all or none; the error names the operation that failed. */
export function jsonPatch(target: Draft, patch: unknown): Result<Draft, string> {
  if (!Array.isArray(patch)) return err('a JSON patch must be a list of operations')
  const result = structuredClone(target)
  for (const [index, member] of patch.entries()) {
    const operation = record(member)
    if (operation === undefined) return err(`operation ${index} is not an object`)
    const applied = applyOperation(result, operation)
    if (!applied.ok)
      return err(
        `operation ${index} (${String(operation.op)} ${String(operation.path)}): ${applied.error}`,
      )
  }
  return ok(result)
}
