// SPDX-License-Identifier: Apache-2.0
// The in-process door to the registry: resources by id instead of paths, events by callback.

import { ok } from '../../../../mesh/result.ts'
import { visibleChange } from './http/watch.ts'
import { at, text } from './json.ts'
import type { Registry } from './registry.ts'
import { parseSelectors } from './selectors.ts'
import type { TokenAuthority } from './tokens.ts'
import type { LocalApi } from './types.ts'

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
    createToken: (request) => {
      const issued = tokens.issue(request)
      return issued.ok ? ok(issued.value) : issued
    },
  }
}
