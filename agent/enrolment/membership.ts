// SPDX-License-Identifier: Apache-2.0
// Which namespaces have, or may have, pods in the mesh, as far as this node's agent knows: what its CNI plugin goes by while
// the agent is away. Pure.

import type { LabelMatcher, Namespace, Pod } from '../../mesh/kube/index.ts'
import { DATAPLANE_MODE_LABEL } from '../../mesh/model/names.ts'
import type { Workload } from '../../mesh/model/types.ts'

export interface MembershipSources {
  readonly namespaces: Iterable<Namespace>
  /** The node's pods. */
  readonly pods: Iterable<Pod>
  /** All of the mesh. */
  readonly workloads: Iterable<Workload>
  readonly clusterId: string
  readonly excludeNamespaces: readonly string[]
  /** Whether a namespace of these labels is this mesh's to take pods of; undefined: all are. */
  readonly selectsNamespace?: LabelMatcher | undefined
}

/**
 * The namespaces, sorted: those that are labelled; and of the others those where a pod of this node asks for the mesh by a
 * label of its own, or a pod of any node is in it. The plugin is told a pod's name, not its labels: one pod in the mesh
 * speaks for its namespace.
 */
export function meshNamespaces(sources: MembershipSources): readonly string[] {
  const found = new Set<string | undefined>()
  for (const { metadata } of sources.namespaces)
    if (metadata?.labels?.[DATAPLANE_MODE_LABEL] === 'ambient') found.add(metadata.name)
  for (const { metadata } of sources.pods)
    if (metadata?.labels?.[DATAPLANE_MODE_LABEL] === 'ambient') found.add(metadata.namespace)
  // What speaks HBONE by itself, a waypoint, is captured by nobody.
  for (const workload of sources.workloads)
    if (
      workload.tunnelProtocol === 'hbone' &&
      !workload.nativeTunnel &&
      workload.clusterId === sources.clusterId
    )
      found.add(workload.namespace)
  for (const name of sources.excludeNamespaces) found.delete(name)
  for (const { metadata } of sources.namespaces)
    if (sources.selectsNamespace?.(metadata?.labels ?? {}) === false) found.delete(metadata?.name)
  return [...found].filter((name): name is string => name !== undefined && name !== '').sort()
}
