// SPDX-License-Identifier: Apache-2.0
// Where a Service's traffic should preferably go: the Service's own field, Istio's annotation on it, or on its namespace.

import { TRAFFIC_DISTRIBUTION_ANNOTATION } from '../../mesh/model/names.ts'
import type { LoadBalancing, RoutingScope } from '../../mesh/model/types.ts'
import type { ObjectReader } from '../reading/object-reader.ts'

const PREFERENCES = {
  Any: [],
  PreferClose: ['network', 'region', 'zone'],
  PreferSameZone: ['network', 'region', 'zone'],
  PreferSameNode: ['network', 'region', 'zone', 'subzone', 'node'],
} as const satisfies Record<string, readonly RoutingScope[]>

export type TrafficDistribution = keyof typeof PREFERENCES

/** Reads the wish of a Service or Namespace; an unknown word is noted and ignored. */
export function readTrafficDistribution(
  reader: ObjectReader,
  annotations: ReadonlyMap<string, string>,
  field: string | undefined,
): TrafficDistribution | undefined {
  if (field !== undefined) return readWord(reader, 'spec.trafficDistribution', field)
  const annotation = annotations.get(TRAFFIC_DISTRIBUTION_ANNOTATION)
  if (annotation === undefined) return undefined
  return readWord(reader, `metadata.annotations[${TRAFFIC_DISTRIBUTION_ANNOTATION}]`, annotation)
}

function readWord(
  reader: ObjectReader,
  field: string,
  word: string,
): TrafficDistribution | undefined {
  if (Object.hasOwn(PREFERENCES, word)) return word as TrafficDistribution
  reader.note(field, `"${word}" is none of ${Object.keys(PREFERENCES).join(', ')}`)
  return undefined
}

/** The load balancing that follows from a Service's settings and its namespace's. */
export function loadBalancingOf(
  settings: {
    readonly isNodeLocal: boolean
    readonly isSticky: boolean
    readonly publishesNotReady: boolean
    readonly trafficDistribution: TrafficDistribution | undefined
  },
  namespaceDistribution: TrafficDistribution | undefined,
): LoadBalancing {
  const healthPolicy = settings.publishesNotReady ? 'allowAll' : 'onlyHealthy'
  const sessionAffinity = settings.isSticky ? 'clientIp' : 'none'
  const same = { healthPolicy, sessionAffinity } as const
  if (settings.isNodeLocal) return { mode: 'strict', routingPreference: ['node'], ...same }
  const distribution = settings.trafficDistribution ?? namespaceDistribution ?? 'Any'
  const routingPreference = PREFERENCES[distribution]
  const mode = routingPreference.length === 0 ? 'standard' : 'failover'
  return { mode, routingPreference, ...same }
}
