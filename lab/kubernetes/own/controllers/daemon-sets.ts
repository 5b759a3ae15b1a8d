// SPDX-License-Identifier: Apache-2.0
// DaemonSets: one pod on each node the template's nodeSelector allows; pods of an older template are
// replaced one at a time (or when they are deleted, with the OnDelete strategy; or, with maxSurge, once a new one beside them is ready).

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

const byAge = (a: StoredObject, b: StoredObject): number =>
  Date.parse(a.metadata.creationTimestamp) - Date.parse(b.metadata.creationTimestamp)

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
    const surge = surgeOf(set, wanted.size)
    const fresh = owned.filter((pod) => pod.metadata.labels?.[HASH_LABEL] === hash)
    const beside = surge === 0 ? new Set<string>() : nodesToSurge(owned, fresh, wanted, surge)
    for (const node of wanted) {
      // While the old pod of a node ends, its ports are taken: its successor waits, unless it was to come beside it anyway.
      if (surge > 0 ? !beside.has(node) : owned.some((pod) => nodeOf(pod) === node)) continue
      const created = await api.create(
        'pods',
        set.metadata.namespace,
        podFromTemplate(set, { labels: { [HASH_LABEL]: hash }, spec: { nodeName: node } }),
      )
      if (!created.ok) problem = created.error.message
    }
    if (surge > 0) await removeSucceeded(owned, fresh, remove)
    else await replaceOneOutdated(set, owned, wanted, hash, remove)
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

/** On how many nodes a new pod may stand beside an old one; 0: on none. */
function surgeOf(set: StoredObject, nodes: number): number {
  const value = at(set.spec, 'updateStrategy', 'rollingUpdate', 'maxSurge')
  if (typeof value === 'number') return value
  const percent = /^(\d+)%$/.exec(text(value) ?? '')?.[1]
  return percent === undefined ? 0 : Math.ceil((Number(percent) * nodes) / 100)
}

/** Nodes without a pod of the present template, as far as `surge` allows: those without any that lives first. */
function nodesToSurge(
  owned: readonly StoredObject[],
  fresh: readonly StoredObject[],
  wanted: ReadonlySet<string>,
  surge: number,
): ReadonlySet<string> {
  const taken = new Set(owned.map(nodeOf))
  const living = new Set(owned.filter((pod) => !isDeleting(pod)).map(nodeOf))
  const renewed = new Set(fresh.filter((pod) => !isDeleting(pod)).map(nodeOf))
  // As in Kubernetes: who ends alone is waited for.
  const empty = [...wanted].filter((node) => !taken.has(node))
  const outdated = [...wanted].filter((node) => living.has(node) && !renewed.has(node))
  const underWay = owned.filter(
    (pod) => !isDeleting(pod) && !fresh.includes(pod) && renewed.has(nodeOf(pod)),
  ).length
  return new Set([...empty, ...outdated.slice(0, Math.max(0, surge - underWay))])
}

/** As Kubernetes does: removes a pod of an older template that has a new one beside it when that one is ready, or when it is not itself. */
async function removeSucceeded(
  owned: readonly StoredObject[],
  fresh: readonly StoredObject[],
  remove: (pod: StoredObject) => Promise<void>,
): Promise<void> {
  const living = fresh.filter((pod) => !isDeleting(pod))
  const accompanied = new Set(living.map(nodeOf))
  const renewed = new Set(living.filter(isReady).map(nodeOf))
  for (const pod of owned) {
    if (fresh.includes(pod) || isDeleting(pod)) continue
    const node = nodeOf(pod)
    if (renewed.has(node) || (accompanied.has(node) && !isReady(pod))) await remove(pod)
  }
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
  // One a node, the oldest: beside it, a new one does not count before that has gone.
  const byNode = Map.groupBy(
    listAll(api, 'pods', set.metadata.namespace).filter(
      (pod) => isControlledBy(pod, set) && !isDeleting(pod),
    ),
    nodeOf,
  )
  const pods = [...byNode.values()].flatMap((each) => each.toSorted(byAge).slice(0, 1))
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
