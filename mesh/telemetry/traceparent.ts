// SPDX-License-Identifier: Apache-2.0
// W3C Trace Context `traceparent`: one random value per connection, the same on the wire and in the logs.

import { randomBytes } from 'node:crypto'

export interface TraceParent {
  /** 32 lower-case hexadecimal digits, not all zero. */
  readonly traceId: string
  /** 16 of them. */
  readonly parentId: string
  readonly isSampled: boolean
}

const TRACE_ID_BYTES = 16
const PARENT_ID_BYTES = 8
const SAMPLED = 0x01
/** Later versions may append fields after another dash (W3C Trace Context 3.2.3). */
const PATTERN = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/

/** A new trace for one connection; not sampled, as ztunnel's. */
export function newTraceParent(): TraceParent {
  const random = randomBytes(TRACE_ID_BYTES + PARENT_ID_BYTES).toString('hex')
  return {
    traceId: random.slice(0, 2 * TRACE_ID_BYTES),
    parentId: random.slice(2 * TRACE_ID_BYTES),
    isSampled: false,
  }
}

/** Writes the header value: `00-<trace id>-<parent id>-<flags>`. */
export function formatTraceParent({ traceId, parentId, isSampled }: TraceParent): string {
  return `00-${traceId}-${parentId}-${isSampled ? '01' : '00'}`
}

/** Reads the header value; undefined for anything malformed. */
export function parseTraceParent(header: string): TraceParent | undefined {
  const [, version, traceId, parentId, flags, rest] = PATTERN.exec(header) ?? []
  if (traceId === undefined || parentId === undefined || flags === undefined) return undefined
  if (version === 'ff' || (version === '00' && rest !== undefined)) return undefined
  if (/^0+$/.test(traceId) || /^0+$/.test(parentId)) return undefined
  return { traceId, parentId, isSampled: (Number.parseInt(flags, 16) & SAMPLED) !== 0 }
}
