// SPDX-License-Identifier: Apache-2.0
// The `baggage` header of HBONE: how a workload describes itself to its peer, for the peer's telemetry.
// It is what the other side claims, never proof of anything. Istio writes no percent-escapes, and neither do we.

import type { WorkloadType } from '../model/types.ts'

/** What a workload says of itself; absent or empty fields are not written. */
export interface Baggage {
  readonly clusterName?: string
  readonly namespace?: string
  readonly workload?: { readonly type: WorkloadType; readonly name: string }
  readonly serviceName?: string
  readonly serviceVersion?: string
  readonly region?: string
  readonly zone?: string
}

const WORKLOAD_KEYS: Readonly<Record<WorkloadType, string>> = {
  deployment: 'k8s.deployment.name',
  cronjob: 'k8s.cronjob.name',
  pod: 'k8s.pod.name',
  job: 'k8s.job.name',
}
const WORKLOAD_TYPES = new Map(
  (Object.keys(WORKLOAD_KEYS) as WorkloadType[]).map((type) => [WORKLOAD_KEYS[type], type]),
)
/** W3C Baggage 4.3.2: what a receiver must take; more is cut, for it is only telemetry. */
const LONGEST_BAGGAGE = 8192
/** Members are separated by commas and have properties after a semicolon; blanks would be trimmed away. */
const WRITABLE_VALUE = /^[\x21-\x2b\x2d-\x3a\x3c-\x7e]+$/

/**
 * Writes the header value. A value that the format cannot hold is left out, as is an empty one.
 *
 * @example formatBaggage({ clusterName: 'Kubernetes', namespace: 'shop' })
 * // 'k8s.cluster.name=Kubernetes,k8s.namespace.name=shop'
 */
export function formatBaggage(baggage: Baggage): string {
  const members: string[] = []
  const add = (key: string, value: string | undefined): void => {
    if (value !== undefined && WRITABLE_VALUE.test(value)) members.push(`${key}=${value}`)
  }
  add('k8s.cluster.name', baggage.clusterName)
  add('k8s.namespace.name', baggage.namespace)
  if (baggage.workload) add(WORKLOAD_KEYS[baggage.workload.type], baggage.workload.name)
  add('service.name', baggage.serviceName)
  add('service.version', baggage.serviceVersion)
  add('cloud.region', baggage.region)
  add('cloud.availability_zone', baggage.zone)
  return members.join(',')
}

/** Reads the header value; unknown, empty and malformed members are passed over, of equal ones the first counts. */
export function parseBaggage(header: string): Baggage {
  const values = new Map<string, string>()
  for (const member of header.slice(0, LONGEST_BAGGAGE).split(',')) {
    const [pair = ''] = member.split(';', 1)
    const equals = pair.indexOf('=')
    if (equals < 0) continue
    const key = pair.slice(0, equals).trim()
    const value = pair.slice(equals + 1).trim()
    if (value !== '' && !values.has(key)) values.set(key, value)
  }
  const workload = workloadOf(values)
  return {
    ...field('clusterName', values.get('k8s.cluster.name')),
    ...field('namespace', values.get('k8s.namespace.name')),
    ...(workload && { workload }),
    ...field('serviceName', values.get('service.name')),
    ...field('serviceVersion', values.get('service.version')),
    ...field('region', values.get('cloud.region')),
    ...field('zone', values.get('cloud.availability_zone')),
  }
}

function workloadOf(values: ReadonlyMap<string, string>): Baggage['workload'] {
  for (const [key, name] of values) {
    const type = WORKLOAD_TYPES.get(key)
    if (type !== undefined) return { type, name }
  }
  return undefined
}

function field<K extends string>(
  key: K,
  value: string | undefined,
): { readonly [P in K]?: string } {
  return value === undefined ? {} : ({ [key]: value } as { readonly [P in K]?: string })
}
