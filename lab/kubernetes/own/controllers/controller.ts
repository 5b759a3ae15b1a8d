// SPDX-License-Identifier: Apache-2.0
// What the control loops share: how one is described, and reading objects as they need them.

import type { Result } from '../../../../mesh/result.ts'
import { record, records, text } from '../../objects/json.ts'
import type { Refusal } from '../../objects/refusals.ts'
import type { JsonObject, StoredObject } from '../../objects/stored-object.ts'
import type { ClusterApi, WatchEvent } from '../../objects/cluster-api.ts'
import type { Reconcile } from './work-queue.ts'

/** A watch that feeds a loop: which keys a change concerns. */
export interface Feed {
  readonly resource: string
  readonly keysOf: (event: WatchEvent) => readonly string[]
}

export interface ControlLoop {
  readonly name: string
  readonly feeds: readonly Feed[]
  readonly reconcile: Reconcile
}

/** Which nodes a loop may use or change: in a cluster that others share, only the lab's own. */
export type NodeFilter = (node: StoredObject) => boolean

/** `namespace/name`. */
export const keyOf = ({ metadata }: StoredObject): string =>
  `${metadata.namespace ?? ''}/${metadata.name}`

export function splitKey(key: string): { readonly namespace: string; readonly name: string } {
  const [namespace = '', name = ''] = key.split('/')
  return { namespace, name }
}

/** The object, or undefined when there is none. */
export function find(
  api: ClusterApi,
  resource: string,
  namespace: string | undefined,
  name: string,
): StoredObject | undefined {
  const found = api.get(resource, namespace, name)
  return found.ok ? found.value : undefined
}

/** The objects; none for a resource that does not exist. */
export function listAll(
  api: ClusterApi,
  resource: string,
  namespace?: string,
): readonly StoredObject[] {
  const found = api.list(resource, { namespace })
  return found.ok ? found.value : []
}

/** The reference by which a controller owns what it makes. */
export function controllerReference(owner: StoredObject): JsonObject {
  return {
    apiVersion: owner.apiVersion,
    kind: owner.kind,
    name: owner.metadata.name,
    uid: owner.metadata.uid,
    controller: true,
    blockOwnerDeletion: true,
  }
}

/** Whether an object is controlled by an owner. */
export function isControlledBy(object: StoredObject, owner: StoredObject): boolean {
  return (object.metadata.ownerReferences ?? []).some(
    (reference) => reference.controller === true && reference.uid === owner.metadata.uid,
  )
}

/** The key of the controller of some kind, for feeds of what it owns. */
export function controllerKeys(object: StoredObject, kind: string): readonly string[] {
  return (object.metadata.ownerReferences ?? [])
    .filter((reference) => reference.controller === true && reference.kind === kind)
    .map((reference) => `${object.metadata.namespace ?? ''}/${reference.name}`)
}

/** Status of a condition: True, False, Unknown, or undefined. */
function condition(object: StoredObject, type: string): string | undefined {
  return text(records(object.status?.conditions).find((one) => one.type === type)?.status)
}

export const isReady = (object: StoredObject): boolean => condition(object, 'Ready') === 'True'
export const isDeleting = (object: StoredObject): boolean =>
  object.metadata.deletionTimestamp !== undefined

/** Whether a pod has ended for good. */
export function isFinished(pod: StoredObject): boolean {
  return pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed'
}

/** What happened to a write, for a loop: undefined is success, and what is gone needs no more work. */
export function problemOf(result: Result<StoredObject, Refusal>): string | undefined {
  if (result.ok || result.error.kind === 'notFound') return undefined
  return result.error.message
}

/** Replaces the status of an object (unless it is the same already). */
export async function writeStatus(
  api: ClusterApi,
  resource: string,
  object: StoredObject,
  status: JsonObject,
): Promise<string | undefined> {
  const { metadata } = object
  return problemOf(
    await api.update(
      resource,
      metadata.namespace,
      { ...object, metadata: { ...metadata, resourceVersion: undefined }, status },
      'status',
    ),
  )
}

/** The pod template of a workload, as an input for a pod. */
export function podFromTemplate(
  owner: StoredObject,
  extra: { readonly labels?: JsonObject; readonly spec?: JsonObject } = {},
) {
  const template = record(owner.spec?.template)
  const metadata = record(template?.metadata)
  return {
    metadata: {
      ...metadata,
      name: undefined,
      generateName: `${owner.metadata.name}-`,
      namespace: owner.metadata.namespace,
      labels: { ...record(metadata?.labels), ...extra.labels },
      ownerReferences: [controllerReference(owner)],
    },
    spec: { ...record(template?.spec), ...extra.spec },
  }
}

/** RFC 3339 to the second. */
export const timeNow = (): string => new Date().toISOString().replace(/\.\d+Z$/, 'Z')
