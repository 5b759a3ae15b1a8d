// SPDX-License-Identifier: Apache-2.0
// The refusals of the API server, worded as Kubernetes words them, and their Status objects.

import { failureKind, type KubeFailure } from '../../../mesh/kube/failure.ts'
import { type Err, err } from '../../../mesh/result.ts'
import type { JsonObject } from './stored-object.ts'

/** A refused request: what a client makes a KubeFailure of, and the details of the Status that it gets. */
export interface Refusal extends KubeFailure {
  readonly details?: JsonObject | undefined
}

/** One invalid field: its path and what is wrong, as in `spec.ports[0].port: Required value`. */
export interface FieldError {
  readonly field: string
  readonly reason:
    | 'FieldValueRequired'
    | 'FieldValueInvalid'
    | 'FieldValueNotSupported'
    | 'FieldValueDuplicate'
    | 'FieldValueForbidden'
  readonly message: string
}

export const required = (field: string, detail = ''): FieldError => ({
  field,
  reason: 'FieldValueRequired',
  message: detail === '' ? 'Required value' : `Required value: ${detail}`,
})

export const invalidValue = (field: string, value: unknown, detail: string): FieldError => ({
  field,
  reason: 'FieldValueInvalid',
  message: `Invalid value: ${JSON.stringify(value)}: ${detail}`,
})

export const unsupportedValue = (
  field: string,
  value: unknown,
  supported: readonly string[],
): FieldError => ({
  field,
  reason: 'FieldValueNotSupported',
  message: `Unsupported value: ${JSON.stringify(value)}: supported values: ${supported.map((name) => JSON.stringify(name)).join(', ')}`,
})

export const duplicateValue = (field: string, value: unknown): FieldError => ({
  field,
  reason: 'FieldValueDuplicate',
  message: `Duplicate value: ${JSON.stringify(value)}`,
})

/** What a failure names: `pods`, or `deployments.apps`. */
interface Named {
  readonly id: string
  readonly plural: string
  readonly group: string
}

const detailsOf = (resource: Named, name: string): JsonObject => ({
  name,
  ...(resource.group === '' ? {} : { group: resource.group }),
  kind: resource.plural,
})

export function refuse(
  code: number,
  reason: string,
  message: string,
  details?: JsonObject,
): Err<Refusal> {
  return err({ kind: failureKind(code, reason), status: code, reason, message, details })
}

export const notFound = (resource: Named, name: string): Err<Refusal> =>
  refuse(404, 'NotFound', `${resource.id} "${name}" not found`, detailsOf(resource, name))

export const alreadyExists = (resource: Named, name: string): Err<Refusal> =>
  refuse(409, 'AlreadyExists', `${resource.id} "${name}" already exists`, detailsOf(resource, name))

export const conflict = (resource: Named, name: string, why: string): Err<Refusal> =>
  refuse(
    409,
    'Conflict',
    `Operation cannot be fulfilled on ${resource.id} "${name}": ${why}`,
    detailsOf(resource, name),
  )

export const forbidden = (resource: Named, name: string, why: string): Err<Refusal> =>
  refuse(
    403,
    'Forbidden',
    `${resource.id} "${name}" is forbidden: ${why}`,
    detailsOf(resource, name),
  )

export const badRequest = (message: string): Err<Refusal> => refuse(400, 'BadRequest', message)

export const unsupportedMediaType = (message: string): Err<Refusal> =>
  refuse(415, 'UnsupportedMediaType', message)

/** The page the path names does not exist at all: an unknown group, version or resource. */
export const unknownPath = (): Err<Refusal> =>
  refuse(404, 'NotFound', 'the server could not find the requested resource')

export const methodNotAllowed = (): Err<Refusal> =>
  refuse(405, 'MethodNotAllowed', 'the server does not allow this method on the requested resource')

export const unauthorized = (): Err<Refusal> => refuse(401, 'Unauthorized', 'Unauthorized')

export const expired = (asked: number, oldest: number): Err<Refusal> =>
  refuse(410, 'Expired', `too old resource version: ${asked} (${oldest})`)

export function invalid(
  kind: string,
  group: string,
  name: string,
  errors: readonly FieldError[],
): Err<Refusal> {
  const causes = errors.map((one) => ({
    reason: one.reason,
    message: one.message,
    field: one.field,
  }))
  const lines = errors.map((one) => `${one.field}: ${one.message}`)
  const all = lines.length === 1 ? (lines[0] ?? '') : `[${lines.join(', ')}]`
  const qualified = group === '' ? kind : `${kind}.${group}`
  return refuse(422, 'Invalid', `${qualified} "${name}" is invalid: ${all}`, {
    name,
    ...(group === '' ? {} : { group }),
    kind,
    causes,
  })
}

/** The Status object that tells a client of a refusal. */
export function statusOf(failure: Refusal): JsonObject {
  return {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Failure',
    message: failure.message,
    reason: failure.reason,
    ...(failure.details === undefined ? {} : { details: failure.details }),
    code: failure.status,
  }
}

/** The Status object that tells a client of a success where there is no object to return. */
export function successStatus(details: JsonObject): JsonObject {
  return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details }
}
