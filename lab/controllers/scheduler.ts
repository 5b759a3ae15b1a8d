// SPDX-License-Identifier: Apache-2.0
// The scheduler: pods without a node go to the ready nodes that their nodeSelector allows, in turn.
// Resources, affinity and taints are not considered: lab nodes are all alike.

import { stringMap, text } from '../apiserver/json.ts'
import type { KubeObject, LocalApi } from '../apiserver/types.ts'
import {
  type ControlLoop,
  find,
  isDeleting,
  isReady,
  keyOf,
  listAll,
  problemOf,
  splitKey,
  timeNow,
} from './controller.ts'
import { recordEvent } from './events.ts'

const COMPONENT = 'default-scheduler'

const isUnbound = (pod: KubeObject): boolean => (text(pod.spec?.nodeName) ?? '') === ''

function fits(pod: KubeObject, node: KubeObject): boolean {
  const labels = node.metadata.labels ?? {}
  return (
    isReady(node) &&
    node.spec?.unschedulable !== true &&
    Object.entries(stringMap(pod.spec?.nodeSelector)).every(
      // Every kubelet sets this label; a node registered without it is found by its name.
      ([key, value]) =>
        (labels[key] ?? (key === 'kubernetes.io/hostname' ? node.metadata.name : undefined)) ===
        value,
    )
  )
}

function bind(api: LocalApi, pod: KubeObject, nodeName: string): string | undefined {
  const { namespace, name } = pod.metadata
  const bound = api.patch('pods', namespace, name, { type: 'merge', body: { spec: { nodeName } } })
  if (!bound.ok) return problemOf(bound)
  return setScheduled(api, pod, 'True', undefined)
}

function setScheduled(
  api: LocalApi,
  pod: KubeObject,
  status: 'True' | 'False',
  message: string | undefined,
): string | undefined {
  const condition = {
    type: 'PodScheduled',
    status,
    lastTransitionTime: timeNow(),
    ...(message === undefined ? {} : { reason: 'Unschedulable', message }),
  }
  return problemOf(
    api.patch(
      'pods',
      pod.metadata.namespace,
      pod.metadata.name,
      { type: 'strategic', body: { status: { conditions: [condition] } } },
      'status',
    ),
  )
}

export function schedulerLoop(api: LocalApi): ControlLoop {
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
    reconcile: (key) => {
      const { namespace, name } = splitKey(key)
      const pod = find(api, 'pods', namespace, name)
      if (pod === undefined || isDeleting(pod) || !isUnbound(pod)) return undefined
      if (pod.spec?.schedulerName !== COMPONENT) return undefined
      const nodes = listAll(api, 'nodes')
      const fitting = nodes.filter((node) => fits(pod, node))
      const node = fitting[turn % Math.max(1, fitting.length)]
      if (node !== undefined) {
        turn += 1
        return bind(api, pod, node.metadata.name)
      }
      const message = `0/${nodes.length} nodes are available: none is ready and matches the pod's node selector.`
      const alreadySaid = JSON.stringify(pod.status?.conditions ?? []).includes(message)
      if (alreadySaid) return undefined
      recordEvent(api, pod, {
        component: COMPONENT,
        type: 'Warning',
        reason: 'FailedScheduling',
        message,
      })
      return setScheduled(api, pod, 'False', message)
    },
  }
}
