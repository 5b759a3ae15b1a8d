// SPDX-License-Identifier: Apache-2.0
// Structural OpenAPI schemas of custom resources: pruning of unknown fields, defaults, and checks of
// type, enum, bounds, pattern and required fields. CEL rules and oneOf/anyOf/not are not evaluated.

import {
  type FieldError,
  invalidValue,
  required,
  unsupportedValue,
} from '../../../objects/refusals.ts'
import { type Draft, integer, list, record, text, texts } from '../../../objects/json.ts'
import type { ShapeReport } from './built-in.ts'

const PRESERVE = 'x-kubernetes-preserve-unknown-fields'
const INT_OR_STRING = 'x-kubernetes-int-or-string'
/** Every object has these whether or not its schema says so. */
const ALWAYS = new Set(['apiVersion', 'kind', 'metadata'])

const patterns = new Map<string, RegExp | undefined>()

/** Schemas use Go's regular expressions; one that JavaScript cannot read is not enforced. */
function compile(pattern: string): RegExp | undefined {
  if (!patterns.has(pattern)) {
    let compiled: RegExp | undefined
    try {
      compiled = new RegExp(pattern, 'u')
    } catch {
      compiled = undefined
    }
    patterns.set(pattern, compiled)
  }
  return patterns.get(pattern)
}

function hasType(value: unknown, schema: Draft): boolean {
  if (schema[INT_OR_STRING] === true)
    return typeof value === 'string' || integer(value) !== undefined
  switch (schema.type) {
    case 'object':
      return record(value) !== undefined
    case 'array':
      return Array.isArray(value)
    case 'integer':
      return integer(value) !== undefined
    case 'number':
      return typeof value === 'number'
    case 'string':
    case 'boolean':
      return typeof value === schema.type
    default:
      return true
  }
}

class SchemaCheck {
  readonly errors: FieldError[] = []
  readonly unknownFields: string[] = []

  check(value: unknown, schema: Draft, path: string): void {
    if (value === null && schema.nullable === true) return
    if (!hasType(value, schema)) {
      const actual = Array.isArray(value) ? 'array' : value === null ? 'null' : typeof value
      this.errors.push(
        invalidValue(
          path === '' ? '<nil>' : path,
          typeof value === 'object' ? actual : value,
          `${path} in body must be of type ${String(schema.type ?? 'integer or string')}: "${actual}"`,
        ),
      )
      return
    }
    const allowed = list(schema.enum)
    if (allowed.length > 0 && !allowed.includes(value))
      this.errors.push(unsupportedValue(path, value, allowed.map(String)))
    if (typeof value === 'string') this.#checkText(value, schema, path)
    else if (typeof value === 'number') this.#checkNumber(value, schema, path)
    else if (Array.isArray(value)) this.#checkList(value as readonly unknown[], schema, path)
    else {
      const fields = record(value)
      if (fields !== undefined) this.#checkFields(fields, schema, path)
    }
  }

  #checkText(value: string, schema: Draft, path: string): void {
    const minLength = integer(schema.minLength)
    const maxLength = integer(schema.maxLength)
    const pattern = text(schema.pattern)
    if (minLength !== undefined && value.length < minLength)
      this.#say(path, value, `should be at least ${minLength} chars long`)
    if (maxLength !== undefined && value.length > maxLength)
      this.#say(path, value, `may not be more than ${maxLength} bytes`)
    if (pattern !== undefined && compile(pattern)?.test(value) === false)
      this.#say(path, value, `should match '${pattern}'`)
  }

  #checkNumber(value: number, schema: Draft, path: string): void {
    const { minimum, maximum } = schema
    if (typeof minimum === 'number' && value < minimum)
      this.#say(path, value, `should be greater than or equal to ${minimum}`)
    if (typeof maximum === 'number' && value > maximum)
      this.#say(path, value, `should be less than or equal to ${maximum}`)
  }

  #checkList(value: readonly unknown[], schema: Draft, path: string): void {
    const minItems = integer(schema.minItems)
    const maxItems = integer(schema.maxItems)
    if (minItems !== undefined && value.length < minItems)
      this.#say(path, value.length, `should have at least ${minItems} items`)
    if (maxItems !== undefined && value.length > maxItems)
      this.#say(path, value.length, `must have at most ${maxItems} items`)
    const items = record(schema.items)
    if (items === undefined) return
    for (const [index, member] of value.entries()) this.check(member, items, `${path}[${index}]`)
  }

  #checkFields(fields: Draft, schema: Draft, path: string): void {
    const properties = record(schema.properties) ?? {}
    const additional = record(schema.additionalProperties)
    const join = (field: string): string => (path === '' ? field : `${path}.${field}`)
    for (const [field, property] of Object.entries(properties)) {
      const preset = record(property)?.default
      if (fields[field] === undefined && preset !== undefined)
        fields[field] = structuredClone(preset)
    }
    for (const [field, value] of Object.entries(fields)) {
      if (path === '' && ALWAYS.has(field)) continue
      const property = record(properties[field]) ?? additional
      if (property !== undefined) this.check(value, property, join(field))
      else if (
        schema[PRESERVE] !== true &&
        schema.additionalProperties !== true &&
        schema['x-kubernetes-embedded-resource'] !== true
      ) {
        this.unknownFields.push(join(field))
        delete fields[field]
      }
    }
    for (const field of texts(schema.required))
      if (fields[field] === undefined && !(path === '' && ALWAYS.has(field)))
        this.errors.push(required(join(field)))
    const maxProperties = integer(schema.maxProperties)
    if (maxProperties !== undefined && Object.keys(fields).length > maxProperties)
      this.#say(path, Object.keys(fields).length, `must have at most ${maxProperties} properties`)
  }

  #say(path: string, value: unknown, rule: string): void {
    this.errors.push(invalidValue(path, value, `${path} in body ${rule}`))
  }
}

/** Prunes and defaults a custom resource in place, and reports what is wrong with it. */
export function checkCustomSchema(schema: Draft | undefined, draft: Draft): ShapeReport {
  const check = new SchemaCheck()
  if (schema !== undefined) check.check(draft, schema, '')
  return { malformed: undefined, unknownFields: check.unknownFields, errors: check.errors }
}
