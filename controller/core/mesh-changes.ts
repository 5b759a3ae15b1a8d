// SPDX-License-Identifier: Apache-2.0
// What a commit has changed in the mesh, as the changes that discovery and mesh states take.

import type { Graph } from '../../mesh/collections/index.ts'
import type { MeshChange } from '../../mesh/model/types.ts'
import type { MeshCollections } from './translator.ts'

/** Calls back after each commit that changed something; the first time, when the mesh is complete, with all of it. */
export function followMesh(
  graph: Graph,
  mesh: MeshCollections,
  onChanges: (changes: readonly MeshChange[]) => void,
): void {
  let pending: MeshChange[] = []
  for (const policies of mesh.policies)
    policies.subscribe((changes) => {
      for (const { key, current } of changes)
        pending.push(
          current === undefined
            ? { kind: 'policyRemoved', key }
            : { kind: 'policy', policy: current },
        )
    })
  mesh.nodes.subscribe((changes) => {
    for (const { key, current } of changes)
      pending.push(
        current === undefined ? { kind: 'nodeRemoved', key } : { kind: 'node', node: current },
      )
  })
  mesh.services.subscribe((changes) => {
    for (const { key, current } of changes)
      pending.push(
        current === undefined
          ? { kind: 'serviceRemoved', key }
          : { kind: 'service', service: current },
      )
  })
  for (const workloads of mesh.workloads)
    workloads.subscribe((changes) => {
      for (const { key, current } of changes)
        pending.push(
          current === undefined
            ? { kind: 'workloadRemoved', uid: key }
            : { kind: 'workload', workload: current },
        )
    })
  graph.afterCommit(() => {
    if (pending.length === 0) return
    const changes = pending
    pending = []
    onChanges(changes)
  })
}
