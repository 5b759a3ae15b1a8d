// SPDX-License-Identifier: Apache-2.0
// Reads BTF, the type information inside a BPF object: just what is needed to compare struct layouts with what
// TypeScript believes and to find configuration variables. Pure.

const HEADER_MAGIC = 0xeb9f
const KIND = { int: 1, array: 3, struct: 4, union: 5, enum: 6, funcProto: 13, var: 14 } as const
const KIND_DATASEC = 15
const KIND_DECL_TAG = 17
const KIND_ENUM64 = 19

/** A struct as the compiler laid it out; offsets and sizes in bytes. */
export interface BtfStruct {
  readonly size: number
  readonly members: ReadonlyMap<string, number>
}

/** What was found in the type information. */
export interface BtfTypes {
  readonly structs: ReadonlyMap<string, BtfStruct>
  /** Enum constants, by the enum's name. */
  readonly enums: ReadonlyMap<string, ReadonlyMap<string, number>>
  /** Byte offset and size of each variable within its section, by section name. */
  readonly sections: ReadonlyMap<
    string,
    ReadonlyMap<string, { readonly offset: number; readonly size: number }>
  >
}

/** Parses raw little-endian BTF. Throws RangeError for what is no BTF. */
export function parseBtf(raw: Uint8Array): BtfTypes {
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength)
  if (view.getUint16(0, true) !== HEADER_MAGIC) throw new RangeError('Cannot parse BTF: bad magic')
  const headerLength = view.getUint32(4, true)
  const typesStart = headerLength + view.getUint32(8, true)
  const typesEnd = typesStart + view.getUint32(12, true)
  const stringsStart = headerLength + view.getUint32(16, true)
  const decoder = new TextDecoder()
  const text = (offset: number): string => {
    const start = stringsStart + offset
    return decoder.decode(raw.subarray(start, raw.indexOf(0, start)))
  }

  const structs = new Map<string, BtfStruct>()
  const enums = new Map<string, Map<string, number>>()
  const sections = new Map<string, Map<string, { offset: number; size: number }>>()
  const variables = new Map<number, string>()
  for (let at = typesStart, id = 1; at < typesEnd; id += 1) {
    const name = text(view.getUint32(at, true))
    const info = view.getUint32(at + 4, true)
    const size = view.getUint32(at + 8, true)
    const count = info & 0xffff
    const kind = (info >>> 24) & 0x1f
    const hasBitfields = info >>> 31 === 1
    const body = at + 12
    if (kind === KIND.struct && name !== '')
      structs.set(name, { size, members: readMembers(view, body, count, hasBitfields, text) })
    if (kind === KIND.enum) enums.set(name, readEnum(view, body, count, text))
    if (kind === KIND.var) variables.set(id, name)
    if (kind === KIND_DATASEC) sections.set(name, readSection(view, body, count, variables))
    at = body + bodySize(kind, count)
  }
  return { structs, enums, sections }
}

type Text = (offset: number) => string

function readMembers(
  view: DataView,
  body: number,
  count: number,
  hasBitfields: boolean,
  text: Text,
): Map<string, number> {
  const members = new Map<string, number>()
  for (let index = 0; index < count; index += 1) {
    const at = body + index * 12
    const offset = view.getUint32(at + 8, true)
    const bits = hasBitfields ? offset & 0xffffff : offset
    members.set(text(view.getUint32(at, true)), bits / 8)
  }
  return members
}

function readEnum(view: DataView, body: number, count: number, text: Text): Map<string, number> {
  const values = new Map<string, number>()
  for (let index = 0; index < count; index += 1)
    values.set(
      text(view.getUint32(body + index * 8, true)),
      view.getInt32(body + index * 8 + 4, true),
    )
  return values
}

function readSection(
  view: DataView,
  body: number,
  count: number,
  variables: ReadonlyMap<number, string>,
): Map<string, { offset: number; size: number }> {
  const section = new Map<string, { offset: number; size: number }>()
  for (let index = 0; index < count; index += 1) {
    const at = body + index * 12
    const name = variables.get(view.getUint32(at, true))
    if (name !== undefined)
      section.set(name, {
        offset: view.getUint32(at + 4, true),
        size: view.getUint32(at + 8, true),
      })
  }
  return section
}

/** Bytes that follow the common header of a type. */
function bodySize(kind: number, count: number): number {
  switch (kind) {
    case KIND.int:
    case KIND.var:
    case KIND_DECL_TAG:
      return 4
    case KIND.array:
      return 12
    case KIND.struct:
    case KIND.union:
    case KIND_DATASEC:
    case KIND_ENUM64:
      return count * 12
    case KIND.enum:
    case KIND.funcProto:
      return count * 8
    default:
      return 0
  }
}
