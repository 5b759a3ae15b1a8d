// SPDX-License-Identifier: Apache-2.0
// Writes a DeltaDiscoveryResponse (envoy.service.discovery.v3, mesh/proto/discovery.proto) out of payloads that are
// already encoded, field by field.

import { BYTES } from '../model/codec/wire-reader.ts'
import { WireWriter } from '../model/codec/wire-writer.ts'
import type { PendingBatch } from './client-view.ts'
import { aliasesOf, type StoredResource } from './resource-store.ts'

/** Field numbers of DeltaDiscoveryResponse. */
const RESPONSE = { systemVersion: 1, resources: 2, typeUrl: 4, nonce: 5, removed: 6 } as const
/** Of Resource. */
const RESOURCE = { version: 1, resource: 2, name: 3, aliases: 4 } as const
/** Of google.protobuf.Any. */
const ANY = { typeUrl: 1, value: 2 } as const

/** Encodes the response that carries this batch. */
export function encodeResponse(typeUrl: string, nonce: string, batch: PendingBatch): Uint8Array {
  const writer = new WireWriter()
  const text = (field: number, value: string): void => {
    writer.tag(field, BYTES)
    writer.text(value)
  }
  const any = (_writer: WireWriter, payload: string): void => {
    text(ANY.typeUrl, typeUrl)
    writer.tag(ANY.value, BYTES)
    writer.latin1(payload)
  }
  const resource = (_writer: WireWriter, stored: StoredResource) => {
    const { version, payload, name } = stored
    text(RESOURCE.version, version)
    writer.tag(RESOURCE.resource, BYTES)
    writer.nested(any, payload)
    text(RESOURCE.name, name)
    for (const alias of aliasesOf(stored)) text(RESOURCE.aliases, alias)
  }
  text(RESPONSE.systemVersion, nonce)
  for (const each of batch.resources) {
    writer.tag(RESPONSE.resources, BYTES)
    writer.nested(resource, each)
  }
  text(RESPONSE.typeUrl, typeUrl)
  text(RESPONSE.nonce, nonce)
  for (const name of batch.removed) text(RESPONSE.removed, name)
  return writer.takeLast()
}
