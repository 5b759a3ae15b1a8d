// SPDX-License-Identifier: Apache-2.0
// A pod index over pods that a test says there are.

import { PodIndex } from '../../controller/auth/pod-index.ts'
import { ObjectSources } from '../../controller/sources/object-sources.ts'
import { podKey } from '../../controller/core/origin.ts'
import { Graph } from '../../mesh/collections/index.ts'
import type { Pod } from '../../mesh/kube/index.ts'

const ORIGIN = { cluster: 'Kubernetes', clusterDomain: 'cluster.local' }

export interface PodSource {
  readonly index: PodIndex
  upsert(pod: Pod): void
  remove(namespace: string, name: string): void
}

export function startPodSource(): PodSource {
  const graph = new Graph({
    onFault: ({ error }) => {
      throw error
    },
  })
  const sources = new ObjectSources(graph, {
    onProblems: (problems) => {
      throw new Error(JSON.stringify(problems))
    },
  })
  return {
    index: new PodIndex(sources.collections.Pod, ORIGIN.cluster),
    upsert: (pod) => sources.put('Pod', sources.read('Pod', pod, ORIGIN)),
    remove: (namespace, name) => sources.remove('Pod', podKey(ORIGIN.cluster, namespace, name)),
  }
}
