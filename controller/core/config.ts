// SPDX-License-Identifier: Apache-2.0
// What the translation needs to know besides the clusters' objects.

export interface TranslateConfig {
  readonly trustDomain: string
  /** The network the clusters' pods live in; empty unless the mesh spans several. */
  readonly network: string
}
