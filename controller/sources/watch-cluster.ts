// SPDX-License-Identifier: Apache-2.0
// Follows the cluster's objects and tells them to the translator.

import {
  ENDPOINT_SLICES,
  type KubeApi,
  type KubeFailure,
  type KubeObject,
  type KubeResource,
  NAMESPACES,
  NODES,
  PODS,
  SERVICES,
  type ResourceWatch,
  watchResource,
} from '../../mesh/kube/index.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import type { InputKind, InputObjects, TranslatorInput } from '../core/input.ts'

export interface ClusterWatch {
  /** Resolves when all first lists have been told; rejects only if closed before. */
  readonly synced: Promise<void>
  close(): Promise<void>
}

/** Watches everything discovery needs and feeds it to `input`; calls `input.complete()` after the first lists. */
export function watchCluster(options: {
  readonly api: KubeApi
  readonly input: TranslatorInput
  readonly logger: Logger
  readonly onFailure?: (kind: InputKind, failure: KubeFailure) => void
}): ClusterWatch {
  const { api, input, logger, onFailure } = options
  const follow = <K extends InputKind>(
    kind: K,
    resource: KubeResource<InputObjects[K] & KubeObject>,
  ): ResourceWatch<InputObjects[K] & KubeObject> =>
    watchResource(api, resource, {
      logger,
      added: (object) => input.upsert(kind, object),
      updated: (_previous, object) => input.upsert(kind, object),
      deleted: ({ metadata }) =>
        input.delete(kind, metadata?.namespace ?? '', metadata?.name ?? ''),
      failed: (failure) => onFailure?.(kind, failure),
    })
  const watches = [
    follow('Namespace', NAMESPACES),
    follow('Node', NODES),
    follow('Service', SERVICES),
    follow('EndpointSlice', ENDPOINT_SLICES),
    follow('Pod', PODS),
  ]
  const synced = Promise.all(watches.map((watch) => watch.synced)).then(() => input.complete())
  // Not everybody awaits it.
  synced.catch(() => undefined)
  return {
    synced,
    close: async () => {
      await Promise.all(watches.map((watch) => watch.close()))
    },
  }
}
