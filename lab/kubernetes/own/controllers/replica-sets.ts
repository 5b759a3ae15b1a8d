// SPDX-License-Identifier: Apache-2.0
// ReplicaSets: as many pods as asked for, made from the template, surplus ones removed.

import { integer } from '../../objects/json.ts'
import { labelSelectorObject } from '../../objects/selectors.ts'
import type { StoredObject } from '../../objects/stored-object.ts'
import type { ClusterApi } from '../../objects/cluster-api.ts'
import { withConditions } from './conditions.ts'
import {
  type ControlLoop,
  controllerKeys,
  find,
  isControlledBy,
  isDeleting,
  isFinished,
  isReady,
  keyOf,
  listAll,
  podFromTemplate,
  splitKey,
  writeStatus,
} from './controller.ts'
import { recordEvent } from './events.ts'

const RESOURCE = 'replicasets.apps'

/** The living pods of a ReplicaSet. One that lost its labels is left alone and replaced. */
function podsOf(api: ClusterApi, set: StoredObject): readonly StoredObject[] {
  const matches = labelSelectorObject(set.spec?.selector)
  return listAll(api, 'pods', set.metadata.namespace).filter(
    (pod) =>
      isControlledBy(pod, set) &&
      matches(pod.metadata.labels ?? {}) &&
      !isDeleting(pod) &&
      !isFinished(pod),
  )
}

/** Least useful first: without a node, not ready, youngest. */
function byUselessness(left: StoredObject, right: StoredObject): number {
  const rank = (pod: StoredObject): number =>
    pod.spec?.nodeName === undefined ? 0 : isReady(pod) ? 2 : 1
  if (rank(left) !== rank(right)) return rank(left) - rank(right)
  return left.metadata.creationTimestamp < right.metadata.creationTimestamp ? 1 : -1
}

/** Makes or removes pods; a sentence when a pod could not be made. */
async function scale(
  api: ClusterApi,
  set: StoredObject,
  pods: readonly StoredObject[],
  wanted: number,
): Promise<string | undefined> {
  for (let missing = wanted - pods.length; missing > 0; missing -= 1) {
    const created = await api.create('pods', set.metadata.namespace, podFromTemplate(set))
    if (!created.ok) return created.error.message
  }
  const surplus = Math.max(0, pods.length - wanted)
  for (const pod of pods.toSorted(byUselessness).slice(0, surplus))
    await api.delete('pods', pod.metadata.namespace, pod.metadata.name)
  return undefined
}

async function reconcile(api: ClusterApi, set: StoredObject): Promise<string | undefined> {
  const wanted = integer(set.spec?.replicas) ?? 1
  const problem = isDeleting(set) ? undefined : await scale(api, set, podsOf(api, set), wanted)
  if (problem !== undefined)
    await recordEvent(api, set, {
      component: 'replicaset-controller',
      type: 'Warning',
      reason: 'FailedCreate',
      message: `Error creating: ${problem}`,
    })
  const pods = podsOf(api, set)
  const ready = pods.filter(isReady).length
  const conditions =
    problem === undefined
      ? []
      : withConditions(set, [
          { type: 'ReplicaFailure', status: 'True', reason: 'FailedCreate', message: problem },
        ])
  const statusProblem = await writeStatus(api, RESOURCE, set, {
    replicas: pods.length,
    fullyLabeledReplicas: pods.length,
    readyReplicas: ready,
    availableReplicas: ready,
    observedGeneration: set.metadata.generation,
    ...(conditions.length === 0 ? {} : { conditions }),
  })
  return problem ?? statusProblem
}

export function replicaSetLoop(api: ClusterApi): ControlLoop {
  return {
    name: 'replicasets',
    feeds: [
      { resource: RESOURCE, keysOf: ({ object }) => [keyOf(object)] },
      { resource: 'pods', keysOf: ({ object }) => controllerKeys(object, 'ReplicaSet') },
    ],
    reconcile: async (key) => {
      const { namespace, name } = splitKey(key)
      const set = find(api, RESOURCE, namespace, name)
      return set === undefined ? undefined : await reconcile(api, set)
    },
  }
}
