// SPDX-License-Identifier: Apache-2.0
// The spans of a request that is over: the caller's call, told as the caller's own, and the work of the endpoint in it, told as the
// endpoint's. So a trace names the workloads that talk, and not the waypoint between them, which each span has as an attribute. Attributes
// are OpenTelemetry's of HTTP (semantic conventions 1.3x, stable), and Istio's of source and destination. Pure.

import type { Service, SocketAddress, Workload } from '../../mesh/model/types.ts'
import { excerpt } from '../../mesh/telemetry/excerpt.ts'
import type { Span, SpanAttributes } from '../../mesh/telemetry/otlp/encode-spans.ts'
import type { Resource } from '../../mesh/telemetry/otlp/wire.ts'
import { grpcFault } from '../exchange/grpc.ts'
import type { RequestRecord, RequestSource } from '../exchange/types.ts'
import { provenIdentity } from '../seen-parties.ts'
import type { Trace } from './tracer.ts'

/** What was called: a call of the listener's, as far as spans name it. */
export interface TracedCall {
  readonly source: RequestSource
  readonly target: SocketAddress
  readonly service: Pick<Service, 'hostname' | 'name' | 'namespace'> | undefined
}

/** The waypoint itself, as spans name it. */
export interface WaypointName {
  readonly namespace: string
  readonly gateway: string
  readonly pod: string
  readonly cluster: string
}

/** Methods that a name may have; others are one (semantic conventions: `_OTHER`). */
const METHODS: ReadonlySet<string> = new Set([
  'CONNECT',
  'DELETE',
  'GET',
  'HEAD',
  'OPTIONS',
  'PATCH',
  'POST',
  'PUT',
  'TRACE',
])
const SERVER_FAULT = 500
const CLIENT_FAULT = 400
const NOBODY: Resource = { 'service.name': 'unknown' }

export class SpanMaker {
  readonly #waypoint: SpanAttributes
  /** A workload is one resource, so that its spans are told together. */
  readonly #resources = new WeakMap<Workload, Resource>()

  constructor({ namespace, gateway, pod, cluster }: WaypointName) {
    this.#waypoint = {
      'istio.namespace': namespace,
      'istio.cluster_id': cluster,
      'ambit.waypoint': `${namespace}/${gateway}`,
      'ambit.waypoint.pod': pod,
    }
  }

  /** The caller's span, and the endpoint's where one was reached. */
  spansOf(call: TracedCall, record: RequestRecord, trace: Trace): readonly Span[] {
    const { source, service } = call
    const { startedAt, durationMs, endpoint } = record
    const method = METHODS.has(record.method) ? record.method : 'HTTP'
    const common = {
      traceId: trace.traceId,
      state: trace.state,
      name: service === undefined ? method : `${method} ${service.hostname}`,
      startMs: startedAt,
      endMs: startedAt + durationMs,
    }
    const attributes = {
      ...httpAttributes(call, record),
      ...parties(call, record),
      ...this.#waypoint,
    }
    const client: Span = {
      ...common,
      resource: this.#resourceOf(source.workload),
      spanId: trace.clientSpanId,
      parentId: trace.parentId,
      kind: 'client',
      attributes: {
        ...attributes,
        ...(record.attempts > 1 && { 'http.request.resend_count': record.attempts - 1 }),
        ...(service !== undefined && { 'peer.service': service.name }),
      },
      fault: faultOf(record, CLIENT_FAULT),
    }
    if (endpoint === undefined) return [client]
    const server: Span = {
      ...common,
      // Outside the mesh nobody knows who it is but by the service that it serves.
      resource:
        endpoint.workload === undefined && service !== undefined
          ? { 'service.name': `${service.name}.${service.namespace}` }
          : this.#resourceOf(endpoint.workload),
      spanId: trace.serverSpanId,
      parentId: trace.clientSpanId,
      kind: 'server',
      attributes,
      fault: faultOf(record, SERVER_FAULT),
    }
    return [client, server]
  }

  #resourceOf(workload: Workload | undefined): Resource {
    if (workload === undefined) return NOBODY
    const known = this.#resources.get(workload)
    if (known !== undefined) return known
    const { name, namespace, canonicalName, canonicalRevision, clusterId, node } = workload
    const resource: Resource = {
      // As Istio's proxies name the workload that they stand for.
      'service.name': `${canonicalName || name}.${namespace}`,
      ...(canonicalRevision !== '' && { 'service.version': canonicalRevision }),
      'k8s.cluster.name': clusterId,
      'k8s.namespace.name': namespace,
      'k8s.pod.name': name,
      ...(node !== '' && { 'k8s.node.name': node }),
    }
    this.#resources.set(workload, resource)
    return resource
  }
}

function httpAttributes(
  { source, target, service }: TracedCall,
  { method, protocol, authority, status, endpoint, ...record }: RequestRecord,
): SpanAttributes {
  const isKnown = METHODS.has(method)
  const question = record.target.indexOf('?')
  return {
    'http.request.method': isKnown ? method : '_OTHER',
    ...(!isKnown && { 'http.request.method_original': excerpt(method) }),
    'url.scheme': 'http',
    // Without the query, which may hold secrets.
    'url.path': excerpt(question < 0 ? record.target : record.target.slice(0, question)),
    'server.address': service?.hostname ?? excerpt(authority),
    'server.port': target.port,
    'client.address': source.address?.address,
    'network.protocol.name': 'http',
    'network.protocol.version': protocol.slice('HTTP/'.length),
    'network.peer.address': endpoint?.address.address,
    'network.peer.port': endpoint?.address.port,
    'http.response.status_code': status === 0 ? undefined : status,
    'http.request.body.size': record.requestBytes,
    'http.response.body.size': record.responseBytes,
    'error.type': errorType(status, record),
    ...(record.isGrpc && rpcAttributes(record)),
    response_flags: record.flag,
  }
}

/** A response flag of ours where there is one, else the status of HTTP or of gRPC (semantic conventions, error.type). */
function errorType(
  status: number,
  record: Pick<RequestRecord, 'flag' | 'isGrpc' | 'grpcStatus'>,
): string | undefined {
  if (record.flag !== '-') return record.flag
  if (status >= CLIENT_FAULT || status === 0) return String(status)
  const fault = grpcFault(record)
  return fault && String(fault.status)
}

/** Of a call of gRPC: its target is `/service/method`. */
function rpcAttributes({
  target,
  grpcStatus,
}: Pick<RequestRecord, 'target' | 'grpcStatus'>): SpanAttributes {
  const [, service, method] = /^\/([^/?]+)\/([^/?]+)$/.exec(target) ?? []
  return {
    'rpc.system': 'grpc',
    'rpc.service': service && excerpt(service),
    'rpc.method': method && excerpt(method),
    'rpc.grpc.status_code': grpcStatus,
  }
}

function parties(
  { source }: TracedCall,
  { endpoint }: Pick<RequestRecord, 'endpoint'>,
): SpanAttributes {
  const { workload: from, identity } = source
  const to = endpoint?.workload
  return {
    'istio.source_workload': from?.workloadName,
    'istio.source_namespace': from?.namespace,
    'istio.source_cluster_id': from?.clusterId,
    'istio.source_canonical_service': from?.canonicalName,
    'istio.source_canonical_revision': from?.canonicalRevision,
    'istio.source_instance_name': from?.name,
    'ambit.source_principal': identity,
    'istio.destination_workload': to?.workloadName,
    'istio.destination_namespace': to?.namespace,
    'istio.destination_cluster_id': to?.clusterId,
    'istio.destination_canonical_service': to?.canonicalName,
    'istio.destination_canonical_revision': to?.canonicalRevision,
    'istio.destination_instance_name': to?.name,
    'ambit.destination_principal': to && provenIdentity(to),
  }
}

/** Semantic conventions, span status: a caller's call fails by any 4xx, a server's work by what the server did. */
function faultOf(
  record: RequestRecord,
  from: typeof CLIENT_FAULT | typeof SERVER_FAULT,
): string | undefined {
  const { status, flag, message } = record
  if (status === 0 || status >= from) return message ?? (flag === '-' ? '' : flag)
  // Of a call of gRPC the status of HTTP says nothing (semantic conventions of gRPC): for its client all but OK failed.
  const fault = grpcFault(record)
  if (fault === undefined || (from === SERVER_FAULT && !fault.isServers)) return undefined
  return message ?? `grpc-status ${fault.status}`
}
