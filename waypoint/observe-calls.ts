// SPDX-License-Identifier: Apache-2.0
// What becomes of requests and calls, told: in the access log, the counters, and the spans of what is traced.

import { Bucket } from '../mesh/async/bucket.ts'
import { ACCESS_MESSAGE, accessFields, accessLevel } from '../mesh/telemetry/access-line.ts'
import { flagOf, partyOf } from '../mesh/telemetry/connection-record.ts'
import type { Logger } from '../mesh/telemetry/log.ts'
import { formatSocketAddress } from '../mesh/model/address.ts'
import { jsonOfFields } from '../mesh/telemetry/plain-lines.ts'
import { type WaypointAccessLog } from './access-log.ts'
import type { RequestRecord } from './exchange/types.ts'
import { hasFailed } from './failed-request.ts'
import type { Call } from './listener/call.ts'
import type { CallObserver } from './listener/observer.ts'
import type { WaypointMetrics } from './metrics.ts'
import { RequestLine } from './request-line.ts'
import { securityOf } from './seen-parties.ts'
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
      const line = { fields, json: jsonOfFields(fields), durationMs }
      accessLog.write(level, source.address.address, line, ACCESS_MESSAGE)
    },
    request(call, record) {
      const { source, service } = call
      metrics.request(record)
      metrics.requests.add(source, service, record)
      const traced = traceOf(record.outcome)
      if (traced !== undefined) trace?.(call, record, traced)
      // A line of what went wrong, or that a policy said no to, is never left out by a sample.
      const level = record.flag === 'RBAC' || hasFailed(record) ? 'error' : 'info'
      if (!accessLog.isEnabled(level)) return
      const line = new RequestLine(call, record, traced)
      accessLog.write(level, source.address.address, line, REQUEST_MESSAGE)
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
