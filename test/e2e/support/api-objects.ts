// SPDX-License-Identifier: Apache-2.0
// Everything an API server holds, by name: what a lab made there shows as what there is more of.

import type { KubeApi } from '../../../mesh/kube/api.ts'
import { defineResource, type KubeObject, resourcePath } from '../../../mesh/kube/resources.ts'

type Discovery = {
  readonly groups?: readonly { readonly preferredVersion: { readonly groupVersion: string } }[]
}
type Types = {
  readonly resources?: readonly {
    readonly name: string
    readonly kind: string
    readonly verbs?: readonly string[]
  }[]
}

/** What comes and goes by itself: happenings, and leases of the server's own processes. */
const PASSING = new Set(['events', 'leases'])

/** All objects as `kind namespace/name`, sorted; leases only of nodes. */
export async function apiObjects(api: KubeApi): Promise<readonly string[]> {
  const read = async <T>(path: string): Promise<T | undefined> => {
    const answer = await api.raw<T>({ method: 'GET', path, call: `read ${path}` })
    if (answer.ok) return answer.value
    // A kind that was taken away is told of for a moment more: there is nothing of it.
    if (answer.error.kind === 'notFound') return undefined
    throw new Error(answer.error.message)
  }
  const { groups = [] } = (await read<Discovery>('/apis')) ?? {}
  const versions = ['v1', ...groups.map(({ preferredVersion }) => preferredVersion.groupVersion)]
  const found: string[] = []
  for (const groupVersion of versions) {
    const [version = '', group = ''] = groupVersion.split('/').toReversed()
    const root = resourcePath(defineResource(group, version, '', '')).replace(/\/$/, '')
    const { resources = [] } = (await read<Types>(root)) ?? {}
    for (const { name, kind, verbs = [] } of resources) {
      if (name.includes('/') || !verbs.includes('list')) continue
      const list = await read<{ readonly items?: readonly KubeObject[] }>(`${root}/${name}`)
      const { items = [] } = list ?? {}
      for (const { metadata } of items) {
        const { namespace = '', name: object = '' } = metadata ?? {}
        if (PASSING.has(name) && namespace !== 'kube-node-lease') continue
        found.push(`${kind} ${namespace}/${object}`)
      }
    }
  }
  return found.toSorted()
}
