// SPDX-License-Identifier: Apache-2.0
// What a CONNECT says about its sender: baggage (who calls), forwarded (what was called), traceparent (which call).

import type { TunnelHeaders } from '../../mesh/hbone/types.ts'
import type { Service, SocketAddress, Workload } from '../../mesh/model/types.ts'
import { formatBaggage } from '../../mesh/telemetry/baggage.ts'
import { formatForwarded, parseForwarded } from '../../mesh/telemetry/forwarded.ts'
import { formatTraceParent, newTraceParent } from '../../mesh/telemetry/traceparent.ts'
import type { LocalPod } from './local-pod.ts'

/** Written once for each version of a workload, not for each of its connections. */
const written = new WeakMap<Workload, string>()

/** How a pod describes itself to its peers; a pod that discovery does not know yet, by its name alone. */
export function baggageOf({ namespace, name }: LocalPod, workload: Workload | undefined): string {
  if (workload === undefined) return formatBaggage({ namespace, workload: { type: 'pod', name } })
  let baggage = written.get(workload)
  if (baggage === undefined) {
    baggage = formatBaggage({
      clusterName: workload.clusterId,
      namespace,
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

/** The host name of the service that the caller named; the far side uses it only to label telemetry. */
export function calledHost(forwarded: string | undefined): string | undefined {
  return forwarded === undefined ? undefined : parseForwarded(forwarded).host
}

/** The headers of one CONNECT. */
export function tunnelHeaders(
  pod: LocalPod,
  workload: Workload | undefined,
  source: SocketAddress,
  service: Service | undefined,
): TunnelHeaders {
  return {
    baggage: baggageOf(pod, workload),
    forwarded: formatForwarded({ for: source, host: service?.hostname }),
    traceparent: formatTraceParent(newTraceParent()),
  }
}
