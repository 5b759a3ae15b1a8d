// SPDX-License-Identifier: Apache-2.0
// What the translation needs to know besides the clusters' objects.

export interface TranslateConfig {
  readonly trustDomain: string
  /** Other names of the same domain. */
  readonly trustDomainAliases: readonly string[]
  /** The namespace whose policies are those of the whole mesh. */
  readonly rootNamespace: string
  /** The network the clusters' pods live in; empty unless the mesh spans several. */
  readonly network: string
}

/** What a secret of the mesh is for: `sessions` seals what clients of routes are given. Never shown, never logged. */
export type MeshSecret = 'sessions'
