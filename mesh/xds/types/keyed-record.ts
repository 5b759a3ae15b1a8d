// SPDX-License-Identifier: Apache-2.0
// A type of resource that is one record, named by a key of its own.

import type { RecordCodec } from '../../model/codec/record.ts'
import { err, ok } from '../../result.ts'
import { excerpt } from '../../telemetry/excerpt.ts'
import type { ResourceType } from '../resource-type.ts'

/** The type; what has more than `maxBytes` is not read, nor what came under another name than its own. */
export function keyedRecord<T extends { readonly key: string }>(
  typeUrl: string,
  codec: RecordCodec<T>,
  maxBytes: number,
): ResourceType<T> {
  return {
    typeUrl,
    name: ({ key }) => key,
    aliases: () => [],
    encode: (value) => codec.encode(value),
    decode: (name, bytes) => {
      const refuse = (field: string, reason: string) =>
        err({ resource: excerpt(name), field: excerpt(field), reason: excerpt(reason) })
      if (bytes.length > maxBytes)
        return refuse('resource', `has ${bytes.length} bytes, more than ${maxBytes}`)
      const read = codec.decode(bytes)
      if (!read.ok) return refuse(read.error.field || 'resource', read.error.reason)
      return read.value.key === name
        ? ok(read.value)
        : refuse('name', `makes the key "${read.value.key}", not the resource's name`)
    },
  }
}
