// SPDX-License-Identifier: Apache-2.0
// Istio's TCP metrics of a connection: their label names, the labels of one connection, and the key of its series.

import type { ConnectionAbout, ConnectionSecurity, Party } from './connection-record.ts'

/** The label names of Istio's TCP metrics, in full. */
export const TRAFFIC_LABELS = [
  'reporter',
  'source_workload',
  'source_canonical_service',
  'source_canonical_revision',
  'source_workload_namespace',
  'source_principal',
  'source_app',
  'source_version',
  'source_cluster',
  'source_region',
  'source_zone',
  'destination_service',
  'destination_service_namespace',
  'destination_service_name',
  'destination_workload',
  'destination_canonical_service',
  'destination_canonical_revision',
  'destination_workload_namespace',
  'destination_principal',
  'destination_app',
  'destination_version',
  'destination_cluster',
  'destination_region',
  'destination_zone',
  'request_protocol',
  'response_flags',
  'connection_security_policy',
] as const

export type TrafficLabels = Readonly<Record<(typeof TRAFFIC_LABELS)[number], string>>

/** What changed for one label set since the last batch. */
export interface TrafficDelta {
  readonly labels: TrafficLabels
  opened: number
  closed: number
  failed: number
  /** Response bytes, for both reporters. */
  sentBytes: number
  /** Request bytes, for both reporters. */
  receivedBytes: number
}

/** Tells apart what the labels tell apart, for less: hot, twice per connection. */
export function seriesKey(about: ConnectionAbout, flag: string): string {
  const { direction, source, destination, service, security } = about
  return `${direction}|${partyKey(source)}|${partyKey(destination)}|${service?.key ?? ''}|${security}|${flag}`
}

function partyKey({ uid, labels, identity }: Party): string {
  // A pod counts by its name until discovery knows its workload: two series.
  return `${uid ?? ''}${labels === undefined ? '?' : '#'}${identity ?? ''}`
}

/**
 * The full label set of a connection; what is not known is `unknown`, as in Istio. The side whose record it is reports: the
 * caller's as `source`, the called one's as `destination`. `nodeLocal` is the word for what the kernel vouches for.
 */
export function trafficLabels(
  { direction, source, destination, service, security }: ConnectionAbout,
  flag: string,
  nodeLocal: string,
): TrafficLabels {
  return {
    reporter: direction === 'outbound' ? 'source' : 'destination',
    source_workload: workloadLabel(source),
    source_canonical_service: text(source.labels?.canonicalName),
    source_canonical_revision: text(source.labels?.canonicalRevision),
    source_workload_namespace: text(source.namespace),
    source_principal: text(source.identity),
    source_app: text(source.labels?.canonicalName),
    source_version: text(source.labels?.canonicalRevision),
    source_cluster: text(source.labels?.clusterId),
    source_region: text(source.labels?.locality.region),
    source_zone: text(source.labels?.locality.zone),
    destination_service: text(service?.hostname),
    destination_service_namespace: text(service?.namespace),
    destination_service_name: text(service?.name),
    destination_workload: workloadLabel(destination),
    destination_canonical_service: text(destination.labels?.canonicalName),
    destination_canonical_revision: text(destination.labels?.canonicalRevision),
    destination_workload_namespace: text(destination.namespace),
    destination_principal: text(destination.identity),
    destination_app: text(destination.labels?.canonicalName),
    destination_version: text(destination.labels?.canonicalRevision),
    destination_cluster: text(destination.labels?.clusterId),
    destination_region: text(destination.labels?.locality.region),
    destination_zone: text(destination.labels?.locality.zone),
    request_protocol: 'tcp',
    response_flags: flag,
    connection_security_policy: securityLabel(security, nodeLocal),
  }
}

function securityLabel(security: ConnectionSecurity, nodeLocal: string): string {
  return security === 'node_local' ? nodeLocal : security
}

function text(value: string | undefined): string {
  return value === undefined || value === '' ? 'unknown' : value
}

/** The owner's name (the Deployment's, say), so that series do not multiply with every pod. */
function workloadLabel({ labels, name }: Party): string {
  return text(labels === undefined ? name : labels.workloadName)
}
