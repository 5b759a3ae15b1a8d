// SPDX-License-Identifier: Apache-2.0
// A model type as a table: one line a field, with its name and number on the wire and its kind. From the table follow
// reading, writing, sharing of equal parts, and the dump for people; a new field is one line in the type and one here.

import { err, ok, type Result } from '../../result.ts'
import { type Kind, part, type Value } from './kind.ts'
import { BYTES, FieldProblem, WireReader } from './wire-reader.ts'
import type { Pools } from './pools.ts'
import { WireWriter } from './wire-writer.ts'

/** Why bytes cannot be used: where, in the names of the schema, and what is wrong. */
export interface CodecProblem {
  readonly field: string
  readonly reason: string
}

export interface FieldOptions<T> {
  /** Refuses a message without it. */
  readonly isRequired?: boolean
  /** Many objects have it in common: equal values share memory. */
  readonly isShared?: boolean
  /** What people read in a dump; the field as it is, when left out. */
  readonly dump?: (value: T) => Readonly<Record<string, unknown>>
}

/** One line of a table. */
export interface Field<T> extends FieldOptions<T> {
  readonly name: string
  /** Zero for what is no field of its own but follows from others. */
  readonly number: number
  readonly kind: Kind<T>
  readonly derive?: (record: never) => T
}

/**
 * Where the numbers of fields begin that Istio's schema does not have. Others, earlier versions of ours among them, pass over what they do
 * not know, as every reader of protobuf does, so such a field may only refine what the others say; also in types of our own. Far above
 * Istio's own, and little enough for a table.
 */
export const OWN_FIELDS = 1001

export interface RecordOptions<T> {
  /**
   * What becomes of a message with a field below OWN_FIELDS that the table does not have: a later version, or another control plane, sent
   * it. `refused`: it cannot be read. `notedIn`: that field of the model is true. Left out, the field is passed over.
   */
  readonly unknown?: 'refused' | { readonly notedIn: keyof T }
}

export type Fields<T> = { readonly [Name in keyof T]-?: Field<T[Name]> }

/** Reads, writes and shares the objects of one model type. */
export interface RecordCodec<T> extends Value<T> {
  /** Never throws, whatever the bytes are; takes time and memory in proportion to their number. */
  readonly decode: (bytes: Uint8Array) => Result<T, CodecProblem>
  readonly encode: (value: T) => Uint8Array<ArrayBuffer>
  /** The same value as it is to be kept: with those parts that many have in common taken from the pools, and no spare room. */
  readonly share: (value: T, pools: Pools) => T
  readonly dump: (value: T) => Record<string, unknown>
}

/** A field of a table: its name and number in the schema, and its kind. */
export function field<T>(
  name: string,
  number: number,
  kind: Kind<T>,
  options: FieldOptions<T> = {},
): Field<T> {
  return { name, number, kind, ...options }
}

/** A field that is not on the wire because it follows from the others. */
export function derived<R, T>(
  absent: T,
  derive: (record: R) => T,
  options: FieldOptions<T> = {},
): Field<T> {
  const kind: Kind<T> = {
    absent,
    read: (_reader, _wireType, before) => before,
    write: () => undefined,
    key: () => '',
  }
  return { name: '', number: 0, kind, derive, ...options }
}

/** What the compiler cannot say of a table whose fields differ in type. */
type Slot = Omit<Field<unknown>, 'derive'> & {
  readonly key: string
  readonly derive?: (record: unknown) => unknown
}
type Loose = Record<string, unknown>

const writer = new WireWriter()

/** Makes the codec of a table. Objects get their properties in the order of the table. */
export function record<T extends object>(
  fields: Fields<T>,
  { unknown }: RecordOptions<T> = {},
): RecordCodec<T> {
  const slots = Object.entries(fields).map(
    ([key, each]) => ({ key, ...(each as Field<unknown>) }) as Slot,
  )
  const byNumber: (Slot | undefined)[] = []
  for (const slot of slots) if (slot.number > 0) byNumber[slot.number] = slot
  const written = slots
    .filter(({ number }) => number > 0)
    .sort((left, right) => left.number - right.number)
  const required = slots.filter(({ isRequired }) => isRequired === true)
  const shared = slots.filter(({ isShared }) => isShared === true)
  const unshared = slots.filter(
    ({ isShared, kind }) => isShared !== true && kind.compact !== undefined,
  )
  const deriving = slots.filter(({ derive }) => derive !== undefined)
  const zero = template(slots)

  const passOver = (number: number, value: Loose): void => {
    if (number === 0) throw new FieldProblem('has a field of number 0')
    if (unknown === undefined || number >= OWN_FIELDS) return
    if (unknown === 'refused')
      throw new FieldProblem(`has a field ${number} that this version does not know`)
    value[unknown.notedIn as string] = true
  }

  const readFields = (reader: WireReader, before: T): T => {
    const value = { ...(before as Loose) }
    while (reader.position < reader.end) {
      const tag = reader.uint32()
      const slot = byNumber[tag >>> 3]
      if (slot === undefined) {
        passOver(tag >>> 3, value)
        reader.skip(tag)
        continue
      }
      try {
        value[slot.key] = slot.kind.read(reader, tag & 7, value[slot.key])
      } catch (thrown) {
        if (thrown instanceof FieldProblem) thrown.within(slot.name)
        throw thrown
      }
    }
    for (const slot of required)
      if (value[slot.key] === slot.kind.absent) throw new FieldProblem('is empty', slot.name)
    for (const slot of deriving) value[slot.key] = slot.derive?.(value)
    return value as T
  }

  const writeFields = (into: WireWriter, value: T): void => {
    for (const { number, kind, key } of written) kind.write(into, number, (value as Loose)[key])
  }

  return {
    wireType: BYTES,
    zero: zero as T,
    read: (reader, before) => {
      const outer = reader.end
      reader.end = reader.span()
      const value = readFields(reader, before)
      reader.end = outer
      return value
    },
    write: (into, value) => into.nested(writeFields, value),
    isZero: (value) => slots.every(({ key, kind }) => (value as Loose)[key] === kind.absent),
    key: (value) => {
      let key = ''
      for (const slot of slots) key += part(slot.kind.key((value as Loose)[slot.key]))
      return key
    },
    decode: (bytes) => {
      try {
        return ok(readFields(new WireReader(bytes), zero as T))
      } catch (thrown) {
        if (!(thrown instanceof FieldProblem)) throw thrown
        return err({ field: thrown.field, reason: thrown.message })
      }
    },
    encode: (value) => {
      writer.reset()
      writeFields(writer, value)
      return writer.take()
    },
    share: (value, pools) => {
      const copy = { ...zero }
      for (const { key } of slots) copy[key] = (value as Loose)[key]
      for (const { key, kind } of unshared) copy[key] = kind.compact?.(copy[key])
      for (const { key, kind } of shared) copy[key] = pools.share(kind, copy[key])
      return copy as T
    },
    dump: (value) => {
      const dump: Loose = {}
      for (const slot of slots) {
        const each = (value as Loose)[slot.key]
        if (slot.dump === undefined) dump[slot.key] = each
        else Object.assign(dump, slot.dump(each))
      }
      return dump
    },
  }
}

/** A record that cannot be read without every field below OWN_FIELDS: of what decides who may do what, the rest would mean something else. */
export function wholeRecord<T extends object>(fields: Fields<T>): RecordCodec<T> {
  return record(fields, { unknown: 'refused' })
}

/** An object with all properties at their absent values, laid out as a literal is: copies of it are as small. */
function template(slots: readonly Slot[]): Loose {
  const empty = JSON.parse(
    JSON.stringify(Object.fromEntries(slots.map(({ key }) => [key, null]))),
  ) as Loose
  for (const { key, kind } of slots) empty[key] = kind.absent
  return empty
}

/** A message around one field, which stands for that field's value (`PortList`, `google.protobuf.UInt32Value`). */
export function wrapper<T>(number: number, kind: Kind<T>): Value<T> {
  const codec = record<{ readonly content: T }>({ content: field('', number, kind) })
  return {
    wireType: BYTES,
    zero: kind.absent,
    read: (reader) => codec.read(reader, codec.zero).content,
    write: (into, content) => codec.write(into, { content }),
    key: kind.key,
  }
}

/** A message that the model holds in another form. What comes twice counts the second time. */
export function converted<W, T>(
  codec: Value<W>,
  zero: T,
  toModel: (wire: W) => T,
  toWire: (value: T) => W,
): Value<T> {
  return {
    wireType: codec.wireType,
    zero,
    read: (reader) => toModel(codec.read(reader, codec.zero)),
    write: (into, value) => codec.write(into, toWire(value)),
    key: (value) => codec.key(toWire(value)),
  }
}
