// SPDX-License-Identifier: Apache-2.0
// DaemonSets: one pod on each node the template's nodeSelector allows; pods of an older template are
// replaced one at a time (or when they are deleted, with the OnDelete strategy).

import { createHash } from 'node:crypto'
import { at, text } from '../../objects/json.ts'
import type { StoredObject } from '../../objects/stored-object.ts'
import type { ClusterApi } from '../../objects/cluster-api.ts'
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
  type NodeFilter,
  podFromTemplate,
  splitKey,
  writeStatus,
} from './controller.ts'
import { recordEvent } from './events.ts'
import { isSelected, isTolerated, podSpecOf } from './placement.ts'

const RESOURCE = 'daemonsets.apps'
const HASH_LABEL = 'controller-revision-hash'
const HASH_LENGTH = 10

const revisionHash = (set: StoredObject): string =>
  createHash('sha256')
    .update(JSON.stringify(set.spec?.template))
    .digest('hex')
    .slice(0, HASH_LENGTH)

function isWanted(set: StoredObject, node: StoredObject): boolean {
  const podSpec = podSpecOf(set)
  return isSelected(podSpec, node) && isTolerated(podSpec, node, true)
}

const nodeOf = (pod: StoredObject): string => text(pod.spec?.nodeName) ?? ''

async function reconcile(
  api: ClusterApi,
  set: StoredObject,
  isOurs: NodeFilter,
): Promise<string | undefined> {
  const hash = revisionHash(set)
  const nodes = listAll(api, 'nodes').filter((node) => isOurs(node) && isWanted(set, node))
  const wanted = new Set(nodes.map((node) => node.metadata.name))
  const owned = listAll(api, 'pods', set.metadata.namespace).filter((pod) =>
    isControlledBy(pod, set),
  )
  const remove = async (pod: StoredObject): Promise<void> => {
    await api.delete('pods', pod.metadata.namespace, pod.metadata.name)
  }
  let problem: string | undefined
  if (!isDeleting(set)) {
    for (const pod of owned) {
      if (isFinished(pod) || !wanted.has(nodeOf(pod))) await remove(pod)
    }
    for (const node of wanted) {
      // While the old pod of a node ends, its ports are taken: its successor waits.
      if (owned.some((pod) => nodeOf(pod) === node)) continue
      const created = await api.create(
        'pods',
        set.metadata.namespace,
        podFromTemplate(set, { labels: { [HASH_LABEL]: hash }, spec: { nodeName: node } }),
      )
      if (!created.ok) problem = created.error.message
    }
    await replaceOneOutdated(set, owned, wanted, hash, remove)
  }
  if (problem !== undefined)
    await recordEvent(api, set, {
      component: 'daemonset-controller',
      type: 'Warning',
      reason: 'FailedCreate',
      message: `Error creating: ${problem}`,
    })
  return problem ?? (await writeDaemonSetStatus(api, set, wanted.size, hash))
}

async function replaceOneOutdated(
  set: StoredObject,
  owned: readonly StoredObject[],
  wanted: ReadonlySet<string>,
  hash: string,
  remove: (pod: StoredObject) => Promise<void>,
): Promise<void> {
  if (at(set.spec, 'updateStrategy', 'type') === 'OnDelete') return
  const outdated = owned.filter(
    (pod) => !isDeleting(pod) && pod.metadata.labels?.[HASH_LABEL] !== hash,
  )
  const serving = owned.filter((pod) => !isDeleting(pod) && isReady(pod))
  // One that does not serve anyway may always go; a serving one only while all others serve.
  const next =
    outdated.find((pod) => !isReady(pod)) ??
    (serving.length >= wanted.size ? outdated[0] : undefined)
  if (next !== undefined) await remove(next)
}

async function writeDaemonSetStatus(
  api: ClusterApi,
  set: StoredObject,
  desired: number,
  hash: string,
): Promise<string | undefined> {
  const pods = listAll(api, 'pods', set.metadata.namespace).filter(
    (pod) => isControlledBy(pod, set) && !isDeleting(pod),
  )
  const ready = pods.filter(isReady).length
  return await writeStatus(api, RESOURCE, set, {
    observedGeneration: set.metadata.generation,
    desiredNumberScheduled: desired,
    currentNumberScheduled: pods.length,
    updatedNumberScheduled: pods.filter((pod) => pod.metadata.labels?.[HASH_LABEL] === hash).length,
    numberMisscheduled: 0,
    numberReady: ready,
    numberAvailable: ready,
    numberUnavailable: Math.max(0, desired - ready),
  })
}

/** The loop; `isOurs` says which nodes it may use. */
export function daemonSetLoop(api: ClusterApi, isOurs: NodeFilter): ControlLoop {
  return {
    name: 'daemonsets',
    feeds: [
      { resource: RESOURCE, keysOf: ({ object }) => [keyOf(object)] },
      { resource: 'pods', keysOf: ({ object }) => controllerKeys(object, 'DaemonSet') },
      {
        resource: 'nodes',
        keysOf: ({ type }) => (type === 'MODIFIED' ? [] : listAll(api, RESOURCE).map(keyOf)),
      },
    ],
    reconcile: async (key) => {
      const { namespace, name } = splitKey(key)
      const set = find(api, RESOURCE, namespace, name)
      return set === undefined ? undefined : await reconcile(api, set, isOurs)
    },
  }
}
