// SPDX-License-Identifier: Apache-2.0
// A field that is a map: on the wire a list of messages of key (1) and value (2).

import { expectType, type Kind, LONGEST_LIST, part, single, type Value } from './kind.ts'
import { BYTES, FieldProblem, type WireReader } from './wire-reader.ts'
import type { WireWriter } from './wire-writer.ts'

const KEY = 1
const VALUE = 2

/** A map, written in the order of its keys: equal maps give equal bytes. A key that comes twice counts the second time. */
export function map<K extends string, V>(
  keys: Value<K>,
  values: Value<V>,
): Kind<ReadonlyMap<K, V>> {
  const none: ReadonlyMap<K, V> = new Map()
  const [keyField, valueField] = [single(keys), single(values)]

  const readEntry = (reader: WireReader, into: Map<K, V>): void => {
    let key = keys.zero
    let value = values.zero
    while (reader.position < reader.end) {
      const tag = reader.uint32()
      if (tag >>> 3 === KEY) {
        expectType(tag & 7, keys.wireType)
        key = keys.read(reader, keys.zero)
      } else if (tag >>> 3 === VALUE) value = readValue(reader, tag & 7, key)
      else reader.skip(tag)
    }
    if (key === keys.zero) throw new FieldProblem('has an entry without a key')
    into.set(key, value)
  }
  const readValue = (reader: WireReader, wireType: number, key: K): V => {
    try {
      expectType(wireType, values.wireType)
      return values.read(reader, values.zero)
    } catch (thrown) {
      if (thrown instanceof FieldProblem) thrown.within(`[${key}]`)
      throw thrown
    }
  }
  const writeEntry = (writer: WireWriter, [key, value]: readonly [K, V]): void => {
    keyField.write(writer, KEY, key)
    valueField.write(writer, VALUE, value)
  }

  return {
    absent: none,
    read: (reader, wireType, before) => {
      expectType(wireType, BYTES)
      // The map that this message's earlier entries made; nobody else has it yet.
      const into = before === none ? new Map<K, V>() : (before as Map<K, V>)
      if (into.size >= LONGEST_LIST) throw new FieldProblem(`has more than ${LONGEST_LIST} entries`)
      const outer = reader.end
      reader.end = reader.span()
      readEntry(reader, into)
      reader.end = outer
      return into
    },
    write: (writer, number, entries) => {
      const sorted =
        entries.size < 2 ? entries : [...entries].sort(([left], [right]) => (left < right ? -1 : 1))
      for (const entry of sorted) {
        writer.tag(number, BYTES)
        writer.nested(writeEntry, entry)
      }
    },
    key: (entries) => {
      let key = ''
      for (const [name, value] of entries) key += part(name) + part(values.key(value))
      return key
    },
  }
}
