// SPDX-License-Identifier: Apache-2.0
// Deployments: one ReplicaSet per template, rolled from the old ones to the one of the present template.

import { createHash } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { type Draft, at, draftOf, integer, record } from '../../objects/json.ts'
import type { StoredObject } from '../../objects/stored-object.ts'
import type { ClusterApi } from '../../objects/cluster-api.ts'
import { type ConditionInput, withConditions } from './conditions.ts'
import {
  type ControlLoop,
  controllerKeys,
  controllerReference,
  find,
  isControlledBy,
  isDeleting,
  keyOf,
  listAll,
  problemOf,
  splitKey,
  writeStatus,
} from './controller.ts'
import { type SetSize, nextSizes, resolveLimits } from './rollout.ts'

const DEPLOYMENTS = 'deployments.apps'
const REPLICA_SETS = 'replicasets.apps'
const HASH_LABEL = 'pod-template-hash'
const REVISION = 'deployment.kubernetes.io/revision'
const HASH_LENGTH = 10
/** Kubernetes' alphabet for such suffixes: no vowels, no look-alikes. */
const SAFE = 'bcdfghjklmnpqrstvwxz2456789'

/** A template as it was in the deployment, without the label that its ReplicaSet got. */
function plainTemplate(owner: StoredObject): Draft {
  const template = draftOf({ template: owner.spec?.template })
  const labels = record(at(template, 'template', 'metadata', 'labels'))
  if (labels !== undefined) delete labels[HASH_LABEL]
  return template
}

function templateHash(template: Draft): string {
  const digest = createHash('sha256').update(JSON.stringify(template)).digest()
  return [...digest.subarray(0, HASH_LENGTH)].map((byte) => SAFE[byte % SAFE.length]).join('')
}

const revisionOf = (set: StoredObject): number => Number(set.metadata.annotations?.[REVISION] ?? 0)

async function makeSet(api: ClusterApi, deployment: StoredObject, revision: number) {
  const template = plainTemplate(deployment)
  const hash = templateHash(template)
  const { name, namespace } = deployment.metadata
  const podTemplate = record(template.template) ?? {}
  const podMetadata = record(podTemplate.metadata) ?? {}
  const labels = { ...record(podMetadata.labels), [HASH_LABEL]: hash }
  return await api.create(REPLICA_SETS, namespace, {
    metadata: {
      name: `${name}-${hash}`,
      labels,
      annotations: { [REVISION]: String(revision) },
      ownerReferences: [controllerReference(deployment)],
    },
    spec: {
      replicas: 0,
      selector: {
        ...record(deployment.spec?.selector),
        matchLabels: {
          ...record(at(deployment.spec, 'selector', 'matchLabels')),
          [HASH_LABEL]: hash,
        },
      },
      template: { ...podTemplate, metadata: { ...podMetadata, labels } },
    },
  })
}

const sizeOf = (set: StoredObject): SetSize => ({
  id: set.metadata.name,
  replicas: integer(set.spec?.replicas) ?? 0,
  available: integer(set.status?.availableReplicas) ?? 0,
  current: integer(set.status?.replicas) ?? 0,
})

async function resize(
  api: ClusterApi,
  set: StoredObject,
  replicas: number,
): Promise<string | undefined> {
  if (set.spec?.replicas === replicas) return undefined
  return problemOf(
    await api.patch(REPLICA_SETS, set.metadata.namespace, set.metadata.name, {
      type: 'merge',
      body: { spec: { replicas } },
    }),
  )
}

function setsOf(api: ClusterApi, deployment: StoredObject): readonly StoredObject[] {
  return listAll(api, REPLICA_SETS, deployment.metadata.namespace)
    .filter((set) => isControlledBy(set, deployment) && !isDeleting(set))
    .toSorted((left, right) => revisionOf(left) - revisionOf(right))
}

/** Steps the rollout; a sentence when something could not be written. */
async function roll(api: ClusterApi, deployment: StoredObject): Promise<string | undefined> {
  const sets = setsOf(api, deployment)
  const template = plainTemplate(deployment)
  const lastRevision = Math.max(0, ...sets.map(revisionOf))
  let fresh = sets.find((set) => isDeepStrictEqual(plainTemplate(set), template))
  if (fresh === undefined) {
    if (deployment.spec?.paused === true) return undefined
    const made = await makeSet(api, deployment, lastRevision + 1)
    if (!made.ok) return made.error.message
    fresh = made.value
  } else if (revisionOf(fresh) < lastRevision) {
    // Rolled back to: it becomes the newest revision again.
    const annotated = await api.patch(REPLICA_SETS, fresh.metadata.namespace, fresh.metadata.name, {
      type: 'merge',
      body: { metadata: { annotations: { [REVISION]: String(lastRevision + 1) } } },
    })
    if (!annotated.ok) return annotated.error.message
    fresh = annotated.value
  }
  const revision = String(revisionOf(fresh))
  if (deployment.metadata.annotations?.[REVISION] !== revision)
    await api.patch(DEPLOYMENTS, deployment.metadata.namespace, deployment.metadata.name, {
      type: 'merge',
      body: { metadata: { annotations: { [REVISION]: revision } } },
    })

  const freshName = fresh.metadata.name
  const old = sets.filter((set) => set.metadata.name !== freshName)
  const replicas = integer(deployment.spec?.replicas) ?? 1
  const limits = resolveLimits(
    replicas,
    at(deployment.spec, 'strategy', 'rollingUpdate', 'maxSurge'),
    at(deployment.spec, 'strategy', 'rollingUpdate', 'maxUnavailable'),
  )
  const isRecreate = at(deployment.spec, 'strategy', 'type') === 'Recreate'
  const sizes = nextSizes({ replicas, ...limits, isRecreate }, sizeOf(fresh), old.map(sizeOf))
  for (const set of [fresh, ...old]) {
    const problem = await resize(api, set, sizes.get(set.metadata.name) ?? 0)
    if (problem !== undefined) return problem
  }
  const limit = integer(deployment.spec?.revisionHistoryLimit) ?? 10
  const idle = old.filter((set) => set.spec?.replicas === 0 && sizeOf(set).current === 0)
  for (const set of idle.slice(0, Math.max(0, idle.length - limit)))
    await api.delete(REPLICA_SETS, set.metadata.namespace, set.metadata.name)
  return undefined
}

async function writeDeploymentStatus(
  api: ClusterApi,
  deployment: StoredObject,
): Promise<string | undefined> {
  const sets = setsOf(api, deployment)
  const template = plainTemplate(deployment)
  const fresh = sets.find((set) => isDeepStrictEqual(plainTemplate(set), template))
  const total = (field: string): number =>
    sets.reduce((sum, set) => sum + (integer(set.status?.[field]) ?? 0), 0)
  const replicas = integer(deployment.spec?.replicas) ?? 1
  const available = total('availableReplicas')
  const updated = fresh === undefined ? 0 : sizeOf(fresh).current
  const { maxUnavailable } = resolveLimits(
    replicas,
    at(deployment.spec, 'strategy', 'rollingUpdate', 'maxSurge'),
    at(deployment.spec, 'strategy', 'rollingUpdate', 'maxUnavailable'),
  )
  const isAvailable = available >= replicas - maxUnavailable
  const isComplete = updated === replicas && total('replicas') === replicas && available >= replicas
  const freshName = fresh?.metadata.name ?? ''
  const conditions: readonly ConditionInput[] = [
    {
      type: 'Available',
      status: isAvailable ? 'True' : 'False',
      reason: isAvailable ? 'MinimumReplicasAvailable' : 'MinimumReplicasUnavailable',
      message: isAvailable
        ? 'Deployment has minimum availability.'
        : 'Deployment does not have minimum availability.',
    },
    {
      type: 'Progressing',
      status: 'True',
      reason: isComplete ? 'NewReplicaSetAvailable' : 'ReplicaSetUpdated',
      message: isComplete
        ? `ReplicaSet "${freshName}" has successfully progressed.`
        : `ReplicaSet "${freshName}" is progressing.`,
    },
  ]
  return await writeStatus(api, DEPLOYMENTS, deployment, {
    observedGeneration: deployment.metadata.generation,
    replicas: total('replicas'),
    updatedReplicas: updated,
    readyReplicas: total('readyReplicas'),
    availableReplicas: available,
    unavailableReplicas: Math.max(0, replicas - available),
    conditions: withConditions(deployment, conditions),
  })
}

export function deploymentLoop(api: ClusterApi): ControlLoop {
  return {
    name: 'deployments',
    feeds: [
      { resource: DEPLOYMENTS, keysOf: ({ object }) => [keyOf(object)] },
      { resource: REPLICA_SETS, keysOf: ({ object }) => controllerKeys(object, 'Deployment') },
    ],
    reconcile: async (key) => {
      const { namespace, name } = splitKey(key)
      const deployment = find(api, DEPLOYMENTS, namespace, name)
      if (deployment === undefined || isDeleting(deployment)) return undefined
      const problem = await roll(api, deployment)
      // Rolling may have written the revision; the status goes on top of that.
      const latest = find(api, DEPLOYMENTS, namespace, name)
      const statusProblem =
        latest === undefined ? undefined : await writeDeploymentStatus(api, latest)
      return problem ?? statusProblem
    },
  }
}
