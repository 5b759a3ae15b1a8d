// SPDX-License-Identifier: Apache-2.0
// libbpf 0.5 to 0.8 (libbpf.so.0) spoken to as if it were 1.x: other names for four calls, other habits in telling
// errors, and one program type it does not know by its section. Each function used here is in all of them.

import type { LibraryHandle } from 'koffi'
import type {
  BtfPointer,
  Libbpf,
  MapPointer,
  ObjectPointer,
  ProgramPointer,
} from './libbpf-calls.ts'

// libbpf_legacy.h: null for a pointer that could not be had, and the errno itself as an int result.
const LIBBPF_STRICT_CLEAN_PTRS = 1
const LIBBPF_STRICT_DIRECT_ERRS = 2

/** libbpf before 0.7 wants `sk_lookup/NAME`, libbpf from 1.0 on refuses it. */
const SK_LOOKUP_SECTION = 'sk_lookup'
// linux/bpf.h
const BPF_PROG_TYPE_SK_LOOKUP = 30
const BPF_SK_LOOKUP = 36

type Adapted = Pick<
  Libbpf,
  | 'bpf_object__open'
  | 'bpf_object__next_program'
  | 'bpf_object__next_map'
  | 'bpf_program__expected_attach_type'
  | 'btf__raw_data'
>

/** The calls that differ, over the old library. Sets its error habits to those of 1.x. */
export function libbpfBefore1(handle: LibraryHandle): Adapted {
  const setStrictMode = handle.func('int libbpf_set_strict_mode(int mode)')
  setStrictMode(LIBBPF_STRICT_CLEAN_PTRS | LIBBPF_STRICT_DIRECT_ERRS)
  const open = handle.func('void *bpf_object__open(const char *path)')
  const nextProgram = handle.func('void *bpf_program__next(void *previous, void *object)')
  const nextMap = handle.func('void *bpf_map__next(void *previous, void *object)')
  const attachType = handle.func('int bpf_program__get_expected_attach_type(void *program)')
  const rawData = handle.func('void *btf__get_raw_data(void *btf, void *size)')
  const sectionName = handle.func('const char *bpf_program__section_name(void *program)')
  const setType = handle.func('void bpf_program__set_type(void *program, int type)')
  const setAttachType = handle.func(
    'void bpf_program__set_expected_attach_type(void *program, int type)',
  )

  const programAfter = (
    object: ObjectPointer,
    previous: ProgramPointer | null,
  ): ProgramPointer | null => nextProgram(previous, object) as ProgramPointer | null

  return {
    bpf_object__open(path) {
      const object = open(path) as ObjectPointer | null
      if (object === null) return null
      for (let program = programAfter(object, null); program !== null; ) {
        if (sectionName(program) === SK_LOOKUP_SECTION) {
          setType(program, BPF_PROG_TYPE_SK_LOOKUP)
          setAttachType(program, BPF_SK_LOOKUP)
        }
        program = programAfter(object, program)
      }
      return object
    },
    bpf_object__next_program: programAfter,
    bpf_object__next_map: (object: ObjectPointer, previous: MapPointer | null) =>
      nextMap(previous, object) as MapPointer | null,
    bpf_program__expected_attach_type: (program: ProgramPointer) => attachType(program) as number,
    btf__raw_data: (btf: BtfPointer, size: Uint32Array) => rawData(btf, size) as bigint | null,
  }
}
