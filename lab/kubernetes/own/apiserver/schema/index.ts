// SPDX-License-Identifier: Apache-2.0
// Checks the shape of an object: built-in types against the types of the Kubernetes API, custom ones
// against the OpenAPI schema of their definition.

import { type Result, ok } from '../../../../../mesh/result.ts'
import { type FieldError, badRequest } from '../../../objects/refusals.ts'
import type { Draft } from '../../../objects/json.ts'
import type { ResourceType } from '../../../objects/resource-types.ts'
import type { Refusal } from '../../../objects/refusals.ts'
import { checkBuiltInShape } from './built-in.ts'
import { checkCustomSchema } from './custom.ts'

/** What to do about fields that the type does not have. */
export type FieldValidation = 'Ignore' | 'Warn' | 'Strict'

/** Prunes and defaults custom resources in place; returns the fields that are invalid. */
export function checkSchema(
  type: ResourceType,
  draft: Draft,
  validation: FieldValidation,
  warnings: string[] | undefined,
): Result<readonly FieldError[], Refusal> {
  const schema = type.versions.find((one) => one.version === type.version)?.schema
  const shape = type.isCustom ? checkCustomSchema(schema, draft) : checkBuiltInShape(type, draft)
  if (shape.malformed !== undefined)
    return badRequest(
      `${type.kind} in version "${type.version}" cannot be handled as a ${type.kind}: ${shape.malformed}`,
    )
  if (shape.unknownFields.length > 0) {
    const sentences = shape.unknownFields.map((path) => `unknown field ${JSON.stringify(path)}`)
    if (validation === 'Strict')
      return badRequest(
        `${type.kind} in version "${type.version}" cannot be handled as a ${type.kind}: strict decoding error: ${sentences.join(', ')}`,
      )
    if (validation === 'Warn') warnings?.push(...sentences)
  }
  return ok(shape.errors)
}
