// SPDX-License-Identifier: Apache-2.0
// Namespaces: the default service account and root certificate in each, and emptying those that go.

import { texts } from '../apiserver/json.ts'
import type { KubeObject, LocalApi } from '../apiserver/types.ts'
import { servedTypes } from './all-resources.ts'
import {
  type ControlLoop,
  find,
  isDeleting,
  keyOf,
  listAll,
  problemOf,
  splitKey,
} from './controller.ts'

const ROOT_CA_CONFIG_MAP = 'kube-root-ca.crt'
const FINALIZER = 'kubernetes'

function furnish(api: LocalApi, name: string, rootCaPem: string | undefined): string | undefined {
  if (find(api, 'serviceaccounts', name, 'default') === undefined) {
    const problem = problemOf(
      api.create('serviceaccounts', name, { metadata: { name: 'default' } }),
    )
    if (problem !== undefined) return problem
  }
  if (rootCaPem === undefined || find(api, 'configmaps', name, ROOT_CA_CONFIG_MAP) !== undefined)
    return undefined
  return problemOf(
    api.create('configmaps', name, {
      metadata: { name: ROOT_CA_CONFIG_MAP },
      data: { 'ca.crt': rootCaPem },
    }),
  )
}

/** Deletes what is in a namespace; it may go once nothing is left. */
function empty(api: LocalApi, space: KubeObject): string | undefined {
  const { name } = space.metadata
  let remaining = 0
  for (const type of servedTypes(api)) {
    if (!type.namespaced) continue
    for (const object of listAll(api, type.id, name)) {
      if (!isDeleting(object)) api.delete(type.id, name, object.metadata.name)
      if (find(api, type.id, name, object.metadata.name) !== undefined) remaining += 1
    }
  }
  if (remaining > 0 || !texts(space.spec?.finalizers).includes(FINALIZER)) return undefined
  const finalizers = texts(space.spec?.finalizers).filter((one) => one !== FINALIZER)
  return problemOf(
    api.update('namespaces', undefined, { ...space, spec: { finalizers } }, 'finalize'),
  )
}

/** The loop; the caller adds the keys of namespaces whose content goes away. */
export function namespaceLoop(api: LocalApi, rootCaPem: string | undefined): ControlLoop {
  return {
    name: 'namespaces',
    feeds: [
      { resource: 'namespaces', keysOf: ({ object }) => [keyOf(object)] },
      // Somebody deletes the default account or the root certificate: they come back.
      {
        resource: 'serviceaccounts',
        keysOf: ({ type, object }) =>
          type === 'DELETED' ? [`/${object.metadata.namespace ?? ''}`] : [],
      },
      {
        resource: 'configmaps',
        keysOf: ({ type, object }) =>
          type === 'DELETED' ? [`/${object.metadata.namespace ?? ''}`] : [],
      },
    ],
    reconcile: (key) => {
      const space = find(api, 'namespaces', undefined, splitKey(key).name)
      if (space === undefined) return undefined
      return isDeleting(space) ? empty(api, space) : furnish(api, space.metadata.name, rootCaPem)
    },
  }
}
