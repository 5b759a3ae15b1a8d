// SPDX-License-Identifier: Apache-2.0
// Nodes: a real API server taints each new node as not ready; the taint goes when the node's kubelet says it is.

import { records } from '../../objects/json.ts'
import type { ClusterApi } from '../../objects/cluster-api.ts'
import type { JsonObject } from '../../objects/stored-object.ts'
import {
  type ControlLoop,
  find,
  isReady,
  keyOf,
  type NodeFilter,
  problemOf,
  splitKey,
} from './controller.ts'

const NOT_READY = 'node.kubernetes.io/not-ready'

/** The loop; `isOurs` says which nodes it may change. */
export function nodeLoop(api: ClusterApi, isOurs: NodeFilter): ControlLoop {
  return {
    name: 'nodes',
    feeds: [{ resource: 'nodes', keysOf: ({ object }) => [keyOf(object)] }],
    reconcile: async (key) => {
      const { name } = splitKey(key)
      const node = find(api, 'nodes', undefined, name)
      if (node === undefined || !isOurs(node) || !isReady(node)) return undefined
      const taints = records(node.spec?.taints)
      const kept = taints.filter((taint) => taint.key !== NOT_READY) as readonly JsonObject[]
      if (kept.length === taints.length) return undefined
      const body = { spec: { taints: kept.length === 0 ? null : kept } }
      return problemOf(await api.patch('nodes', undefined, name, { type: 'merge', body }))
    },
  }
}
