// SPDX-License-Identifier: Apache-2.0
// What the translator is told: Kubernetes objects that appeared, changed or went, from watches or from a test.

import type {
  EndpointSlice,
  Namespace,
  Node,
  Pod,
  Service as KubeService,
} from '../../mesh/kube/resources.ts'

/** The kinds the translator reads, and what their objects look like. */
export interface InputObjects {
  readonly Pod: Pod
  readonly Service: KubeService
  readonly EndpointSlice: EndpointSlice
  readonly Node: Node
  readonly Namespace: Namespace
}

export type InputKind = keyof InputObjects

/** The receiving end of watches. */
export interface TranslatorInput {
  /** An object is new or has changed. */
  upsert<K extends InputKind>(kind: K, object: InputObjects[K]): void
  /** An object is gone; `namespace` is empty for kinds that have none. */
  delete(kind: InputKind, namespace: string, name: string): void
  /** Everything that existed has been told once; from here on changes are given out as they happen. */
  complete(): void
}
