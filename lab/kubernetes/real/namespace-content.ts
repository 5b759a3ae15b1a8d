// SPDX-License-Identifier: Apache-2.0
// What is in a namespace of a real cluster: of every kind that its server knows, not only those the lab works with.

import { AmbitError } from '../../../mesh/errors.ts'
import type { KubeApi } from '../../../mesh/kube/api.ts'
import { defineResource, type KubeResource, resourcePath } from '../../../mesh/kube/resources.ts'

const CALL_DEADLINE_MS = 10_000

/**
 * Deletes all that is in a namespace; gives how many objects there still were. A kind that cannot be listed counts as
 * one: what nobody has looked at must not be left behind.
 */
export async function emptyNamespace(
  api: KubeApi,
  types: readonly KubeResource[],
  namespace: string,
  options: { readonly gracePeriodSeconds?: number } = {},
): Promise<number> {
  let remaining = 0
  for (const type of types) {
    const found = await api.list(type, { namespace, deadlineMs: CALL_DEADLINE_MS })
    // A kind whose definition has just gone has no objects.
    if (!found.ok && found.error.kind !== 'notFound') remaining += 1
    for (const { metadata } of found.ok ? found.value.items : []) {
      remaining += 1
      const isForced = options.gracePeriodSeconds === 0
      if (metadata?.deletionTimestamp !== undefined && !isForced) continue
      const target = { namespace, name: metadata?.name ?? '' }
      await api.delete(type, target, {
        ...options,
        propagationPolicy: 'Background',
        deadlineMs: CALL_DEADLINE_MS,
      })
    }
  }
  return remaining
}

interface GroupList {
  readonly groups?: readonly {
    readonly name: string
    readonly preferredVersion: { readonly groupVersion: string; readonly version: string }
  }[]
}
interface TypeList {
  readonly resources?: readonly {
    readonly name: string
    readonly kind: string
    readonly namespaced: boolean
    readonly verbs?: readonly string[]
  }[]
}

/** Every kind of object that a namespace can hold and that can be listed and deleted. */
export async function namespacedTypes(api: KubeApi): Promise<readonly KubeResource[]> {
  const call = 'discover resources'
  const groups = await api.raw<GroupList>({ method: 'GET', path: '/apis', call })
  // Half the truth would let a namespace go with objects still in it.
  if (!groups.ok) throw new AmbitError('AMB_KUBE_API', groups.error.message)
  const versions = [
    { group: '', version: 'v1' },
    ...(groups.value.groups ?? []).map(({ name, preferredVersion }) => ({
      group: name,
      version: preferredVersion.version,
    })),
  ]
  const lists = await Promise.all(
    versions.map(async ({ group, version }) => {
      // The path of a collection, without the collection.
      const path = resourcePath(defineResource(group, version, '', '')).replace(/\/$/, '')
      const list = await api.raw<TypeList>({ method: 'GET', path, call })
      return (list.ok ? (list.value.resources ?? []) : [])
        .filter(
          ({ name, namespaced, verbs = [] }) =>
            namespaced && !name.includes('/') && verbs.includes('list') && verbs.includes('delete'),
        )
        .map(({ name, kind }) => defineResource(group, version, name, kind))
    }),
  )
  return lists.flat()
}
