// SPDX-License-Identifier: Apache-2.0
// The one error of the native binding: which call failed, with which errno, on what. Callers above turn it into a
// coded error; this folder knows nothing of the mesh.

import { constants } from 'node:os'

const ERRNO_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(constants.errno).map(([name, number]) => [number, name]),
)

/** libbpf's own error numbers (enum libbpf_errno), in order. libbpf 0.x gives them where 1.x gives the kernel's. */
const LIBBPF_ERRNO_START = 4000
const LIBBPF_ERRNO_NAMES =
  'LIBELF FORMAT KVERSION ENDIAN INTERNAL RELOC LOAD VERIFY PROG2BIG KVER PROGTYPE WRNGPID INVSEQ NLPARSE'.split(
    ' ',
  )

/** Gives the name of an errno (EPERM, LIBBPF_VERIFY), or `errno 123` for an unknown one. */
export function errnoName(errno: number): string {
  const ofLibbpf = LIBBPF_ERRNO_NAMES[errno - LIBBPF_ERRNO_START]
  if (ofLibbpf !== undefined) return `LIBBPF_${ofLibbpf}`
  return ERRNO_NAMES.get(errno) ?? `errno ${errno}`
}

/** A system or library call that failed. */
export class NativeError extends Error {
  /** The call, e.g. `bind` or `bpf_object__load`. */
  readonly call: string
  readonly errno: number | undefined
  /** The errno's name, or undefined where the failure has none (a library that is missing). */
  readonly errnoName: string | undefined
  /** What the call was about: an address, a path, the verifier's last lines. */
  readonly detail: string

  constructor(call: string, errno: number | undefined, detail: string) {
    const reason = errno === undefined ? undefined : errnoName(errno)
    super(
      `${call}: ${[reason, detail].filter((part) => part !== undefined && part !== '').join(': ')}`,
    )
    this.name = 'NativeError'
    this.call = call
    this.errno = errno
    this.errnoName = reason
    this.detail = detail
  }
}
