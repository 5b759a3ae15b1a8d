// SPDX-License-Identifier: Apache-2.0
// What a Gateway's spec.infrastructure.parametersRef changes of the objects that are made of it: a ConfigMap with a key for each. By what the
// objects are found, owned and known as, nothing may be changed. Pure.

import { parseYamlDocuments } from '../../mesh/kube/yaml.ts'
import { GATEWAY_NAME_LABEL } from '../../mesh/model/names.ts'
import { type Result, err, ok } from '../../mesh/result.ts'
import { type Fields, fieldsOf } from '../istio-api/flaw.ts'
import { MANAGED_KINDS, MANAGED_LABEL } from './managed-object.ts'
import type { ManagedKind, ProvisionFlaw } from './managed-object.ts'
import { strategicMerge } from './strategic-merge.ts'

export type Overlay = { readonly [K in ManagedKind]?: Fields }

export const NO_OVERLAY: Overlay = {}

/** What an overlay must leave as it is: names, what selects the pods, and whose identity they have. */
const FIXED: readonly (readonly string[])[] = [
  ['apiVersion'],
  ['kind'],
  ['metadata', 'name'],
  ['metadata', 'namespace'],
  ['metadata', 'ownerReferences'],
  ['metadata', 'labels', GATEWAY_NAME_LABEL],
  ['metadata', 'labels', MANAGED_LABEL],
  ['spec', 'selector'],
  ['spec', 'scaleTargetRef'],
  ['spec', 'template', 'metadata', 'labels', GATEWAY_NAME_LABEL],
  ['spec', 'template', 'spec', 'serviceAccountName'],
]

/** Reads the ConfigMap's data. `object` is how it is called. */
export function readOverlay(
  object: string,
  data: Readonly<Record<string, string>>,
): Result<Overlay, ProvisionFlaw> {
  const overlay: { [K in ManagedKind]?: Fields } = {}
  for (const [key, text] of Object.entries(data)) {
    const field = `data.${key}`
    if (!isKind(key))
      return err({
        object,
        field,
        reason: `is none of ${Object.keys(MANAGED_KINDS).join(', ')}`,
      })
    const parsed = parseYamlDocuments(text)
    if (!parsed.ok)
      return err({
        object,
        field,
        reason: `is no YAML: line ${parsed.error.line}: ${parsed.error.what}`,
      })
    const [document, another] = parsed.value
    const fields = fieldsOf(document?.value)
    if (fields === undefined || another !== undefined)
      return err({ object, field, reason: 'is not one map' })
    overlay[key] = fields
  }
  return ok(overlay)
}

/** The object with its overlay. */
export function overlaid(
  kind: ManagedKind,
  base: Fields,
  overlay: Fields | undefined,
): Result<Fields, ProvisionFlaw> {
  if (overlay === undefined) return ok(base)
  const result = strategicMerge(base, overlay)
  const fixed = FIXED.find(
    (path) => JSON.stringify(at(result, path)) !== JSON.stringify(at(base, path)),
  )
  if (fixed === undefined) return ok(result)
  return err({
    object: `the overlay of the ${MANAGED_KINDS[kind].kind}`,
    field: fixed.join('.'),
    reason: 'cannot be changed',
  })
}

function isKind(key: string): key is ManagedKind {
  return Object.hasOwn(MANAGED_KINDS, key)
}

function at(fields: Fields, path: readonly string[]): unknown {
  return path.reduce<unknown>((value, name) => fieldsOf(value)?.[name], fields)
}
