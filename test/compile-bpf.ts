// SPDX-License-Identifier: Apache-2.0
// Compiles a BPF program that a test writes, with the flags of bpf/Makefile.

import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'

const BPF_SOURCES = fileURLToPath(new URL('../bpf', import.meta.url))
const ASM_HEADERS = `/usr/include/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`

/** Gives the object's path; it goes when the test ends. The source may include the headers of bpf/. */
export function compileBpf(t: Test, source: string): string {
  const directory = mkdtempSync(`${tmpdir()}/ambit-bpf-`)
  t.teardown(() => rmSync(directory, { recursive: true }))
  const [from, to] = [`${directory}/x.bpf.c`, `${directory}/x.bpf.o`]
  writeFileSync(from, source)
  const includes = [`-I${BPF_SOURCES}`, '-idirafter', ASM_HEADERS]
  execFileSync('clang', ['-g', '-O2', '-target', 'bpf', ...includes, '-c', from, '-o', to])
  return to
}
