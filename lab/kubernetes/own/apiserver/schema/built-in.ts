// SPDX-License-Identifier: Apache-2.0
// The shape of built-in types, from the field tables of the official client, which are generated from
// the Kubernetes API itself: which fields there are, and of which JSON type.

import { readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { type Draft, record } from '../../../objects/json.ts'
import type { FieldError } from '../../../objects/refusals.ts'
import type { ResourceType } from '../../../objects/resource-types.ts'

export interface ShapeReport {
  /** Why it cannot be read at all: a field of a wrong type. */
  readonly malformed: string | undefined
  readonly unknownFields: readonly string[]
  readonly errors: readonly FieldError[]
}

type FieldTable = ReadonlyMap<string, string>

interface Model {
  getAttributeTypeMap(): readonly { readonly baseName: string; readonly type: string }[]
}

/** One by one, as they are asked for: all of the client, 25 MB of code, takes a second to read. */
const MODELS = new URL('gen/models/', import.meta.resolve('@kubernetes/client-node'))
const load = createRequire(import.meta.url)
const modelFiles: ReadonlySet<string> = new Set(readdirSync(MODELS))
const tables = new Map<string, FieldTable | undefined>()

/** Fields of a model class such as V1PodSpec: name to type; undefined when there is no such class. */
function fieldTable(modelName: string): FieldTable | undefined {
  if (tables.has(modelName)) return tables.get(modelName)
  const table = modelFiles.has(`${modelName}.js`) ? readTable(modelName) : undefined
  tables.set(modelName, table)
  return table
}

function readTable(modelName: string): FieldTable | undefined {
  const module = load(new URL(`${modelName}.js`, MODELS).pathname) as Readonly<
    Record<string, Model>
  >
  const fields = module[modelName]?.getAttributeTypeMap()
  return fields && new Map(fields.map(({ baseName, type }) => [baseName, type]))
}

/** Model class names carry the version; the few exceptions share a name with another group's type. */
function modelName(type: ResourceType): string {
  const version = type.version.replace(/^v/, 'V')
  return type.id === 'events' ? 'CoreV1Event' : `${version}${type.kind}`
}

function jsonTypeOf(value: unknown): string {
  if (Array.isArray(value)) return 'array'
  return typeof value === 'object' ? 'object' : typeof value
}

const isIntOrString = (value: unknown): boolean =>
  typeof value === 'string' || typeof value === 'number'

const LIST = /^Array<(.+)>$/
const MAP = /^\{ \[key: string\]: (.+); \}$/

class Inspection {
  readonly unknownFields: string[] = []
  malformed: string | undefined

  /** Compares a value with a type of the field tables. */
  inspect(value: unknown, type: string, path: string): void {
    if (value === undefined || value === null || this.malformed !== undefined) return
    const member = LIST.exec(type)?.[1]
    if (member !== undefined) {
      if (!Array.isArray(value)) return this.#mismatch(value, path, 'array')
      for (const [index, one] of value.entries()) this.inspect(one, member, `${path}[${index}]`)
      return
    }
    const entry = MAP.exec(type)?.[1]
    if (entry !== undefined) {
      const fields = record(value)
      if (fields === undefined) return this.#mismatch(value, path, 'object')
      for (const [key, one] of Object.entries(fields)) this.inspect(one, entry, `${path}.${key}`)
      return
    }
    switch (type) {
      case 'string':
      case 'number':
      case 'boolean':
        if (typeof value !== type) this.#mismatch(value, path, type)
        return
      case 'IntOrString':
        if (!isIntOrString(value)) this.#mismatch(value, path, 'integer or string')
        return
      case 'Date':
      case 'V1MicroTime':
        if (typeof value !== 'string') this.#mismatch(value, path, 'time')
        return
      default:
        this.#inspectModel(value, type, path)
    }
  }

  #inspectModel(value: unknown, type: string, path: string): void {
    const table = fieldTable(type)
    // Types such as `any` (JSON of any kind, schemas) have no table.
    if (table === undefined || table.size === 0) return
    const fields = record(value)
    if (fields === undefined) return this.#mismatch(value, path, 'object')
    for (const [field, one] of Object.entries(fields)) {
      const fieldType = table.get(field)
      const fieldPath = path === '' ? field : `${path}.${field}`
      if (fieldType === undefined) this.unknownFields.push(fieldPath)
      else this.inspect(one, fieldType, fieldPath)
    }
  }

  #mismatch(value: unknown, path: string, wanted: string): void {
    this.malformed = `json: cannot unmarshal ${jsonTypeOf(value)} into field ${path} of type ${wanted}`
  }
}

/** Looks for fields that do not exist and values of a wrong type. */
export function checkBuiltInShape(type: ResourceType, draft: Draft): ShapeReport {
  const inspection = new Inspection()
  inspection.inspect(draft, modelName(type), '')
  return {
    malformed: inspection.malformed,
    unknownFields: inspection.unknownFields,
    errors: [],
  }
}
