// SPDX-License-Identifier: Apache-2.0
// What a filter of the access log can ask about a connection: the fields of its line, by their names, and two labels of its metrics.

import { formatSocketAddress } from '../../model/address.ts'
import type { SocketAddress } from '../../model/types.ts'
import type { Result } from '../../result.ts'
import { bytesReceived, bytesSent, errorText } from '../access-line.ts'
import { type ConnectionRecord, flagOf } from '../connection-record.ts'
import { type AccessFilter, type Field, type FieldTable, parseAccessFilter } from './parse.ts'

const text = (read: (record: ConnectionRecord) => string | undefined): Field<ConnectionRecord> => ({
  kind: 'text',
  read: (record) => read(record) ?? '',
})
const number = (read: (record: ConnectionRecord) => number): Field<ConnectionRecord> => ({
  kind: 'number',
  read,
})
const address = (at: SocketAddress | undefined): string | undefined => at && formatSocketAddress(at)

const FIELDS: FieldTable<ConnectionRecord> = {
  'src.addr': text(({ sourceAddress }) => address(sourceAddress)),
  'src.workload': text(({ source }) => source.name),
  'src.namespace': text(({ source }) => source.namespace),
  'src.identity': text(({ source }) => source.identity),
  'src.cluster': text(({ source }) => source.labels?.clusterId),
  'via.waypoint': text(({ via }) => via?.name),
  'via.identity': text(({ via }) => via?.identity),
  'via.addr': text(({ via }) => address(via?.address)),
  'dst.addr': text(({ destinationAddress }) => address(destinationAddress)),
  'dst.hbone_addr': text(({ hboneTarget }) => address(hboneTarget)),
  'dst.service': text(({ service }) => service?.hostname),
  'dst.workload': text(({ destination }) => destination.name),
  'dst.namespace': text(({ destination }) => destination.namespace),
  'dst.identity': text(({ destination }) => destination.identity),
  'dst.cluster': text(({ destination }) => destination.labels?.clusterId),
  direction: text(({ direction }) => direction),
  bytes_sent: number(bytesSent),
  bytes_recv: number(bytesReceived),
  /** Milliseconds. */
  duration: number(({ durationMs }) => durationMs),
  error: text(errorText),
  policy: text(({ policy }) => policy),
  response_flags: text(({ end }) => flagOf(end)),
  connection_security_policy: text(({ security }) => security),
}

/** Makes the filter of an expression over these fields. */
export function parseConnectionFilter(
  expression: string,
): Result<AccessFilter<ConnectionRecord>, string> {
  return parseAccessFilter(expression, FIELDS)
}
