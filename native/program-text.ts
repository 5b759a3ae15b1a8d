// SPDX-License-Identifier: Apache-2.0
// The instructions of one program as they stand in a BPF object file, to be loaded again and again with other constants:
// a program that has to know where it is attached, and cannot ask, has it written into its text. libbpf gives them out
// from 0.6 on only, so the ELF file is read here. Little-endian, as everything that Ambit runs on.

import { readFileSync } from 'node:fs'
import { NativeError } from './error.ts'
import { CALL_NAME_SIZE, loadShim, shimError } from './shim.ts'

// elf.h
const SECTION_HEADER = 64
const SECTION_SYMTAB = 2
const SECTION_REL = 9
const SYMBOL = 24
const RELOCATION = 16
/** The one relocation of a 64-bit load: the address of a symbol. */
const R_BPF_64_64 = 1
// linux/bpf.h
const INSTRUCTION = 8
/** BPF_LD | BPF_IMM | BPF_DW, which takes two instructions. */
const LOAD_64 = 0x18
const BPF_PSEUDO_MAP_FD = 1

interface Section {
  readonly name: string
  readonly type: number
  readonly link: number
  readonly info: number
  readonly bytes: Buffer
}

/** A program's instructions, with the places where a map's fd or a constant belongs. */
export interface ProgramText {
  readonly code: Buffer
  /** Byte offsets of the 64-bit loads that want this map's fd. */
  readonly maps: ReadonlyMap<string, readonly number[]>
}

/** Reads the program that is alone in its section. Throws NativeError for anything else. */
export function readProgramText(path: string, sectionName: string): ProgramText {
  const sections = readSections(readFileSync(path), path)
  const index = sections.findIndex(({ name }) => name === sectionName)
  const code = sections[index]?.bytes
  if (code === undefined || code.length === 0)
    throw new NativeError('read program', undefined, `${path} has no section ${sectionName}`)
  const maps = new Map<string, number[]>()
  for (const { type, link, info, bytes } of sections) {
    if (type !== SECTION_REL || info !== index) continue
    for (let at = 0; at + RELOCATION <= bytes.length; at += RELOCATION) {
      const offset = Number(bytes.readBigUInt64LE(at))
      const kind = bytes.readUInt32LE(at + 8)
      const name = symbolName(sections, link, bytes.readUInt32LE(at + 12))
      if (kind !== R_BPF_64_64 || code[offset] !== LOAD_64 || name === undefined)
        throw new NativeError(
          'read program',
          undefined,
          `${path}: section ${sectionName} refers to ${name ?? 'what has no name'} otherwise than by its address`,
        )
      maps.set(name, [...(maps.get(name) ?? []), offset])
    }
  }
  return { code, maps }
}

/** What stands in the text for a constant, and the constant. */
export interface TextConstant {
  readonly placeholder: bigint
  readonly constant: bigint
}

/**
 * The instructions with the maps' fds in their places and every load of a placeholder turned into one of its constant.
 * Throws NativeError where a map is not given, or nothing holds a placeholder.
 */
export function fillProgramText(
  { code, maps }: ProgramText,
  fdOf: (map: string) => number | undefined,
  constants: readonly TextConstant[],
): Buffer {
  const filled = Buffer.from(code)
  const taken = new Set<number>()
  for (const [name, offsets] of maps) {
    const fd = fdOf(name)
    if (fd === undefined)
      throw new NativeError(
        'fill program',
        undefined,
        `it refers to ${name}, which is no map of it`,
      )
    for (const offset of offsets) {
      taken.add(offset)
      // The source register says what the immediate is.
      filled[offset + 1] = ((filled[offset + 1] ?? 0) & 0x0f) | (BPF_PSEUDO_MAP_FD << 4)
      writeImmediate(filled, offset, BigInt(fd))
    }
  }
  const missing = new Set(constants)
  for (let at = 0; at + INSTRUCTION <= filled.length; at += INSTRUCTION) {
    if (filled[at] !== LOAD_64) continue
    const value = taken.has(at) ? undefined : readImmediate(filled, at)
    const found = constants.find(({ placeholder }) => placeholder === value)
    if (found !== undefined) {
      writeImmediate(filled, at, found.constant)
      missing.delete(found)
    }
    at += INSTRUCTION // its second half
  }
  if (missing.size > 0) throw new NativeError('fill program', undefined, 'it has no such constant')
  return filled
}

/** Loads instructions as a program of this type and name; the caller owns the fd. Throws NativeError. */
export function loadProgram(name: string, type: number, attachType: number, code: Buffer): number {
  const call = Buffer.alloc(CALL_NAME_SIZE)
  const count = code.length / INSTRUCTION
  const fd = loadShim().programLoad(name, type, attachType, code, count, call)
  if (fd < 0) throw shimError(fd, call, `program ${name}, type ${type}, attach type ${attachType}`)
  return fd
}

function readImmediate(code: Buffer, at: number): bigint {
  const low = BigInt(code.readUInt32LE(at + 4))
  const high = BigInt(code.readUInt32LE(at + INSTRUCTION + 4))
  return (high << 32n) | low
}

function writeImmediate(code: Buffer, at: number, value: bigint): void {
  code.writeUInt32LE(Number(value & 0xffffffffn), at + 4)
  code.writeUInt32LE(Number(value >> 32n), at + INSTRUCTION + 4)
}

function readSections(file: Buffer, path: string): readonly Section[] {
  if (file.length < SECTION_HEADER || file.readUInt32BE(0) !== 0x7f454c46)
    throw new NativeError('read program', undefined, `${path} is no ELF file`)
  const start = Number(file.readBigUInt64LE(0x28))
  const count = file.readUInt16LE(0x3c)
  const header = (index: number): Buffer =>
    file.subarray(start + index * SECTION_HEADER, start + (index + 1) * SECTION_HEADER)
  const bytesOf = (index: number): Buffer => {
    const offset = Number(header(index).readBigUInt64LE(24))
    return file.subarray(offset, offset + Number(header(index).readBigUInt64LE(32)))
  }
  const names = bytesOf(file.readUInt16LE(0x3e))
  return Array.from({ length: count }, (_, index) => ({
    name: textAt(names, header(index).readUInt32LE(0)),
    type: header(index).readUInt32LE(4),
    link: header(index).readUInt32LE(40),
    info: header(index).readUInt32LE(44),
    bytes: bytesOf(index),
  }))
}

function symbolName(
  sections: readonly Section[],
  table: number,
  index: number,
): string | undefined {
  const symbols = sections[table]
  const names = sections[symbols?.link ?? -1]
  if (symbols?.type !== SECTION_SYMTAB || names === undefined) return undefined
  return textAt(names.bytes, symbols.bytes.readUInt32LE(index * SYMBOL))
}

function textAt(table: Buffer, start: number): string {
  return table.toString('utf8', start, table.indexOf(0, start))
}
