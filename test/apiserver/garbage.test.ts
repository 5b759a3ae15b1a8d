// SPDX-License-Identifier: Apache-2.0
// Deletion: owners and dependents by each propagation policy, finalizers, and the rolling-update arithmetic.

import fc from 'fast-check'
import t from 'tap'
import type { StoredObject } from '../../lab/kubernetes/objects/stored-object.ts'
import type { LocalApi } from '../../lab/kubernetes/own/apiserver/local-api.ts'
import { nextSizes, resolveLimits } from '../../lab/kubernetes/own/controllers/rollout.ts'
import { startCluster } from './cluster.ts'

function map(
  api: LocalApi,
  name: string,
  owner?: StoredObject,
  finalizers?: readonly string[],
): StoredObject {
  const made = api.create('configmaps', 'default', {
    metadata: {
      name,
      finalizers,
      ...(owner === undefined
        ? {}
        : {
            ownerReferences: [
              {
                apiVersion: 'v1',
                kind: 'ConfigMap',
                name: owner.metadata.name,
                uid: owner.metadata.uid,
                blockOwnerDeletion: true,
              },
            ],
          }),
    },
  })
  if (!made.ok) throw new Error(made.error.message)
  return made.value
}

const names = (api: LocalApi): readonly string[] => {
  const found = api.list('configmaps', {
    namespace: 'default',
    fieldSelector: 'metadata.name!=kube-root-ca.crt',
  })
  return found.ok ? found.value.map((one) => one.metadata.name) : []
}

void t.test('dependents go with their owner, and theirs with them', async (t) => {
  await using cluster = await startCluster({ nodes: 0 })
  const { api, controllers } = cluster
  const owner = map(api, 'owner')
  map(api, 'grandchild', map(api, 'child', owner))
  map(api, 'unrelated')
  api.delete('configmaps', 'default', 'owner')
  await controllers.idle()
  t.strictSame(names(api), ['unrelated'])
})

void t.test('what names an owner that never was goes too', async (t) => {
  await using cluster = await startCluster({ nodes: 0 })
  const ghost = map(cluster.api, 'ghost')
  cluster.api.delete('configmaps', 'default', 'ghost')
  map(cluster.api, 'late', ghost)
  await cluster.controllers.idle()
  t.strictSame(names(cluster.api), [])
})

void t.test('in the foreground the owner goes last; orphans stay without an owner', async (t) => {
  await using cluster = await startCluster({ nodes: 0 })
  const { api, controllers } = cluster
  const owner = map(api, 'owner')
  map(api, 'slow', owner, ['test/slow'])
  api.delete('configmaps', 'default', 'owner', { propagationPolicy: 'Foreground' })
  await controllers.idle()
  t.strictSame(names(api), ['owner', 'slow'], 'both wait for the finalizer of the dependent')
  api.patch('configmaps', 'default', 'slow', {
    type: 'merge',
    body: { metadata: { finalizers: null } },
  })
  await controllers.idle()
  t.strictSame(names(api), [])

  const parent = map(api, 'parent')
  map(api, 'orphan', parent)
  api.delete('configmaps', 'default', 'parent', { propagationPolicy: 'Orphan' })
  await controllers.idle()
  t.strictSame(names(api), ['orphan'])
  const orphan = api.get('configmaps', 'default', 'orphan')
  t.equal(orphan.ok && orphan.value.metadata.ownerReferences, undefined)
  t.strictSame(cluster.errors, [])
})

void t.test(
  'limits of a rolling update: surge rounds up, unavailability down, never both none',
  (t) => {
    t.strictSame(resolveLimits(3, '25%', '25%'), { maxSurge: 1, maxUnavailable: 0 })
    t.strictSame(resolveLimits(10, '25%', '25%'), { maxSurge: 3, maxUnavailable: 2 })
    t.strictSame(resolveLimits(4, 0, 0), { maxSurge: 0, maxUnavailable: 1 })
    t.strictSame(resolveLimits(4, 2, '50%'), { maxSurge: 2, maxUnavailable: 2 })
    t.end()
  },
)

void t.test('a rolling update ends, and stays within its limits on the way', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 12 }),
      fc.integer({ min: 0, max: 4 }),
      fc.integer({ min: 0, max: 4 }),
      (replicas, surge, unavailable) => {
        const limits = resolveLimits(replicas, surge, unavailable)
        const goal = { replicas, ...limits, isRecreate: false }
        let fresh = { id: 'new', replicas: 0, available: 0, current: 0 }
        let old = { id: 'old', replicas, available: replicas, current: replicas }
        for (let step = 0; step < 60; step += 1) {
          const sizes = nextSizes(goal, fresh, [old])
          const [newSize, oldSize] = [sizes.get('new') ?? -1, sizes.get('old') ?? -1]
          if (newSize + oldSize > replicas + limits.maxSurge) return false
          // Pods that are asked to go stop serving at once; new ones serve one step later.
          const available = Math.min(fresh.available, newSize) + Math.min(old.available, oldSize)
          if (available < replicas - limits.maxUnavailable) return false
          fresh = { id: 'new', replicas: newSize, available: fresh.replicas, current: newSize }
          old = {
            id: 'old',
            replicas: oldSize,
            available: Math.min(old.available, oldSize),
            current: oldSize,
          }
          if (newSize === replicas && oldSize === 0) return true
        }
        return false
      },
    ),
  )
  t.pass('held for every size and limit tried')
  t.end()
})
