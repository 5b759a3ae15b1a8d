// SPDX-License-Identifier: Apache-2.0
// Access lines as OTLP's log records.

import { WireType } from '@bufbuild/protobuf/wire'
import {
  beginRequest,
  finishRequest,
  open,
  type Resource,
  writeAttribute,
  writeTime,
} from './wire.ts'

/** An access line as a log record. */
export interface LogLine {
  readonly severity: 'info' | 'error'
  /** Milliseconds since the epoch. */
  readonly atMs: number
  readonly body: string
  readonly attributes: Readonly<Record<string, string | number | undefined>>
}

const SEVERITIES = { info: 9, error: 17 } as const

/** An ExportLogsServiceRequest. */
export function encodeLogs(
  resource: Resource,
  lines: readonly LogLine[],
  observedMs: number,
): Uint8Array {
  const writer = beginRequest(resource)
  for (const { severity, atMs, body, attributes } of lines) {
    open(writer, 2)
    writeTime(writer, 1, atMs)
    writer.tag(2, WireType.Varint).int32(SEVERITIES[severity])
    writer.tag(3, WireType.LengthDelimited).string(severity.toUpperCase())
    open(writer, 5).tag(1, WireType.LengthDelimited).string(body).join()
    for (const name in attributes) writeAttribute(writer, 6, name, attributes[name])
    writeTime(writer, 11, observedMs)
    writer.join()
  }
  return finishRequest(writer)
}
