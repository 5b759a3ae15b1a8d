// SPDX-License-Identifier: Apache-2.0
// The scheduler: pods without a node go to the ready nodes that their own words and the nodes' taints allow, in turn.

import { text } from '../../objects/json.ts'
import type { ClusterApi } from '../../objects/cluster-api.ts'
import type { StoredObject } from '../../objects/stored-object.ts'
import {
  type ControlLoop,
  find,
  isDeleting,
  isReady,
  keyOf,
  listAll,
  type NodeFilter,
  problemOf,
  splitKey,
  timeNow,
} from './controller.ts'
import { recordEvent } from './events.ts'
import { isSelected, isTolerated } from './placement.ts'

const COMPONENT = 'default-scheduler'

const isUnbound = (pod: StoredObject): boolean => (text(pod.spec?.nodeName) ?? '') === ''

const fits = (pod: StoredObject, node: StoredObject): boolean =>
  isReady(node) &&
  node.spec?.unschedulable !== true &&
  isSelected(pod.spec, node) &&
  isTolerated(pod.spec, node)

async function setUnschedulable(
  api: ClusterApi,
  pod: StoredObject,
  message: string,
): Promise<string | undefined> {
  const condition = {
    type: 'PodScheduled',
    status: 'False',
    lastTransitionTime: timeNow(),
    reason: 'Unschedulable',
    message,
  }
  return problemOf(
    await api.patch(
      'pods',
      pod.metadata.namespace,
      pod.metadata.name,
      { type: 'strategic', body: { status: { conditions: [condition] } } },
      'status',
    ),
  )
}

/** The loop; `isOurs` says which nodes it may use. */
export function schedulerLoop(api: ClusterApi, isOurs: NodeFilter): ControlLoop {
  let turn = 0
  return {
    name: 'scheduler',
    feeds: [
      {
        resource: 'pods',
        keysOf: ({ type, object }) =>
          type !== 'DELETED' && isUnbound(object) ? [keyOf(object)] : [],
      },
      // A new or recovered node may take what has been waiting.
      {
        resource: 'nodes',
        keysOf: ({ object }) =>
          isReady(object) ? listAll(api, 'pods').filter(isUnbound).map(keyOf) : [],
      },
    ],
    reconcile: async (key) => {
      const { namespace, name } = splitKey(key)
      const pod = find(api, 'pods', namespace, name)
      if (pod === undefined || isDeleting(pod) || !isUnbound(pod)) return undefined
      if (pod.spec?.schedulerName !== COMPONENT) return undefined
      const nodes = listAll(api, 'nodes').filter(isOurs)
      const fitting = nodes.filter((node) => fits(pod, node))
      const node = fitting[turn % Math.max(1, fitting.length)]
      if (node !== undefined) {
        turn += 1
        return problemOf(await api.bindPod(namespace, name, node.metadata.name))
      }
      const message = `0/${nodes.length} nodes are available: none is ready, matches the pod's node selector and has only taints that it tolerates.`
      const alreadySaid = JSON.stringify(pod.status?.conditions ?? []).includes(message)
      if (alreadySaid) return undefined
      await recordEvent(api, pod, {
        component: COMPONENT,
        type: 'Warning',
        reason: 'FailedScheduling',
        message,
      })
      return await setUnschedulable(api, pod, message)
    },
  }
}
