// SPDX-License-Identifier: Apache-2.0
// Attributes as bytes, kept while an export runs: points of traffic have two dozen each, and most are the same everywhere.

import { BinaryWriter } from '@bufbuild/protobuf/wire'
import { writeAttribute } from './wire.ts'

/** Some half a megabyte. */
const MOST = 4_096

export class AttributeCache {
  readonly #field: number
  readonly #known = new Map<string, Uint8Array>()

  /** For attributes that are this field of their message. */
  constructor(field: number) {
    this.#field = field
  }

  write(writer: BinaryWriter, name: string, value: string): void {
    // No name has a = in it.
    const key = `${name}=${value}`
    const bytes = this.#known.get(key)
    writer.raw(bytes ?? this.#make(key, name, value))
  }

  #make(key: string, name: string, value: string): Uint8Array {
    const writer = new BinaryWriter()
    writeAttribute(writer, this.#field, name, value)
    const bytes = writer.finish()
    if (this.#known.size >= MOST) this.#known.clear()
    this.#known.set(key, bytes)
    return bytes
  }
}
