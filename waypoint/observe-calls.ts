// SPDX-License-Identifier: Apache-2.0
// What becomes of requests and calls, told: in the access log, the counters, and the spans of what is traced.

import { Bucket } from '../mesh/async/bucket.ts'
import {
  ACCESS_MESSAGE,
  type AccessFields,
  accessFields,
  accessLevel,
} from '../mesh/telemetry/access-line.ts'
import { flagOf, partyOf } from '../mesh/telemetry/connection-record.ts'
import type { Logger } from '../mesh/telemetry/log.ts'
import { formatSocketAddress } from '../mesh/model/address.ts'
import { excerpt } from '../mesh/telemetry/excerpt.ts'
import { type WaypointAccessLog } from './access-log.ts'
import { grpcFault } from './exchange/grpc.ts'
import type { RequestRecord } from './exchange/types.ts'
import type { Call } from './listener/call.ts'
import type { RoutedAnswer, RoutedForward } from './router/types.ts'
import type { CallObserver } from './listener/observer.ts'
import type { DeniedAnswer } from './policy/enforcement.ts'
import type { PolicyRefusal } from './policy/policy-gate.ts'
import type { WaypointMetrics } from './metrics.ts'
import { provenIdentity, securityOf } from './seen-parties.ts'
import { type Trace, traceOf } from './tracing/tracer.ts'

/** Of callers who got no tunnel, all together: strangers must not fill the log. */
const REFUSAL_LINES = { burst: 100, perSecond: 5 }
const REQUEST_MESSAGE = 'request complete'

export interface ObserverParts {
  /** For callers that got nothing. */
  readonly log: Logger
  readonly accessLog: WaypointAccessLog
  readonly metrics: WaypointMetrics
  /** Tells of a traced request; undefined: none is. */
  readonly trace: ((call: Call, record: RequestRecord, trace: Trace) => void) | undefined
}

/** Makes the observer. */
export function observeCalls({ log, accessLog, metrics, trace }: ObserverParts): CallObserver {
  const refusals = new Bucket(REFUSAL_LINES)
  return {
    ended({ source, target, service, startedAt }, { end, message, by, endpoint, ...bytes }) {
      metrics.callEnded(flagOf(end))
      const level = accessLevel(end)
      if (!accessLog.isEnabled(level)) return
      const durationMs = performance.now() - startedAt
      const fields = accessFields({
        direction: 'inbound',
        startedAt: performance.timeOrigin + startedAt,
        durationMs,
        source: partyOf(source.workload, source.identity),
        sourceAddress: source.address,
        destination: partyOf(endpoint?.workload, endpoint?.identity),
        destinationAddress: endpoint?.address,
        hboneTarget: target,
        service,
        security: securityOf(source),
        ...bytes,
        end,
        message,
        policy: by?.policy,
        rule: by?.rule,
        madeOf: by?.madeOf,
        reports: undefined,
      })
      accessLog.write(level, source.address.address, { fields, durationMs }, ACCESS_MESSAGE)
    },
    request(call, record) {
      const { source, service } = call
      metrics.request(record)
      metrics.requests.add(source, service, record)
      const traced = traceOf(record.outcome)
      if (traced !== undefined) trace?.(call, record, traced)
      const level = hasFailed(record) ? 'error' : 'info'
      if (!accessLog.isEnabled(level)) return
      const { durationMs } = record
      const fields = requestFields(call, record, traced)
      accessLog.write(level, source.address.address, { fields, durationMs }, REQUEST_MESSAGE)
    },
    mirrored: (end) => metrics.mirrored(end),
    refused({ peer, peerIdentity, reason, message }) {
      metrics.refused(reason)
      if (!refusals.take()) return
      const fields = {
        'src.addr': peer && formatSocketAddress(peer),
        'src.identity': peerIdentity,
        reason,
        error: message,
      }
      log.warn(fields, 'a caller was refused')
    },
  }
}

/** Whether the app, or the way to it, is at fault, or a policy said no: a line of that is never left out by a sample. */
function hasFailed(record: RequestRecord): boolean {
  const { status, flag } = record
  if (status >= 500 || status === 0 || flag === 'RBAC') return true
  return grpcFault(record)?.isServers === true
}

function requestFields(
  { source: { address, workload, identity }, service }: Call,
  record: RequestRecord,
  trace: Trace | undefined,
): AccessFields {
  const endpoint = record.endpoint?.workload
  return {
    'src.addr': formatSocketAddress(address),
    'src.workload': workload?.name,
    'src.namespace': workload?.namespace,
    'src.identity': identity,
    'src.cluster': workload?.clusterId,
    'dst.addr': record.endpoint && formatSocketAddress(record.endpoint.address),
    'dst.service': service?.hostname,
    'dst.workload': endpoint?.name,
    'dst.namespace': endpoint?.namespace,
    'dst.identity': endpoint && provenIdentity(endpoint),
    'dst.cluster': endpoint?.clusterId,
    protocol: record.protocol,
    method: record.method,
    path: excerpt(record.target),
    authority: excerpt(record.authority),
    route: routeOf(record.outcome),
    policy: refusalOf(record.outcome)?.by?.policy,
    rule: refusalOf(record.outcome)?.by?.rule,
    response_code: record.status,
    grpc_status: record.grpcStatus,
    response_flags: record.flag,
    bytes_recv: record.requestBytes,
    bytes_sent: record.responseBytes,
    attempts: record.attempts,
    trace_id: trace?.traceId,
    duration: `${Math.round(record.durationMs)}ms`,
    error: record.message ?? refusalOf(record.outcome)?.message ?? faultOf(record.outcome),
  }
}

/** Which rule took it, as `namespace/name/rule`; undefined: none did. */
function routeOf(outcome: RequestRecord['outcome']): string | undefined {
  const route = isRouted(outcome) ? outcome.route : undefined
  return route && `${route.namespace}/${route.name}/${route.rule}`
}

/** Why it was not let through. */
function refusalOf(outcome: RequestRecord['outcome']): PolicyRefusal | undefined {
  const isDenied = (each: RequestRecord['outcome']): each is DeniedAnswer =>
    each !== undefined && 'refusal' in each
  return isDenied(outcome) ? outcome.refusal : undefined
}

/** Why its rule could not be followed. */
function faultOf(outcome: RequestRecord['outcome']): string | undefined {
  return isRouted(outcome) && outcome.kind === 'answer' ? outcome.message : undefined
}

function isRouted(outcome: RequestRecord['outcome']): outcome is RoutedForward | RoutedAnswer {
  return outcome !== undefined && 'route' in outcome
}
