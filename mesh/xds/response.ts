// SPDX-License-Identifier: Apache-2.0
// Writes a DeltaDiscoveryResponse out of resources that are already encoded, field by field.

import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import type { PendingBatch } from './client-view.ts'

// Field numbers of envoy.service.discovery.v3.DeltaDiscoveryResponse (mesh/proto/discovery.proto).
const FIELD_SYSTEM_VERSION = 1
const FIELD_RESOURCES = 2
const FIELD_TYPE_URL = 4
const FIELD_NONCE = 5
const FIELD_REMOVED = 6

/** Encodes the response that carries this batch. */
export function encodeResponse(typeUrl: string, nonce: string, batch: PendingBatch): Uint8Array {
  const writer = new BinaryWriter()
  const text = (field: number, value: string): void =>
    void writer.tag(field, WireType.LengthDelimited).string(value)
  text(FIELD_SYSTEM_VERSION, nonce)
  for (const { encoded } of batch.resources)
    writer.tag(FIELD_RESOURCES, WireType.LengthDelimited).bytes(encoded)
  text(FIELD_TYPE_URL, typeUrl)
  text(FIELD_NONCE, nonce)
  for (const name of batch.removed) text(FIELD_REMOVED, name)
  return writer.finish()
}
