// SPDX-License-Identifier: Apache-2.0
// Spans as OTLP's. A span belongs to the workload that it is about, not to the proxy that tells of it: each says its own resource.

import { WireType } from '@bufbuild/protobuf/wire'
import {
  beginRequest,
  finishRequest,
  nextResource,
  open,
  type Resource,
  writeAttribute,
  writeTime,
} from './wire.ts'

export type SpanAttributes = Readonly<Record<string, string | number | undefined>>

export interface Span {
  /** Whose it is. Spans with the very same object are told together. */
  readonly resource: Resource
  /** 32 hexadecimal digits. */
  readonly traceId: string
  /** 16 of them. */
  readonly spanId: string
  /** Undefined: it is the root of its trace. */
  readonly parentId: string | undefined
  /** W3C's tracestate, as it came. */
  readonly state: string | undefined
  readonly kind: 'server' | 'client'
  readonly name: string
  /** Milliseconds since the epoch. */
  readonly startMs: number
  readonly endMs: number
  readonly attributes: SpanAttributes
  /** Why it failed; undefined: it did not. */
  readonly fault: string | undefined
}

const KINDS = { server: 2, client: 3 } as const
const ERROR = 2
/** SpanFlags: sampled, as all that are told; whether the parent is remote is known, and it is in the one case. */
const FLAGS = { client: 0x301, server: 0x101 } as const

/** An ExportTraceServiceRequest. */
export function encodeSpans(spans: readonly Span[]): Uint8Array {
  const [first, ...others] = [...Map.groupBy(spans, ({ resource }) => resource)]
  if (first === undefined) return new Uint8Array()
  const writer = beginRequest(first[0])
  for (const span of first[1]) writeSpan(writer, span)
  for (const [resource, own] of others) {
    nextResource(writer, resource)
    for (const span of own) writeSpan(writer, span)
  }
  return finishRequest(writer)
}

function writeSpan(writer: ReturnType<typeof beginRequest>, span: Span): void {
  open(writer, 2)
  writer.tag(1, WireType.LengthDelimited).bytes(Buffer.from(span.traceId, 'hex'))
  writer.tag(2, WireType.LengthDelimited).bytes(Buffer.from(span.spanId, 'hex'))
  if (span.state !== undefined) writer.tag(3, WireType.LengthDelimited).string(span.state)
  if (span.parentId !== undefined)
    writer.tag(4, WireType.LengthDelimited).bytes(Buffer.from(span.parentId, 'hex'))
  writer.tag(5, WireType.LengthDelimited).string(span.name)
  writer.tag(6, WireType.Varint).int32(KINDS[span.kind])
  writeTime(writer, 7, span.startMs)
  writeTime(writer, 8, span.endMs)
  for (const name in span.attributes) writeAttribute(writer, 9, name, span.attributes[name])
  if (span.fault !== undefined) {
    open(writer, 15).tag(2, WireType.LengthDelimited).string(span.fault)
    writer.tag(3, WireType.Varint).int32(ERROR).join()
  }
  writer.tag(16, WireType.Bit32).fixed32(FLAGS[span.kind])
  writer.join()
}
