// SPDX-License-Identifier: Apache-2.0
// How objects go: at once, after a grace period (pods), or when their last finalizer is taken off.

import { type Result, ok } from '../../../../mesh/result.ts'
import { PERMANENT_NAMESPACES } from './admission/core.ts'
import { strategyOf } from './admission/index.ts'
import type { AdmissionContext } from './admission/strategy.ts'
import { conflict, forbidden } from '../../objects/refusals.ts'
import { type Draft, at, draftOf, ensureRecord, integer, texts } from '../../objects/json.ts'
import type { ResourceType } from '../../objects/resource-types.ts'
import type { Refusal } from '../../objects/refusals.ts'
import type { DeleteOptions } from '../../objects/cluster-api.ts'
import type { StoredObject } from '../../objects/stored-object.ts'

type Outcome = Result<StoredObject, Refusal>

/** Finalizers by which the garbage collector carries out a propagation policy. */
export const FOREGROUND_FINALIZER = 'foregroundDeletion'
export const ORPHAN_FINALIZER = 'orphan'

const DEFAULT_GRACE_SECONDS = 30
const MS_PER_SECOND = 1000

const inSeconds = (seconds: number): string =>
  new Date(Date.now() + seconds * MS_PER_SECOND).toISOString().replace(/\.\d+Z$/, 'Z')

/** Only pods end gracefully, and only those that a node may be running. */
function gracePeriodSeconds(
  type: ResourceType,
  object: StoredObject,
  options: DeleteOptions,
): number {
  if (type.id !== 'pods') return 0
  const isBound = at(object, 'spec', 'nodeName') !== undefined
  const phase = at(object, 'status', 'phase')
  if (!isBound || phase === 'Succeeded' || phase === 'Failed') return 0
  const wanted =
    options.gracePeriodSeconds ??
    integer(at(object, 'spec', 'terminationGracePeriodSeconds')) ??
    DEFAULT_GRACE_SECONDS
  const pending = object.metadata.deletionGracePeriodSeconds
  // A later request may shorten the wait, never lengthen it.
  return Math.max(0, pending === undefined ? wanted : Math.min(pending, wanted))
}

function finalizersOf(type: ResourceType, draft: Draft | StoredObject): readonly string[] {
  return [
    ...texts(at(draft, 'metadata', 'finalizers')),
    ...(type.id === 'namespaces' ? texts(at(draft, 'spec', 'finalizers')) : []),
  ]
}

/** Takes an object out of the store for good. */
function removeObject(
  context: AdmissionContext,
  type: ResourceType,
  stored: StoredObject,
  lastState: Draft,
): StoredObject {
  const removed = context.store.remove(type.id, stored, lastState)
  strategyOf(type.id).afterRemove?.(removed, context)
  return removed
}

/** Stores a new state, or removes the object when that state was the last thing holding it. */
export function finishIfFinalized(
  context: AdmissionContext,
  type: ResourceType,
  stored: StoredObject,
  draft: Draft,
): Outcome {
  const isDeleting = at(draft, 'metadata', 'deletionTimestamp') !== undefined
  const grace = integer(at(draft, 'metadata', 'deletionGracePeriodSeconds')) ?? 0
  const copy = draftOf(draft)
  if (isDeleting && grace === 0 && finalizersOf(type, draft).length === 0)
    return ok(removeObject(context, type, stored, copy))
  const object = context.store.put(type.id, copy)
  strategyOf(type.id).afterStore?.(object, context)
  return ok(object)
}

function checkPreconditions(
  type: ResourceType,
  stored: StoredObject,
  { preconditions }: DeleteOptions,
): Result<void, Refusal> {
  const { name, uid, resourceVersion } = stored.metadata
  if (preconditions?.uid !== undefined && preconditions.uid !== uid)
    return conflict(
      type,
      name,
      `Precondition failed: UID in precondition: ${preconditions.uid}, UID in object meta: ${uid}`,
    )
  if (
    preconditions?.resourceVersion !== undefined &&
    preconditions.resourceVersion !== resourceVersion
  )
    return conflict(
      type,
      name,
      `Precondition failed: ResourceVersion in precondition: ${preconditions.resourceVersion}, ResourceVersion in object meta: ${resourceVersion}`,
    )
  return ok(undefined)
}

/** Deletes an object, or begins to; returns its last or its new state. */
export function deleteObject(
  context: AdmissionContext,
  type: ResourceType,
  stored: StoredObject,
  options: DeleteOptions,
  isDryRun: boolean,
): Outcome {
  const { name } = stored.metadata
  if (type.id === 'namespaces' && PERMANENT_NAMESPACES.has(name))
    return forbidden(type, name, 'this namespace may not be deleted')
  const holds = checkPreconditions(type, stored, options)
  if (!holds.ok) return holds
  if (isDryRun) return ok(stored)

  const draft = draftOf(stored)
  const metadata = ensureRecord(draft, 'metadata')
  const finalizer =
    options.propagationPolicy === 'Foreground'
      ? FOREGROUND_FINALIZER
      : options.propagationPolicy === 'Orphan'
        ? ORPHAN_FINALIZER
        : undefined
  if (finalizer !== undefined && stored.metadata.deletionTimestamp === undefined)
    metadata.finalizers = [...new Set([...(stored.metadata.finalizers ?? []), finalizer])]

  const grace = gracePeriodSeconds(type, stored, options)
  if (grace === 0 && finalizersOf(type, draft).length === 0)
    return ok(removeObject(context, type, stored, draft))
  if (
    stored.metadata.deletionTimestamp !== undefined &&
    grace === stored.metadata.deletionGracePeriodSeconds
  )
    return ok(stored)
  metadata.deletionTimestamp = inSeconds(grace)
  metadata.deletionGracePeriodSeconds = grace
  if (type.hasGeneration) metadata.generation = (stored.metadata.generation ?? 0) + 1
  if (type.id === 'namespaces') ensureRecord(draft, 'status').phase = 'Terminating'
  return ok(context.store.put(type.id, draft))
}
