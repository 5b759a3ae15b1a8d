// SPDX-License-Identifier: Apache-2.0
// What a CONNECT says about its sender: baggage (who calls), forwarded (what was called), traceparent (which call).

import type { TunnelHeaders } from '../../mesh/hbone/types.ts'
import type { Service, SocketAddress, Workload } from '../../mesh/model/types.ts'
import { formatBaggage, workloadBaggage } from '../../mesh/telemetry/baggage.ts'
import { formatForwarded, parseForwarded } from '../../mesh/telemetry/forwarded.ts'
import { formatTraceParent, newTraceParent } from '../../mesh/telemetry/traceparent.ts'
import type { LocalPod } from './local-pod.ts'

/** How a pod describes itself to its peers; a pod that discovery does not know yet, by its name alone. */
export function baggageOf({ namespace, name }: LocalPod, workload: Workload | undefined): string {
  return workload === undefined
    ? formatBaggage({ namespace, workload: { type: 'pod', name } })
    : workloadBaggage(workload)
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
