// SPDX-License-Identifier: Apache-2.0
// One door to the four kinds of patch.

import { type Result, ok } from '../../../../../mesh/result.ts'
import { badRequest, refuse, unsupportedMediaType } from '../../../objects/refusals.ts'
import { type Draft, record } from '../../../objects/json.ts'
import { type ResourceType, apiVersionOf } from '../../../objects/resource-types.ts'
import type { Refusal } from '../../../objects/refusals.ts'
import type { PatchType, Subresource } from '../../../objects/cluster-api.ts'
import { applyPatch } from './apply-patch.ts'
import { jsonPatch } from './json-patch.ts'
import { listKindsOf } from './list-kinds.ts'
import { mergePatch } from './merge-patch.ts'
import { strategicMergePatch } from './strategic-merge.ts'

interface Patch {
  readonly type: PatchType
  readonly body: unknown
  readonly fieldManager?: string | undefined
  readonly force?: boolean | undefined
}

function apply(
  type: ResourceType,
  version: string,
  name: string,
  target: Draft,
  config: Draft,
  patch: Patch,
  subresource: Subresource | undefined,
  now: string,
): Result<Draft, Refusal> {
  if (patch.fieldManager === undefined || patch.fieldManager === '')
    return badRequest(
      'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch',
    )
  const metadata = record(config.metadata)
  if (metadata?.name !== undefined && metadata.name !== name)
    return badRequest(
      `the name of the object (${String(metadata.name)}) does not match the name on the URL (${name})`,
    )
  const named = { ...config, metadata: { ...metadata, name } }
  const applied = applyPatch(target, named, {
    manager: patch.fieldManager,
    apiVersion: apiVersionOf(type, version),
    subresource,
    force: patch.force === true,
    now,
    listKindOf: listKindsOf(type, version),
  })
  if (applied.ok) return applied
  const lines = applied.error.map(
    ({ manager, field }) => `conflict with ${JSON.stringify(manager)}: ${field}`,
  )
  return refuse(
    409,
    'Conflict',
    `Apply failed with ${lines.length} conflict${lines.length === 1 ? '' : 's'}: ${lines.join('; ')}`,
    {
      causes: applied.error.map(({ manager, field }) => ({
        reason: 'FieldManagerConflict',
        message: `conflict with ${JSON.stringify(manager)}`,
        field,
      })),
    },
  )
}

/** The patched object (not yet checked); the target is not changed. */
export function patchObject(
  type: ResourceType,
  version: string,
  name: string,
  target: Draft,
  patch: Patch,
  subresource: Subresource | undefined,
  now: string,
): Result<Draft, Refusal> {
  if (patch.type === 'json') {
    const patched = jsonPatch(target, patch.body)
    return patched.ok
      ? patched
      : refuse(
          422,
          'Invalid',
          `the server rejected our request due to an error in our request: ${patched.error}`,
        )
  }
  const body = record(patch.body)
  if (body === undefined) return badRequest('the patch must be an object')
  switch (patch.type) {
    case 'merge':
      return ok(record(mergePatch(target, body)) ?? {})
    case 'strategic':
      return type.isCustom
        ? unsupportedMediaType(
            'the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml',
          )
        : ok(strategicMergePatch(target, body, listKindsOf(type, version)))
    case 'apply':
      return apply(type, version, name, target, body, patch, subresource, now)
  }
}
