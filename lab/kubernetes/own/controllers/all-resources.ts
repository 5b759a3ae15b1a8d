// SPDX-License-Identifier: Apache-2.0
// One watch over every resource, custom ones included as they come and go.

import { definedResource } from '../../objects/custom-resource-types.ts'
import { BUILT_IN_TYPES, type ResourceType } from '../../objects/resource-types.ts'
import type { ClusterApi, WatchEvent } from '../../objects/cluster-api.ts'

const CRDS = 'customresourcedefinitions.apiextensions.k8s.io'

/** The types served now. */
export function servedTypes(api: ClusterApi): readonly ResourceType[] {
  const definitions = api.list(CRDS)
  return [...BUILT_IN_TYPES, ...(definitions.ok ? definitions.value.map(definedResource) : [])]
}

/** Calls back on each change of any object of any type; returns what stops it. */
export function watchAllResources(
  api: ClusterApi,
  onEvent: (type: ResourceType, event: WatchEvent) => void,
): () => void {
  const stops = new Map<string, () => void>()
  const follow = (type: ResourceType): void => {
    if (stops.has(type.id)) return
    // Set first: the initial events may lead here again.
    stops.set(type.id, () => undefined)
    stops.set(
      type.id,
      api.watch(type.id, {}, (event) => onEvent(type, event)),
    )
  }
  for (const type of BUILT_IN_TYPES) follow(type)
  const stopDefinitions = api.watch(CRDS, {}, ({ type, object }) => {
    const defined = definedResource(object)
    if (type !== 'DELETED') return follow(defined)
    stops.get(defined.id)?.()
    stops.delete(defined.id)
  })
  return () => {
    stopDefinitions()
    for (const stop of stops.values()) stop()
  }
}
