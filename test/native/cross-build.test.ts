// SPDX-License-Identifier: Apache-2.0
// All that is compiled compiles for arm64 as well: the native parts and the plugin become programs of that machine, and the eBPF programs the
// very same byte code, whichever machine's headers they are compiled with.

import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import t, { type Test } from 'tap'

const ROOT = path.join(import.meta.dirname, '../..')
const PREFIX = 'aarch64-linux-gnu-'
const HEADERS = '/usr/aarch64-linux-gnu/include'
const skip =
  process.arch === 'arm64'
    ? 'it is an arm64 machine'
    : spawnSync(`${PREFIX}gcc`, ['--version']).status !== 0
      ? `no ${PREFIX}gcc: apt-get install gcc-aarch64-linux-gnu`
      : !existsSync(`${HEADERS}/stdio.h`) && `no ${HEADERS}: apt-get install libc6-dev-arm64-cross`

/** e_machine of an ELF file (elf(5)): 62 is x86-64, 183 is AArch64, 247 is BPF. */
const machineOf = (file: string): number => readFileSync(file).readUInt16LE(18)
const AARCH64 = 183

function scratch(t: Test): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'ambit-cross-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

void t.test('the native parts and the plugin, without a warning', { skip }, (t) => {
  const build = scratch(t)
  const make = (folder: string, ...targets: readonly string[]): void => {
    const tools = [`CC=${PREFIX}gcc`, `STRIP=${PREFIX}strip`, `BUILD=${build}`]
    const { status, stderr } = spawnSync(
      'make',
      ['-s', '-C', path.join(ROOT, folder), ...tools, ...targets],
      { encoding: 'utf8' },
    )
    t.equal(status, 0, stderr)
  }
  make('native', `${build}/libambit-native.so`, `${build}/ambit-sockets.node`)
  make('native/cni', `${build}/ambit-cni`)
  for (const name of ['libambit-native.so', 'ambit-sockets.node', 'ambit-cni'])
    t.equal(machineOf(path.join(build, name)), AARCH64, name)
  t.end()
})

void t.test('the eBPF programs are the same byte code by the headers of either', { skip }, (t) => {
  const directory = scratch(t)
  const sections = (headers: string): readonly (readonly [string, string])[] => {
    const object = path.join(directory, 'capture.bpf.o')
    const flags = ['-g', '-O2', '-target', 'bpf', '-mcpu=v3', '-Wall', '-Wextra', '-Werror']
    const allowed = ['-Wno-unused-parameter', '-Wno-missing-declarations']
    const includes = ['-I.', '-idirafter', headers]
    execFileSync(
      'clang',
      [...flags, ...allowed, ...includes, '-c', 'capture.bpf.c', '-o', object],
      { cwd: path.join(ROOT, 'bpf') },
    )
    return codeOf(readFileSync(object))
  }
  const own = sections(`/usr/include/${process.arch === 'x64' ? 'x86_64' : process.arch}-linux-gnu`)
  t.ok(own.length > 5, `${own.length} sections of code`)
  t.strictSame(sections(HEADERS), own)
  t.end()
})

/** The sections that hold instructions, by name (ELF-64: SHF_EXECINSTR is 4). */
function codeOf(elf: Buffer): readonly (readonly [string, string])[] {
  const at = Number(elf.readBigUInt64LE(40))
  const [size, count, names] = [58, 60, 62].map((offset) => elf.readUInt16LE(offset))
  const header = (index: number): Buffer => elf.subarray(at + index * (size ?? 0))
  const content = (section: Buffer): Buffer => {
    const [from, length] = [24, 32].map((offset) => Number(section.readBigUInt64LE(offset)))
    return elf.subarray(from, (from ?? 0) + (length ?? 0))
  }
  const texts = content(header(names ?? 0))
  const nameOf = (section: Buffer): string => {
    const from = section.readUInt32LE(0)
    return texts.toString('utf8', from, texts.indexOf(0, from))
  }
  return Array.from({ length: count ?? 0 }, (_, index) => header(index))
    .filter((section) => (section.readBigUInt64LE(8) & 4n) !== 0n && content(section).length > 0)
    .map((section) => [nameOf(section), content(section).toString('hex')] as const)
}
