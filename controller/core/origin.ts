// SPDX-License-Identifier: Apache-2.0
// Which cluster an object was read in, and the key that tells it from those of the same name elsewhere.

/** What reading an object needs to know of its cluster. */
export interface Origin {
  /** The cluster's id. */
  readonly cluster: string
  /** The domain of its host names, `cluster.local`. */
  readonly clusterDomain: string
}

/** `cluster/namespace/name`: an object among those of its kind in all clusters. */
export type ObjectKey = string & { readonly __brand: 'ObjectKey' }

/** The key of an object; `namespace` is empty for kinds that have none. */
export function objectKey(cluster: string, namespace: string, name: string): ObjectKey {
  return `${cluster}/${namespace}/${name}` as ObjectKey
}
