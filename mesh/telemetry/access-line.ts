// SPDX-License-Identifier: Apache-2.0
// The access line of a connection: its fields by the names of Istio's ztunnel, and how loud it is.

import { formatSocketAddress } from '../model/address.ts'
import type { SocketAddress } from '../model/types.ts'
import type { ConnectionRecord } from './connection-record.ts'
import { END_REASONS, type EndReason } from './end-reason.ts'

/** What every access line says. */
export const ACCESS_MESSAGE = 'connection complete'

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

/** The fields of a connection's line; what is unknown is left out by the logger, as undefined. */
export function accessFields(record: ConnectionRecord): AccessFields {
  const { source, destination, direction, bytesToUpstream, bytesToDownstream } = record
  // Bytes are told from the point of view of the pod whose record it is.
  const isOutbound = direction === 'outbound'
  return {
    'src.addr': text(record.sourceAddress),
    'src.workload': source.name,
    'src.namespace': source.namespace,
    'src.identity': source.identity,
    'dst.addr': text(record.destinationAddress),
    'dst.hbone_addr': text(record.hboneTarget),
    'dst.service': record.service?.hostname,
    'dst.workload': destination.name,
    'dst.namespace': destination.namespace,
    'dst.identity': destination.identity,
    direction,
    bytes_sent: isOutbound ? bytesToUpstream : bytesToDownstream,
    bytes_recv: isOutbound ? bytesToDownstream : bytesToUpstream,
    duration: `${Math.round(record.durationMs)}ms`,
    error: errorText(record),
    ...policyFields(record),
  }
}

const NO_FIELDS: AccessFields = {}

/** Of most connections there is nothing to say. */
function policyFields({ policy, rule, madeOf, reports }: ConnectionRecord): AccessFields {
  if (policy === undefined && reports === undefined) return NO_FIELDS
  return {
    policy,
    'policy.rule': rule,
    'policy.made_of': madeOf,
    'policy.dry_run': reports?.dryRun,
    'policy.audit': reports?.audit,
  }
}

function errorText({ end, message }: ConnectionRecord): string | undefined {
  if (end === 'ok') return undefined
  const reason = END_REASONS[end].text
  return message === undefined || message === reason ? reason : `${reason}: ${message}`
}

function text(address: SocketAddress | undefined): string | undefined {
  return address === undefined ? undefined : formatSocketAddress(address)
}
