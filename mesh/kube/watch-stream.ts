// SPDX-License-Identifier: Apache-2.0
// The wire of a watch: one JSON event per line, over an answer that ends whenever the server likes.
// A line that is cut short or is not an event is an error, never skipped: what it said would be lost.

import { parseJson } from '../json.ts'
import type { KubeObject } from './resources.ts'

export interface WatchEvent<T extends KubeObject> {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR'
  readonly object: T
}

const EVENT_TYPES: ReadonlySet<string> = new Set([
  'ADDED',
  'MODIFIED',
  'DELETED',
  'BOOKMARK',
  'ERROR',
])
const NEWLINE = 0x0a
/** etcd takes at most 1.5 MiB an object; JSON of it may be some times larger. */
const LONGEST_LINE_BYTES = 32 * 1024 * 1024

/** The server sent something that is no watch event. */
export class MalformedWatchEvent extends Error {
  override readonly name = 'MalformedWatchEvent'
}

/** Splits a byte stream into watch events. Throws on malformed, overlong or cut-off lines. */
export async function* readWatchEvents<T extends KubeObject>(
  stream: AsyncIterable<Buffer>,
): AsyncGenerator<WatchEvent<T>, void, undefined> {
  let pending: Buffer[] = []
  let pendingBytes = 0
  for await (const chunk of stream) {
    let start = 0
    for (;;) {
      // Splitting bytes, not text: a character may lie across two chunks.
      const end = chunk.indexOf(NEWLINE, start)
      if (end === -1) break
      pending.push(chunk.subarray(start, end))
      const line = Buffer.concat(pending).toString('utf8')
      pending = []
      pendingBytes = 0
      start = end + 1
      if (line.trim() !== '') yield parseEvent<T>(line)
    }
    if (start < chunk.length) {
      pending.push(chunk.subarray(start))
      pendingBytes += chunk.length - start
      if (pendingBytes > LONGEST_LINE_BYTES)
        throw new MalformedWatchEvent(`a watch event exceeds ${LONGEST_LINE_BYTES} bytes`)
    }
  }
  if (pendingBytes > 0)
    throw new Error(`the watch ended within an event (${pendingBytes} bytes of it)`)
}

function parseEvent<T extends KubeObject>(line: string): WatchEvent<T> {
  // Neither the line nor the parser's message is told: a watched object may be a Secret.
  const parsed = parseJson(line)
  if (!parsed.ok) throw new MalformedWatchEvent(`a watch event cannot be read: ${parsed.error}`)
  const { value } = parsed
  if (
    typeof value !== 'object' ||
    value === null ||
    !('type' in value) ||
    typeof value.type !== 'string' ||
    !EVENT_TYPES.has(value.type) ||
    !('object' in value) ||
    typeof value.object !== 'object' ||
    value.object === null
  )
    throw new MalformedWatchEvent('a watch event has no known type or no object')
  return value as WatchEvent<T>
}
