// SPDX-License-Identifier: Apache-2.0
// Reads the ports of a NetworkPolicy's rule, as far as they are TCP's.

import type { NetworkPort } from '../../mesh/model/network-policy.ts'
import { isAbsent, shown } from '../istio-api/flaw.ts'
import type { ObjectReader } from '../reading/object-reader.ts'
import { readFields } from './peer-reader.ts'

const PORT_FIELDS = ['protocol', 'port', 'endPort']
const OTHER_PROTOCOLS: readonly unknown[] = ['UDP', 'SCTP']

/** `any`: every port; undefined where it is of another protocol, or cannot be read. */
export function readPort(
  reader: ObjectReader,
  field: string,
  value: unknown,
): NetworkPort | 'any' | undefined {
  const fields = readFields(reader, field, value, PORT_FIELDS)
  if (fields === undefined) return undefined
  const { protocol, port, endPort } = fields
  if (OTHER_PROTOCOLS.includes(protocol)) return undefined
  if (!isAbsent(protocol) && protocol !== 'TCP') {
    reader.note(`${field}.protocol`, `${shown(protocol)} is not TCP, UDP or SCTP`)
    return undefined
  }
  if (typeof port === 'string' && port !== '' && isAbsent(endPort))
    return { kind: 'name', name: port }
  if (isAbsent(port) && isAbsent(endPort)) return 'any'
  const first = reader.port(`${field}.port`, port)
  const last = isAbsent(endPort) ? first : reader.port(`${field}.endPort`, endPort)
  if (first === undefined || last === undefined) return undefined
  if (last >= first) return { kind: 'range', first, last }
  reader.note(`${field}.endPort`, `is less than the port ${first}`)
  return undefined
}
