// SPDX-License-Identifier: Apache-2.0
// The access line of a connection: its fields by the names of Istio's ztunnel, and how loud it is.

import { formatSocketAddress } from '../model/address.ts'
import type { SocketAddress } from '../model/types.ts'
import type { ConnectionAbout, ConnectionRecord, PassedWaypoint } from './connection-record.ts'
import { END_REASONS, type EndReason } from './end-reason.ts'

/** What every access line says. */
export const ACCESS_MESSAGE = 'connection complete'
export const OPENED_MESSAGE = 'connection opened'

const NOTHING_YET = {
  bytesToUpstream: 0,
  bytesToDownstream: 0,
  durationMs: 0,
  end: 'ok',
  message: undefined,
  policy: undefined,
  rule: undefined,
  madeOf: undefined,
  reports: undefined,
} as const

export type AccessFields = Record<string, string | number | undefined>

/** Ends that are an ordinary part of TCP or of operations: not errors of the mesh or of its configuration. */
const ORDINARY_ENDS: ReadonlySet<EndReason> = new Set([
  'ok',
  'clientReset',
  'serverReset',
  'drained',
  'podRemoved',
])

/** The level of a connection's line. */
export function accessLevel(end: EndReason): 'info' | 'error' {
  return ORDINARY_ENDS.has(end) ? 'info' : 'error'
}

/**
 * The fields of a connection's line; what is unknown is left out by the logger, as undefined. Hot: one literal, to which nothing is
 * added for most connections.
 */
export function accessFields(record: ConnectionRecord): AccessFields {
  const { source, destination, policy, reports, via } = record
  const fields: AccessFields = {
    'src.addr': text(record.sourceAddress),
    'src.workload': source.name,
    'src.namespace': source.namespace,
    'src.identity': source.identity,
    'src.cluster': source.labels?.clusterId,
    'dst.addr': text(record.destinationAddress),
    'dst.hbone_addr': text(record.hboneTarget),
    'dst.service': record.service?.hostname,
    'dst.workload': destination.name,
    'dst.namespace': destination.namespace,
    'dst.identity': destination.identity,
    'dst.cluster': destination.labels?.clusterId,
    direction: record.direction,
    bytes_sent: bytesSent(record),
    bytes_recv: bytesReceived(record),
    duration: `${Math.round(record.durationMs)}ms`,
    error: errorText(record),
  }
  if (via !== undefined) Object.assign(fields, viaFields(via))
  return policy === undefined && reports === undefined
    ? fields
    : Object.assign(fields, policyFields(record))
}

/** What is known of a connection that has just begun. */
export function openedFields(about: ConnectionAbout): AccessFields {
  const record = { ...about, ...NOTHING_YET }
  return {
    ...accessFields(record),
    bytes_sent: undefined,
    bytes_recv: undefined,
    duration: undefined,
  }
}

/** Bytes are told from the point of view of the pod whose record it is. */
export function bytesSent(record: ConnectionRecord): number {
  const { direction, bytesToUpstream, bytesToDownstream } = record
  return direction === 'outbound' ? bytesToUpstream : bytesToDownstream
}

export function bytesReceived(record: ConnectionRecord): number {
  const { direction, bytesToUpstream, bytesToDownstream } = record
  return direction === 'outbound' ? bytesToDownstream : bytesToUpstream
}

function viaFields({ name, identity, address }: PassedWaypoint): AccessFields {
  return { 'via.waypoint': name, 'via.identity': identity, 'via.addr': text(address) }
}

function policyFields({ policy, rule, madeOf, reports }: ConnectionRecord): AccessFields {
  return {
    policy,
    'policy.rule': rule,
    'policy.made_of': madeOf,
    'policy.dry_run': reports?.dryRun,
    'policy.audit': reports?.audit,
  }
}

/** Why it ended; undefined where it ended well. */
export function errorText({ end, message }: ConnectionRecord): string | undefined {
  if (end === 'ok') return undefined
  const reason = END_REASONS[end].text
  return message === undefined || message === reason ? reason : `${reason}: ${message}`
}

function text(address: SocketAddress | undefined): string | undefined {
  return address === undefined ? undefined : formatSocketAddress(address)
}
