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
const BYTES = TRACE_ID_BYTES + PARENT_ID_BYTES
const ZERO_SPAN = '0'.repeat(2 * PARENT_ID_BYTES)
/** Random bytes are drawn for this many traces at once: one crypto call per connection would show in a profile. */
const POOL_TRACES = 256

let pool = Buffer.alloc(0)
let used = 0

/** A new trace for one connection; not sampled, as ztunnel's. */
export function newTraceParent(): TraceParent {
  return { traceId: randomHex(TRACE_ID_BYTES), parentId: newSpanId(), isSampled: false }
}

/** A new span: 16 hexadecimal digits, not all zero. */
export function newSpanId(): string {
  const id = randomHex(PARENT_ID_BYTES)
  return id === ZERO_SPAN ? newSpanId() : id
}

function randomHex(bytes: number): string {
  if (used + bytes > pool.length) {
    pool = randomBytes(BYTES * POOL_TRACES)
    used = 0
  }
  used += bytes
  return pool.toString('hex', used - bytes, used)
}

/** Writes the header value: `00-<trace id>-<parent id>-<flags>`. */
export function formatTraceParent({ traceId, parentId, isSampled }: TraceParent): string {
  return `00-${traceId}-${parentId}-${isSampled ? '01' : '00'}`
}
