// SPDX-License-Identifier: Apache-2.0
// The in-process door to the registry: resources by id instead of paths, events by callback.

import type { Result } from '../../../../mesh/result.ts'
import type {
  ClusterApi,
  DeleteOptions,
  PatchType,
  ResourceId,
  Subresource,
} from '../../objects/cluster-api.ts'
import type { Refusal } from '../../objects/refusals.ts'
import type { KubeInput, StoredObject } from '../../objects/stored-object.ts'
import { visibleChange } from './http/watch.ts'
import { at, text } from '../../objects/json.ts'
import type { Registry } from './registry.ts'
import { parseSelectors } from '../../objects/selectors.ts'
import type { IssuedToken, TokenAuthority, TokenRequest } from './tokens.ts'

/**
 * The API server's verbs without HTTP: the same defaulting, validation and admission as over the wire,
 * synchronously and without authentication. For code of the lab that runs in the same process.
 */
export interface LocalApi extends ClusterApi {
  create(
    resource: ResourceId,
    namespace: string | undefined,
    object: KubeInput,
  ): Result<StoredObject, Refusal>
  /** Replaces; metadata.resourceVersion, when given, must be the stored one (409 Conflict otherwise). */
  update(
    resource: ResourceId,
    namespace: string | undefined,
    object: KubeInput,
    subresource?: Subresource,
  ): Result<StoredObject, Refusal>
  patch(
    resource: ResourceId,
    namespace: string | undefined,
    name: string,
    patch: { readonly type: PatchType; readonly body: unknown; readonly fieldManager?: string },
    subresource?: Subresource,
  ): Result<StoredObject, Refusal>
  delete(
    resource: ResourceId,
    namespace: string | undefined,
    name: string,
    options?: DeleteOptions,
  ): Result<StoredObject, Refusal>
  bindPod(namespace: string | undefined, pod: string, node: string): Result<StoredObject, Refusal>
  /** A token as `kubectl create token` would give: bound to the pod when one is named. */
  createToken(request: TokenRequest): Promise<Result<IssuedToken, Refusal>>
}

/** Makes the in-process API of a registry. */
export function localApi(registry: Registry, tokens: TokenAuthority): LocalApi {
  return {
    get: (resource, namespace, name) => {
      const type = registry.type(resource)
      return type.ok ? registry.get(type.value, namespace, name) : type
    },
    list: (resource, options = {}) => {
      const type = registry.type(resource)
      return type.ok ? registry.list(type.value, options) : type
    },
    create: (resource, namespace, object) => {
      const type = registry.type(resource)
      return type.ok ? registry.create(type.value, namespace, object) : type
    },
    update: (resource, namespace, object, subresource) => {
      const type = registry.type(resource)
      const name = text(at(object, 'metadata', 'name')) ?? ''
      return type.ok ? registry.update(type.value, namespace, name, object, subresource) : type
    },
    patch: (resource, namespace, name, patch, subresource) => {
      const type = registry.type(resource)
      return type.ok ? registry.patch(type.value, namespace, name, patch, subresource) : type
    },
    delete: (resource, namespace, name, options) => {
      const type = registry.type(resource)
      return type.ok ? registry.delete(type.value, namespace, name, options) : type
    },
    bindPod: (namespace, pod, node) => registry.bindPod(namespace, pod, node),
    watch: (resource, options, onEvent) => {
      const matcher = parseSelectors(options)
      const matches = matcher.ok ? matcher.value : () => false
      const { store } = registry.context
      const unsubscribe = store.subscribe(resource, (event) => {
        const type = visibleChange(event, matches)
        if (type !== undefined) onEvent({ type, object: event.object })
      })
      for (const object of store.list(resource, options.namespace))
        if (matches(object)) onEvent({ type: 'ADDED', object })
      return unsubscribe
    },
    createToken: (request) => tokens.issue(request),
  }
}
