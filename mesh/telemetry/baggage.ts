// SPDX-License-Identifier: Apache-2.0
// The `baggage` header of HBONE: how a workload describes itself to its peer, for the peer's telemetry.
// It is what the other side claims, never proof of anything. Istio writes no percent-escapes, and neither do we.

import type { Workload, WorkloadType } from '../model/types.ts'

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
/** Members are separated by commas and have properties after a semicolon; blanks would be trimmed away. */
const WRITABLE_VALUE = /^[\x21-\x2b\x2d-\x3a\x3c-\x7e]+$/

/**
 * Writes the header value; not for every connection, its caller keeps what was written. A value that the format cannot hold is left out, as is an empty one.
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

/** Written once for each version of a workload, not for each of its connections. */
const written = new WeakMap<Workload, string>()

/** How a workload describes itself. */
export function workloadBaggage(workload: Workload): string {
  let baggage = written.get(workload)
  if (baggage === undefined) {
    baggage = formatBaggage({
      clusterName: workload.clusterId,
      namespace: workload.namespace,
      workload: { type: workload.workloadType, name: workload.workloadName },
      serviceName: workload.canonicalName,
      serviceVersion: workload.canonicalRevision,
      region: workload.locality.region,
      zone: workload.locality.zone,
    })
    written.set(workload, baggage)
  }
  return baggage
}
