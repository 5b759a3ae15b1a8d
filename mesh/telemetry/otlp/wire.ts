// SPDX-License-Identifier: Apache-2.0
// What messages of OTLP have in common (opentelemetry-proto, stable since 1.0), in protobuf: written field by field, since a scrape of
// 10,000 label sets as a tree of messages would cost hundreds of megabytes of garbage.

import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'

/** Whose telemetry it is, e.g. service.name. */
export type Resource = Readonly<Record<string, string>>

/** A request to a collector that is ready to go. */
export interface EncodedRequest {
  readonly body: Uint8Array
  /** Data points, log records or spans in it. */
  readonly items: number
}

const SCOPE = 'ambit'

/** Begins an Export...ServiceRequest of any signal; what is written next is metrics, log records or spans, as field 2. */
export function beginRequest(resource: Resource): BinaryWriter {
  return beginResource(new BinaryWriter(), resource)
}

/** What is written next is of another resource. */
export function nextResource(writer: BinaryWriter, resource: Resource): void {
  beginResource(writer.join().join(), resource)
}

function beginResource(writer: BinaryWriter, resource: Resource): BinaryWriter {
  open(writer, 1)
  open(writer, 1)
  for (const name in resource) writeAttribute(writer, 1, name, resource[name])
  writer.join()
  open(writer, 2)
  open(writer, 1).tag(1, WireType.LengthDelimited).string(SCOPE).join()
  return writer
}

/** The bytes of what beginRequest() has begun. */
export function finishRequest(writer: BinaryWriter): Uint8Array {
  return writer.join().join().finish()
}

/** Begins a message as this field; join() ends it. */
export function open(writer: BinaryWriter, field: number): BinaryWriter {
  return writer.tag(field, WireType.LengthDelimited).fork()
}

/** A KeyValue; what is undefined is left out. */
export function writeAttribute(
  writer: BinaryWriter,
  field: number,
  name: string,
  value: string | number | undefined,
): void {
  if (value === undefined) return
  open(writer, field).tag(1, WireType.LengthDelimited).string(name)
  open(writer, 2)
  if (typeof value === 'string') writer.tag(1, WireType.LengthDelimited).string(value)
  else writer.tag(3, WireType.Varint).int64(Math.round(value))
  writer.join().join()
}

/** Milliseconds since the epoch as nanoseconds; to the microsecond, which is what the clock has. */
export function writeTime(writer: BinaryWriter, field: number, ms: number): void {
  writer.tag(field, WireType.Bit64).fixed64(BigInt(Math.round(ms * 1_000)) * 1_000n)
}
