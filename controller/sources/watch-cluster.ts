// SPDX-License-Identifier: Apache-2.0
// Follows the objects of one cluster: one watch a kind, which keeps of each object what the mesh reads of it.

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
  watchResource,
} from '../../mesh/kube/index.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import type { InputFacts, InputKind, InputObjects } from '../core/input.ts'
import type { Origin } from '../core/origin.ts'
import type { KeptObject, ObjectSources } from './object-sources.ts'

export interface ClusterWatch {
  /** Resolves when all first lists have been told; rejects only if closed before. */
  readonly synced: Promise<void>
  close(): Promise<void>
}

/** Watches everything that discovery needs of a cluster and puts it into `sources`. */
export function watchCluster(options: {
  readonly api: KubeApi
  readonly origin: Origin
  readonly sources: ObjectSources
  readonly logger: Logger
  readonly onFailure?: (kind: InputKind, failure: KubeFailure) => void
}): ClusterWatch {
  const { api, origin, sources, logger, onFailure } = options
  const follow = <K extends InputKind>(
    kind: K,
    resource: KubeResource<InputObjects[K] & KubeObject>,
  ): { readonly synced: Promise<void>; close(): Promise<void> } => {
    const put = (kept: KeptObject<InputFacts[K]>): void => sources.put(kind, kept)
    return watchResource<InputObjects[K] & KubeObject, KeptObject<InputFacts[K]>>(api, resource, {
      logger,
      keep: (object) => sources.read(kind, object, origin),
      added: put,
      updated: (_previous, kept) => put(kept),
      deleted: ({ key }) => {
        if (key !== undefined) sources.remove(kind, key)
      },
      failed: (failure) => onFailure?.(kind, failure),
    })
  }
  const watches = [
    follow('Namespace', NAMESPACES),
    follow('Node', NODES),
    follow('Service', SERVICES),
    follow('EndpointSlice', ENDPOINT_SLICES),
    follow('Pod', PODS),
  ]
  const synced = Promise.all(watches.map((watch) => watch.synced)).then(() => undefined)
  // Not everybody awaits it.
  synced.catch(() => undefined)
  return {
    synced,
    close: async () => {
      await Promise.all(watches.map((watch) => watch.close()))
    },
  }
}
