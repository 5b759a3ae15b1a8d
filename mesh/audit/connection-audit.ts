// SPDX-License-Identifier: Apache-2.0
// What the audit has to say of a connection that is over: that a policy refused it, that a change closed it, or that a policy matches
// which is on trial or only wants to know. Pure.

import { formatSocketAddress } from '../model/address.ts'
import type { SocketAddress } from '../model/types.ts'
import { objectOf } from '../policy/verdict-words.ts'
import type { ConnectionRecord, Party } from '../telemetry/connection-record.ts'
import { END_REASONS, type EndReason } from '../telemetry/end-reason.ts'
import type { AuditEvent, AuditKind } from './event.ts'

const KINDS: ReadonlyMap<EndReason, AuditKind> = new Map([
  ['policyDenied', 'connection.denied'],
  ['policyMissing', 'connection.denied'],
  ['notTheWaypoint', 'connection.denied'],
  ['handshakeRevoked', 'connection.denied'],
  ['policyChanged', 'connection.closed'],
  ['certificateExpired', 'connection.closed'],
  ['peerDistrusted', 'connection.closed'],
  ['certificateRevoked', 'connection.closed'],
])

/**
 * The events of a connection, for most none. They are those of the pod whose policy decided: the caller's end of a call that was refused
 * at the other tells what it was answered, and names no policy.
 */
export function connectionEvents(record: ConnectionRecord): readonly AuditEvent[] {
  if (!isOnRecord(record)) return NONE
  const kind = KINDS.get(record.end)
  const { reports } = record
  const events: AuditEvent[] = []
  if (kind !== undefined) events.push(ended(record, kind))
  if (reports?.dryRun !== undefined)
    events.push(reported(record, 'connection.dryRun', reports.dryRun))
  if (reports?.audit !== undefined)
    events.push(reported(record, 'connection.audited', reports.audit))
  return events
}

const NONE: readonly AuditEvent[] = []

/** Whether there is anything to say: asked of every connection, before a record of it is made. */
export function isOnRecord({
  direction,
  end,
  reports,
  policy,
}: Pick<ConnectionRecord, 'direction' | 'end' | 'reports' | 'policy'>): boolean {
  if (direction === 'outbound') return policy !== undefined && KINDS.has(end)
  return reports !== undefined || KINDS.has(end)
}

function ended(record: ConnectionRecord, kind: AuditKind): AuditEvent {
  const { end, message, policy, rule, madeOf } = record
  const reason = END_REASONS[end].text
  const object = policy && objectOf({ key: policy, madeOf: madeOf ?? '' })
  return {
    ...about(record, kind),
    object,
    rule,
    why: message === undefined || message === reason ? reason : `${reason}: ${message}`,
  }
}

function reported(record: ConnectionRecord, kind: AuditKind, why: string): AuditEvent {
  return { ...about(record, kind), why }
}

function about(record: ConnectionRecord, kind: AuditKind): Omit<AuditEvent, 'why'> {
  const { direction, source, destination, sourceAddress, startedAt, durationMs, security } = record
  const target = record.hboneTarget ?? record.destinationAddress
  const from = text(sourceAddress)
  return {
    kind,
    time: Math.round(startedAt + durationMs),
    namespace: (direction === 'inbound' ? destination : source).namespace ?? '',
    who: source.identity ?? podOf(source) ?? from ?? 'unknown',
    what: [podOf(destination), text(target)].filter(Boolean).join(' at '),
    details: {
      'src.addr': from,
      'src.workload': source.name,
      'src.namespace': source.namespace,
      ...(record.via && { 'via.waypoint': record.via.name, 'via.identity': record.via.identity }),
      security,
      service: record.service?.hostname,
    },
  }
}

/** An address has a pod's name by discovery, which proves nothing: so it stands after what was proven. */
function podOf({ namespace, name }: Party): string | undefined {
  return name === undefined ? undefined : `pod ${namespace ?? ''}/${name}`
}

function text(address: SocketAddress | undefined): string | undefined {
  return address === undefined ? undefined : formatSocketAddress(address)
}
