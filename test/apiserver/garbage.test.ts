// SPDX-License-Identifier: Apache-2.0
// Deletion: owners and dependents by each propagation policy, finalizers, and the rolling-update arithmetic.

import fc from 'fast-check'
import t from 'tap'
import type { StoredObject } from '../../lab/kubernetes/objects/stored-object.ts'
import { nextSizes, resolveLimits } from '../../lab/kubernetes/own/controllers/rollout.ts'
import type { ApiUnderTest } from './api-under-test.ts'
import { contract } from './cluster.ts'
import { untilNames, untilObject } from './waiting.ts'

async function map(
  api: ApiUnderTest,
  name: string,
  owner?: StoredObject,
  finalizers?: readonly string[],
): Promise<StoredObject> {
  const made = await api.create('configmaps', 'default', {
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

const OURS = { namespace: 'default', fieldSelector: 'metadata.name!=kube-root-ca.crt' }

async function untilMaps(api: ApiUnderTest, names: readonly string[]): Promise<void> {
  await untilNames(api, 'configmaps', OURS, names)
}

contract(
  'dependents go with their owner, and theirs with them',
  { nodes: 0 },
  async (t, cluster) => {
    const { api } = cluster
    const owner = await map(api, 'owner')
    await map(api, 'grandchild', await map(api, 'child', owner))
    await map(api, 'unrelated')
    await api.delete('configmaps', 'default', 'owner')
    await untilMaps(api, ['unrelated'])
    t.strictSame(cluster.errors, [])
  },
)

contract(
  'what names an owner that never was goes too',
  { nodes: 0 },
  async (t, { api, errors }) => {
    const ghost = await map(api, 'ghost')
    await api.delete('configmaps', 'default', 'ghost')
    await map(api, 'late', ghost)
    await untilMaps(api, [])
    t.strictSame(errors, [])
  },
)

contract(
  'in the foreground the owner goes last; orphans stay without an owner',
  { nodes: 0 },
  async (t, cluster) => {
    const { api } = cluster
    const owner = await map(api, 'owner')
    await map(api, 'slow', owner, ['test/slow'])
    await api.delete('configmaps', 'default', 'owner', { propagationPolicy: 'Foreground' })
    await untilObject(
      api,
      'configmaps',
      ({ metadata }) => metadata.name === 'slow' && metadata.deletionTimestamp !== undefined,
    )
    const waiting = await api.get('configmaps', 'default', 'owner')
    t.equal(waiting.ok, true, 'it waits for the finalizer of the dependent')
    await api.patch('configmaps', 'default', 'slow', {
      type: 'merge',
      body: { metadata: { finalizers: null } },
    })
    await untilMaps(api, [])

    const parent = await map(api, 'parent')
    await map(api, 'orphan', parent)
    await api.delete('configmaps', 'default', 'parent', { propagationPolicy: 'Orphan' })
    await untilMaps(api, ['orphan'])
    const orphan = await api.get('configmaps', 'default', 'orphan')
    t.equal(orphan.ok && orphan.value.metadata.ownerReferences, undefined)
    t.strictSame(cluster.errors, [])
  },
)

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
