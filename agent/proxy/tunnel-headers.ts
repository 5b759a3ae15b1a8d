// SPDX-License-Identifier: Apache-2.0
// What a CONNECT says about its sender: baggage (who calls), forwarded (what was called), traceparent (which call).

import { randomBytes } from 'node:crypto'
import type { TunnelHeaders } from '../../mesh/hbone/types.ts'
import type { Service, SocketAddress, Workload } from '../../mesh/model/types.ts'
import type { LocalPod } from './local-pod.ts'
import { formatAddress } from './upstream.ts'

/** Random bytes are drawn for this many connections at once: one crypto call per connection would show in a profile. */
const TRACE_POOL_CONNECTIONS = 256
const TRACE_BYTES = 24

let pool = Buffer.alloc(0)
let used = 0

/** A W3C trace context for one connection, not sampled: `00-<32 hex>-<16 hex>-00`. */
function newTraceparent(): string {
  if (used + TRACE_BYTES > pool.length) {
    pool = randomBytes(TRACE_BYTES * TRACE_POOL_CONNECTIONS)
    used = 0
  }
  const traceId = pool.toString('hex', used, used + 16)
  const spanId = pool.toString('hex', used + 16, used + 24)
  used += TRACE_BYTES
  return `00-${traceId}-${spanId}-00`
}

/** Describes a workload the way Istio's peers read it: `k=v` joined by commas, empty values left out. */
export function baggageOf(pod: LocalPod, workload: Workload | undefined): string {
  const items: string[] = []
  const add = (key: string, value: string | undefined): void => {
    // A comma or semicolon would be read as the next item; Kubernetes names hold neither, foreign data may.
    if (value !== undefined && value !== '' && !/[,;\s]/.test(value)) items.push(`${key}=${value}`)
  }
  add('k8s.cluster.name', workload?.clusterId)
  add('k8s.namespace.name', pod.namespace)
  add(`k8s.${workload?.workloadType ?? 'pod'}.name`, workload?.workloadName ?? pod.name)
  add('service.name', workload?.canonicalName)
  add('service.version', workload?.canonicalRevision)
  add('cloud.region', workload?.locality.region)
  add('cloud.availability_zone', workload?.locality.zone)
  return items.join(',')
}

/** `for` is the caller's address; `host` the service it named, which the far side uses only to label telemetry. */
function forwardedOf(source: SocketAddress, service: Service | undefined): string {
  const by = `for="${formatAddress(source)}"`
  return service === undefined ? by : `${by};host=${service.hostname}`
}

/** The service hostname out of a `forwarded` header; undefined when there is none. */
export function forwardedHost(forwarded: string | undefined): string | undefined {
  const start = forwarded?.indexOf('host=') ?? -1
  if (forwarded === undefined || start < 0) return undefined
  const rest = forwarded.slice(start + 5)
  const end = rest.search(/[;,]/)
  const host = (end < 0 ? rest : rest.slice(0, end)).replaceAll('"', '')
  return host.length > 0 && host.length <= 253 ? host : undefined
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
    forwarded: forwardedOf(source, service),
    traceparent: newTraceparent(),
  }
}
