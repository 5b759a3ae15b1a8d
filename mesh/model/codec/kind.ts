// SPDX-License-Identifier: Apache-2.0
// How one field of a model type looks on the wire, what its absence means, and what makes two values of it equal. A
// model type is a table of such fields (record.ts); reading, writing, sharing and keys all follow from the table.

import { BYTES, FieldProblem, VARINT, type WireReader } from './wire-reader.ts'
import type { WireWriter } from './wire-writer.ts'

/** One value: of a field, of a list, of a map. */
export interface Value<T> {
  readonly wireType: number
  /** What protobuf leaves out when it is the value of a plain field. Shared: never changed. */
  readonly zero: T
  /** Reads what follows the tag. `before` is what the field had so far: protobuf merges a message that comes twice. */
  readonly read: (reader: WireReader, before: T) => T
  /** Writes what follows the tag. */
  readonly write: (writer: WireWriter, value: T) => void
  /** Whether a value that is not `zero` itself is equal to it. */
  readonly isZero?: (value: T) => boolean
  /** Equal texts for equal values only. */
  readonly key: (value: T) => string
}

/** A field: nothing, one or many values. */
export interface Kind<T> {
  readonly absent: T
  readonly read: (reader: WireReader, wireType: number, before: T) => T
  readonly write: (writer: WireWriter, number: number, value: T) => void
  readonly key: (value: T) => string
  /** The value without room for more, to be kept: a list that was read entry by entry has room for 17. */
  readonly compact?: (value: T) => T
}

/** A list of more is no honest resource: it bounds what a small message can make us allocate. */
export const LONGEST_LIST = 10_000

/** A text. */
export const TEXT: Value<string> = {
  wireType: BYTES,
  zero: '',
  read: (reader) => reader.text(),
  write: (writer, value) => writer.text(value),
  key: (value) => value,
}

/** A whole number of 32 bits. */
export const UINT: Value<number> = {
  wireType: VARINT,
  zero: 0,
  read: (reader) => reader.uint32(),
  write: (writer, value) => writer.uint32(value),
  key: String,
}

/** Yes or no. */
export const FLAG: Value<boolean> = {
  wireType: VARINT,
  zero: false,
  read: (reader) => reader.uint32() !== 0,
  write: (writer, value) => writer.uint32(value ? 1 : 0),
  key: String,
}

/** A text that is a key or a name of some kind to the compiler, and no more than a text on the wire. */
export function textOf<T extends string>(): Value<T> {
  // The model's brands exist for the compiler only.
  return TEXT as unknown as Value<T>
}

/**
 * One of these words; its place in the list is its number on the wire. Numbers without a word are refused, unless
 * `readAs` names the word to take them for.
 */
export function word<T extends string>(
  words: readonly (T | undefined)[],
  readAs: ReadonlyMap<number, T> = new Map(),
): Value<T> {
  const known = words.map((text, number) => text ?? readAs.get(number))
  const numbers = new Map(words.map((text, number) => [text, number]))
  const zero = words[0] ?? words[1]
  if (zero === undefined) throw new RangeError('Cannot make a kind of no words')
  return {
    wireType: VARINT,
    zero,
    read: (reader) => {
      const number = reader.uint32()
      const found = known[number] ?? readAs.get(number)
      if (found === undefined) throw new FieldProblem(`unknown value ${number | 0}`)
      return found
    },
    write: (writer, each) => writer.uint32(numbers.get(each) ?? 0),
    key: (value) => value,
  }
}

/** A value under further rules: `check` gives what the model holds, or throws a FieldProblem. */
export function checked<T>(value: Value<T>, check: (value: T) => T): Value<T> {
  return { ...value, read: (reader, before) => check(value.read(reader, before)) }
}

/** A field of one value. Absent means `absent`, which is what protobuf calls its zero unless said otherwise. */
export function single<T>(value: Value<T>, absent: T = value.zero): Kind<T> {
  const { zero, wireType } = value
  return {
    absent,
    read: (reader, found, before) => {
      expectType(found, wireType)
      const read = value.read(reader, before)
      // An explicit zero is as good as none.
      return read === zero ? absent : read
    },
    write: (writer, number, each) => {
      if (each === absent || each === zero || value.isZero?.(each) === true) return
      writer.tag(number, wireType)
      value.write(writer, each)
    },
    key: value.key,
  }
}

/** A field of one value or none, where protobuf tells the two apart (messages, `optional`). */
export function optional<T>(value: Value<T>): Kind<T | undefined> {
  return {
    absent: undefined,
    read: (reader, found, before) => {
      expectType(found, value.wireType)
      return value.read(reader, before ?? value.zero)
    },
    write: (writer, number, each) => {
      if (each === undefined) return
      writer.tag(number, value.wireType)
      value.write(writer, each)
    },
    key: (each) => (each === undefined ? '' : `+${value.key(each)}`),
  }
}

/** As optional, for a field whose absence has a meaning of its own: 'no capacity' is a capacity of 1, and 0 is 0. */
export function optionalOr<T>(value: Value<T>, absent: T): Kind<T> {
  return {
    ...single(value, absent),
    read: (reader, found) => {
      expectType(found, value.wireType)
      return value.read(reader, value.zero)
    },
    write: (writer, number, each) => {
      if (each === absent) return
      writer.tag(number, value.wireType)
      value.write(writer, each)
    },
  }
}

/** One of several keys in a row. With their lengths no two rows read alike, whatever is in the texts. */
export function part(key: string): string {
  return `${key.length}:${key}`
}

const NONE: readonly never[] = Object.freeze([])

/** A list. Numbers are read packed and unpacked, and written packed, as proto3 has it. */
export function list<T>(value: Value<T>): Kind<readonly T[]> {
  const { wireType, zero } = value
  const read = (reader: WireReader, into: T[]): void => {
    if (into.length >= LONGEST_LIST) throw new FieldProblem(`has more than ${LONGEST_LIST} entries`)
    try {
      into.push(value.read(reader, zero))
    } catch (thrown) {
      if (thrown instanceof FieldProblem) thrown.within(`[${into.length}]`)
      throw thrown
    }
  }
  const writePacked = (writer: WireWriter, values: readonly T[]): void => {
    for (const each of values) value.write(writer, each)
  }
  return {
    absent: NONE,
    read: (reader, found, before) => {
      // The list that this message's earlier entries made; nobody else has it yet.
      const into = before === NONE ? [] : (before as T[])
      if (found === wireType) read(reader, into)
      else {
        expectType(found, wireType === VARINT ? BYTES : wireType)
        const outer = reader.end
        reader.end = reader.span()
        while (reader.position < reader.end) read(reader, into)
        reader.end = outer
      }
      return into
    },
    write: (writer, number, values) => {
      if (values.length === 0) return
      if (wireType === VARINT) {
        writer.tag(number, BYTES)
        writer.nested(writePacked, values)
      } else
        for (const each of values) {
          writer.tag(number, wireType)
          value.write(writer, each)
        }
    },
    key: (values) => {
      let key = ''
      for (const each of values) key += part(value.key(each))
      return key
    },
    compact: (values) => (values.length === 0 ? NONE : values.slice()),
  }
}

/** What a field holds that came with another wire type than its own is not to be guessed. */
export function expectType(found: number, wireType: number): void {
  if (found !== wireType) throw new FieldProblem(`has the wire type ${found}, not ${wireType}`)
}
