// SPDX-License-Identifier: Apache-2.0
// Namespaces: the default service account and root certificate in each, and emptying those that go.

import { texts } from '../../objects/json.ts'
import type { ClusterApi } from '../../objects/cluster-api.ts'
import type { StoredObject } from '../../objects/stored-object.ts'
import type { ControllerOptions } from './index.ts'
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

type NamespaceOptions = Pick<ControllerOptions, 'rootCaPem' | 'labels' | 'emptyNamespace'>

async function furnish(
  api: ClusterApi,
  name: string,
  { rootCaPem, labels }: NamespaceOptions,
): Promise<string | undefined> {
  if (find(api, 'serviceaccounts', name, 'default') === undefined) {
    const problem = problemOf(
      await api.create('serviceaccounts', name, { metadata: { name: 'default', labels } }),
    )
    if (problem !== undefined) return problem
  }
  if (rootCaPem === undefined || find(api, 'configmaps', name, ROOT_CA_CONFIG_MAP) !== undefined)
    return undefined
  return problemOf(
    await api.create('configmaps', name, {
      metadata: { name: ROOT_CA_CONFIG_MAP, labels },
      data: { 'ca.crt': rootCaPem },
    }),
  )
}

/** Deletes what is in a namespace; it may go once nothing is left. */
async function emptyByReads(api: ClusterApi, name: string): Promise<number> {
  let remaining = 0
  for (const type of servedTypes(api)) {
    if (!type.namespaced) continue
    for (const object of listAll(api, type.id, name)) {
      if (!isDeleting(object)) await api.delete(type.id, name, object.metadata.name)
      if (find(api, type.id, name, object.metadata.name) !== undefined) remaining += 1
    }
  }
  return remaining
}

async function finish(
  api: ClusterApi,
  space: StoredObject,
  { emptyNamespace }: NamespaceOptions,
): Promise<string | undefined> {
  const { name } = space.metadata
  const remaining = await (emptyNamespace?.(name) ?? emptyByReads(api, name))
  // Nothing tells of what is not watched: look again after a while.
  if (remaining > 0 && emptyNamespace !== undefined) return `${remaining} objects are left in it`
  if (remaining > 0 || !texts(space.spec?.finalizers).includes(FINALIZER)) return undefined
  const finalizers = texts(space.spec?.finalizers).filter((one) => one !== FINALIZER)
  return problemOf(
    await api.update('namespaces', undefined, { ...space, spec: { finalizers } }, 'finalize'),
  )
}

/** The loop; the caller adds the keys of namespaces whose content goes away. */
export function namespaceLoop(api: ClusterApi, options: NamespaceOptions): ControlLoop {
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
    reconcile: async (key) => {
      const space = find(api, 'namespaces', undefined, splitKey(key).name)
      if (space === undefined) return undefined
      return isDeleting(space)
        ? await finish(api, space, options)
        : await furnish(api, space.metadata.name, options)
    },
  }
}
