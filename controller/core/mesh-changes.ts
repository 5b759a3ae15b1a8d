// SPDX-License-Identifier: Apache-2.0
// What a commit has changed in the mesh, as the changes that discovery and mesh states take.

import type { Collection, Graph } from '../../mesh/collections/index.ts'
import type { MeshChange } from '../../mesh/model/types.ts'
import type { MeshCollections } from './translator.ts'

/** Calls back after each commit that changed something; the first time, when the mesh is complete, with all of it. */
export function followMesh(
  graph: Graph,
  mesh: MeshCollections,
  onChanges: (changes: readonly MeshChange[]) => void,
): void {
  let pending: MeshChange[] = []
  const follow = <K extends string, V extends object>(
    collection: Collection<K, V>,
    told: (value: V) => MeshChange,
    removed: (key: K) => MeshChange,
  ): void => {
    collection.subscribe((changes) => {
      for (const { key, current } of changes)
        pending.push(current === undefined ? removed(key) : told(current))
    })
  }
  for (const policies of mesh.policies)
    follow(
      policies,
      (policy) => ({ kind: 'policy', policy }),
      (key) => ({ kind: 'policyRemoved', key }),
    )
  follow(
    mesh.networkPolicies,
    (policy) => ({ kind: 'networkPolicy', policy }),
    (key) => ({ kind: 'networkPolicyRemoved', key }),
  )
  follow(
    mesh.httpRoutes,
    (routes) => ({ kind: 'httpRoutes', routes }),
    (key) => ({ kind: 'httpRoutesRemoved', key }),
  )
  follow(
    mesh.backendTls,
    (tls) => ({ kind: 'backendTls', tls }),
    (key) => ({ kind: 'backendTlsRemoved', key }),
  )
  follow(
    mesh.waypointPolicies,
    (policy) => ({ kind: 'waypointPolicy', policy }),
    (key) => ({ kind: 'waypointPolicyRemoved', key }),
  )
  follow(
    mesh.nodes,
    (node) => ({ kind: 'node', node }),
    (key) => ({ kind: 'nodeRemoved', key }),
  )
  follow(
    mesh.services,
    (service) => ({ kind: 'service', service }),
    (key) => ({ kind: 'serviceRemoved', key }),
  )
  for (const workloads of mesh.workloads)
    follow(
      workloads,
      (workload) => ({ kind: 'workload', workload }),
      (uid) => ({ kind: 'workloadRemoved', uid }),
    )
  graph.afterCommit(() => {
    if (pending.length === 0) return
    const changes = pending
    pending = []
    onChanges(changes)
  })
}
