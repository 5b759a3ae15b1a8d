// SPDX-License-Identifier: Apache-2.0
// Which cluster an object was read in, and the key that tells it from those of the same name elsewhere.

import { podWorkloadUid } from '../../mesh/model/names.ts'

/** What reading an object needs to know of its cluster. */
export interface Origin {
  /** The cluster's id. */
  readonly cluster: string
  /** The domain of its host names, `cluster.local`. */
  readonly clusterDomain: string
}

/** `cluster/namespace/name` (of a pod, the key of its workload): an object among those of its kind in all clusters. */
export type ObjectKey = string & { readonly __brand: 'ObjectKey' }

/** The key of an object; `namespace` is empty for kinds that have none. */
export function objectKey(cluster: string, namespace: string, name: string): ObjectKey {
  // Joined, because a template would keep its parts beside the whole.
  return [cluster, namespace, name].join('/') as ObjectKey
}

/** The key of a pod: that of its workload in the mesh, so that each pod has one key and not two. */
export function podKey(cluster: string, namespace: string, name: string): ObjectKey {
  return podWorkloadUid(cluster, { namespace, name }) as string as ObjectKey
}
