// SPDX-License-Identifier: Apache-2.0
// A cluster as the lab's controllers, DNS and service rules see it, be it the lab's own or a real one: reads and events from
// memory, writes that take what they take.

import type { KubeFailure } from '../../../mesh/kube/failure.ts'
import type { Result } from '../../../mesh/result.ts'
import type { KubeInput, StoredObject, OwnerReference } from './stored-object.ts'

/** A resource by plural name and group: `pods`, `services`, `deployments.apps`, `leases.coordination.k8s.io`. */
export type ResourceId = string

export type WatchEventType = 'ADDED' | 'MODIFIED' | 'DELETED'

export interface WatchEvent {
  readonly type: WatchEventType
  readonly object: StoredObject
}

export interface ListOptions {
  readonly namespace?: string | undefined
  /** As in kubectl -l: `app=web,tier in (a,b),!legacy`. */
  readonly labelSelector?: string | undefined
  /** As in kubectl --field-selector: `spec.nodeName=node-a,status.phase!=Failed`. */
  readonly fieldSelector?: string | undefined
}

export type PatchType = 'json' | 'merge' | 'strategic' | 'apply'

/** finalize is of namespaces only: it replaces spec.finalizers. */
export type Subresource = 'status' | 'scale' | 'finalize'

export interface DeleteOptions {
  readonly gracePeriodSeconds?: number | undefined
  readonly propagationPolicy?: 'Foreground' | 'Background' | 'Orphan' | undefined
  readonly preconditions?: { readonly uid?: string; readonly resourceVersion?: string } | undefined
}

/** The answer to a write: at once from a store in this process, later from a server. */
export type Written = Result<StoredObject, KubeFailure> | Promise<Result<StoredObject, KubeFailure>>

/**
 * A cluster as the lab's controllers, DNS and service rules see it: reads and events from memory, writes that may
 * take a moment and are visible to reads once they have succeeded.
 */
export interface ClusterApi {
  get(
    resource: ResourceId,
    namespace: string | undefined,
    name: string,
  ): Result<StoredObject, KubeFailure>
  list(resource: ResourceId, options?: ListOptions): Result<readonly StoredObject[], KubeFailure>
  create(resource: ResourceId, namespace: string | undefined, object: KubeInput): Written
  /** Replaces; metadata.resourceVersion, when given, must be the stored one (409 Conflict otherwise). */
  update(
    resource: ResourceId,
    namespace: string | undefined,
    object: KubeInput,
    subresource?: Subresource,
  ): Written
  patch(
    resource: ResourceId,
    namespace: string | undefined,
    name: string,
    patch: { readonly type: PatchType; readonly body: unknown; readonly fieldManager?: string },
    subresource?: Subresource,
  ): Written
  delete(
    resource: ResourceId,
    namespace: string | undefined,
    name: string,
    options?: DeleteOptions,
  ): Written
  /** Gives a pod its node and says so in its conditions. */
  bindPod(namespace: string | undefined, pod: string, node: string): Written
  /** Reports what exists as ADDED (before it returns), then every change; the returned function stops it. */
  watch(
    resource: ResourceId,
    options: ListOptions,
    onEvent: (event: WatchEvent) => void,
  ): () => void
}

/** Whether the owner that an object of this namespace refers to does not exist any more. */
export type ConfirmGone = (owner: OwnerReference, namespace: string | undefined) => Promise<boolean>

/** What stands for kube-controller-manager, and what for kube-scheduler: a cluster may bring either itself. */
export interface ControllerParts {
  readonly manager: boolean
  readonly scheduler: boolean
}
