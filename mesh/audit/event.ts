// SPDX-License-Identifier: Apache-2.0
// What the audit says of a thing that was refused, ended, granted or put on record: one line of JSON. Who, what, by which object and
// rule, and why; the same words whether an agent or the controller writes it.

import { excerpt } from '../telemetry/excerpt.ts'

export const AUDIT_KINDS = [
  /** A call into a pod was refused by policy. */
  'connection.denied',
  /** An open connection was closed, because what it was let in by has changed. */
  'connection.closed',
  /** A policy of the action AUDIT matches a call. */
  'connection.audited',
  /** What policies on trial (dry run) would have made of a call. */
  'connection.dryRun',
  /** The same of a request, by a waypoint. */
  'request.denied',
  'request.audited',
  'request.dryRun',
  'certificate.issued',
  'certificate.refused',
  'enrolment.refused',
  /** Lines were left out, because their owner causes too many. */
  'leftOut',
] as const

export type AuditKind = (typeof AUDIT_KINDS)[number]

export interface AuditEvent {
  readonly kind: AuditKind
  /** Milliseconds since the epoch. */
  readonly time: number
  /** Whose audit it is: that of the pod called, of the certificate's owner. Empty for what has no namespace. */
  readonly namespace: string
  /** Who did it or asked for it: an identity, where it was proven, else an address. */
  readonly who: string
  /** What it was done to or asked for. */
  readonly what: string
  /** The object that decided, as `<kind> <namespace>/<name>`; undefined where a rule of the mesh did. */
  readonly object?: string | undefined
  /** The place in that object's `spec.rules`, from 0. */
  readonly rule?: number | undefined
  readonly why: string
  /** What else there is to say, by kind: addresses, serial numbers, counts. */
  readonly details?: Readonly<Record<string, string | number | undefined>>
}

/** Its line, without the line feed. Whatever others chose to be called is cut: it is written as often as they come. */
export function auditLine(event: AuditEvent): string {
  const { kind, time, namespace, who, what, object, rule, why, details } = event
  return JSON.stringify({
    time: new Date(time).toISOString(),
    audit: kind,
    namespace: excerpt(namespace),
    who: excerpt(who),
    what: excerpt(what),
    object: object === undefined ? undefined : excerpt(object),
    rule,
    why: excerpt(why),
    ...(details && excerpts(details)),
  })
}

function excerpts(details: NonNullable<AuditEvent['details']>): Record<string, unknown> {
  const cut: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(details))
    cut[name] = typeof value === 'string' ? excerpt(value) : value
  return cut
}
