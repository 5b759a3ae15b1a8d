// SPDX-License-Identifier: Apache-2.0
// The scale subresource: replicas of a Deployment or ReplicaSet as an autoscaling/v1 Scale.

import { type Result, ok } from '../../../../mesh/result.ts'
import { badRequest, invalid, invalidValue } from '../../objects/refusals.ts'
import { type Draft, at, draftOf, ensureRecord, integer, stringMap } from '../../objects/json.ts'
import type { ResourceType } from '../../objects/resource-types.ts'
import type { Refusal } from '../../objects/refusals.ts'
import type { StoredObject } from '../../objects/stored-object.ts'

/** The Scale view of an object. */
export function readScale(object: StoredObject): StoredObject {
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata
  return {
    apiVersion: 'autoscaling/v1',
    kind: 'Scale',
    metadata: { name, namespace, uid, resourceVersion, creationTimestamp },
    spec: { replicas: integer(object.spec?.replicas) ?? 0 },
    status: {
      replicas: integer(object.status?.replicas) ?? 0,
      selector: Object.entries(stringMap(at(object.spec, 'selector', 'matchLabels')))
        .map(([key, value]) => `${key}=${value}`)
        .join(','),
    },
  }
}

/** The object with the replicas of a written Scale. */
export function writeScale(
  type: ResourceType,
  stored: StoredObject,
  scale: Draft,
): Result<Draft, Refusal> {
  if (scale.kind !== undefined && scale.kind !== 'Scale')
    return badRequest(`the scale subresource takes a Scale, not a ${String(scale.kind)}`)
  const replicas = integer(at(scale, 'spec', 'replicas')) ?? 0
  if (replicas < 0)
    return invalid('Scale', 'autoscaling', stored.metadata.name, [
      invalidValue('spec.replicas', replicas, 'must be greater than or equal to 0'),
    ])
  const draft = draftOf(stored)
  ensureRecord(draft, 'spec').replicas = replicas
  ensureRecord(draft, 'metadata').resourceVersion = at(scale, 'metadata', 'resourceVersion')
  draft.kind = type.kind
  return ok(draft)
}
