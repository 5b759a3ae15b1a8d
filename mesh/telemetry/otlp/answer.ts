// SPDX-License-Identifier: Apache-2.0
// What a collector's answer means: taken, taken in part, to be sent again, or not wanted (OTLP/HTTP, "Response" and "Failures").

import type { IncomingMessage } from 'node:http'
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire'

/** What became of a request. */
export type Outcome =
  | { readonly kind: 'done'; readonly partial?: PartialSuccess }
  | { readonly kind: 'again'; readonly reason: string; readonly afterMs?: number | undefined }
  | { readonly kind: 'refused'; readonly reason: string }

/** What a collector has to say of a request that it took. */
export interface PartialSuccess {
  /** Data points, log records or spans that it did not take. */
  readonly rejected: number
  readonly message: string
}

/** Answers for which the specification has a request sent again. */
const RETRIED: ReadonlySet<number> = new Set([429, 502, 503, 504])
/** A collector may ask to be left alone for so long at most. */
const LONGEST_RETRY_AFTER_MS = 300_000
const PROTOBUF = 'application/x-protobuf'

/** Pure, but for the clock of a Retry-After that is a date; `nowMs` since the epoch. */
export function outcomeOf(
  { statusCode = 0, headers }: Pick<IncomingMessage, 'statusCode' | 'headers'>,
  body: Uint8Array,
  nowMs: number,
): Outcome {
  if (statusCode >= 200 && statusCode < 300) return taken(headers['content-type'] ?? '', body)
  // Redirects are among those that are not followed: the headers are meant for nobody else.
  const reason = `HTTP status ${statusCode}`
  if (!RETRIED.has(statusCode)) return { kind: 'refused', reason }
  return { kind: 'again', reason, afterMs: retryAfterMs(headers['retry-after'], nowMs) }
}

function taken(contentType: string, body: Uint8Array): Outcome {
  // Whoever answers with a page is a proxy or a wrong port, and has kept nothing.
  if (contentType.startsWith('text/html'))
    return { kind: 'refused', reason: 'the answer is a web page, not that of an OTLP receiver' }
  if (!contentType.startsWith(PROTOBUF)) return { kind: 'done' }
  try {
    const partial = partialSuccess(body)
    return partial === undefined ? { kind: 'done' } : { kind: 'done', partial }
  } catch {
    return { kind: 'refused', reason: 'the answer cannot be read as OTLP' }
  }
}

/** Of an Export...ServiceResponse, which has the same form for all signals; undefined where all was taken in silence. */
function partialSuccess(body: Uint8Array): PartialSuccess | undefined {
  let rejected = 0
  let message = ''
  each(body, (field, wireType, outer) => {
    if (field !== 1 || wireType !== WireType.LengthDelimited) return false
    each(outer.bytes(), (inner, innerType, reader) => {
      if (inner === 1 && innerType === WireType.Varint) rejected = Number(reader.int64())
      else if (inner === 2 && innerType === WireType.LengthDelimited) message = reader.string()
      else return false
      return true
    })
    return true
  })
  return rejected === 0 && message === '' ? undefined : { rejected: Math.max(0, rejected), message }
}

/** Goes through the fields of a message; what `take` does not read is left out. Throws on what is no message. */
function each(
  body: Uint8Array,
  take: (field: number, wireType: WireType, reader: BinaryReader) => boolean,
): void {
  const reader = new BinaryReader(body)
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag()
    if (!take(field, wireType, reader)) reader.skip(wireType, field)
  }
}

/** Seconds, or a date. */
function retryAfterMs(header: string | undefined, nowMs: number): number | undefined {
  if (header === undefined) return undefined
  const seconds = Number(header)
  const ms = Number.isFinite(seconds) ? seconds * 1_000 : Date.parse(header) - nowMs
  return ms > 0 ? Math.min(ms, LONGEST_RETRY_AFTER_MS) : undefined
}
