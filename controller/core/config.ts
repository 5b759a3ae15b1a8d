// SPDX-License-Identifier: Apache-2.0
// What the translation needs to know of the cluster besides its objects.

export interface TranslateConfig {
  readonly clusterId: string
  readonly clusterDomain: string
  readonly trustDomain: string
  /** The network the cluster's pods live in; empty unless the mesh spans several. */
  readonly network: string
}
