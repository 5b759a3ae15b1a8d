// SPDX-License-Identifier: Apache-2.0
// libbpf's functions as typed calls, and its log. Everything above (objects, maps, links) goes through here.

import { basename } from 'node:path'
import koffi, { type LibraryHandle } from 'koffi'
import { NativeError } from './error.ts'
import { libbpfBefore1 } from './libbpf-before-1.ts'
import type { Libbpf } from './libbpf-calls.ts'
import { loadShim } from './shim.ts'

/** Ubuntu 22.04, the oldest distribution whose kernel will do, has libbpf 0.5. */
const DEFAULT_LIBRARIES = ['libbpf.so.1', 'libbpf.so.0'] as const
/** The verifier ends with the instruction it refused and the reason: this many lines hold both. */
const QUOTED_LOG_LINES = 12
const LOG_SIZE = 65536

const PROTOTYPES: Readonly<Record<keyof Libbpf, string>> = {
  bpf_object__open: 'void *bpf_object__open(const char *path)',
  bpf_object__load: 'int bpf_object__load(void *object)',
  bpf_object__close: 'void bpf_object__close(void *object)',
  bpf_object__btf: 'void *bpf_object__btf(void *object)',
  bpf_object__find_program_by_name:
    'void *bpf_object__find_program_by_name(void *object, const char *name)',
  bpf_object__next_program: 'void *bpf_object__next_program(void *object, void *previous)',
  bpf_object__next_map: 'void *bpf_object__next_map(void *object, void *previous)',
  bpf_program__name: 'const char *bpf_program__name(void *program)',
  bpf_program__fd: 'int bpf_program__fd(void *program)',
  bpf_program__expected_attach_type: 'int bpf_program__expected_attach_type(void *program)',
  bpf_program__set_autoload: 'int bpf_program__set_autoload(void *program, bool autoload)',
  bpf_map__name: 'const char *bpf_map__name(void *map)',
  bpf_map__fd: 'int bpf_map__fd(void *map)',
  bpf_map__key_size: 'uint32_t bpf_map__key_size(void *map)',
  bpf_map__value_size: 'uint32_t bpf_map__value_size(void *map)',
  bpf_map__type: 'uint32_t bpf_map__type(void *map)',
  bpf_map__max_entries: 'uint32_t bpf_map__max_entries(void *map)',
  bpf_map__map_flags: 'uint32_t bpf_map__map_flags(void *map)',
  bpf_map__set_pin_path: 'int bpf_map__set_pin_path(void *map, const char *path)',
  bpf_map__set_max_entries: 'int bpf_map__set_max_entries(void *map, uint32_t entries)',
  bpf_map__initial_value: 'void *bpf_map__initial_value(void *map, void *size)',
  btf__raw_data: 'void *btf__raw_data(void *btf, void *size)',
  bpf_map_update_elem:
    'int bpf_map_update_elem(int fd, const void *key, const void *value, uint64_t flags)',
  bpf_map_lookup_elem: 'int bpf_map_lookup_elem(int fd, const void *key, void *value)',
  bpf_map_lookup_and_delete_elem:
    'int bpf_map_lookup_and_delete_elem(int fd, const void *key, void *value)',
  bpf_map_delete_elem: 'int bpf_map_delete_elem(int fd, const void *key)',
  bpf_map_get_next_key: 'int bpf_map_get_next_key(int fd, const void *key, void *next)',
  bpf_map_update_batch:
    'int bpf_map_update_batch(int fd, const void *keys, const void *values, void *count, void *options)',
  bpf_map_delete_batch:
    'int bpf_map_delete_batch(int fd, const void *keys, void *count, void *options)',
  bpf_map_lookup_batch:
    'int bpf_map_lookup_batch(int fd, void *in_batch, void *out_batch, void *keys, void *values, void *count, void *options)',
  bpf_prog_test_run_opts:
    'int bpf_prog_test_run_opts(int fd, _Inout_ ambit_test_run_opts *options)',
  bpf_link_create: 'int bpf_link_create(int program, int target, int type, void *options)',
  bpf_prog_query:
    'int bpf_prog_query(int target, int type, uint32_t query_flags, void *attach_flags, void *program_ids, void *count)',
  bpf_link_update: 'int bpf_link_update(int link, int program, void *options)',
  bpf_link_detach: 'int bpf_link_detach(int link)',
  bpf_obj_pin: 'int bpf_obj_pin(int fd, const char *path)',
  bpf_obj_get: 'int bpf_obj_get(const char *path)',
  bpf_obj_get_info_by_fd: 'int bpf_obj_get_info_by_fd(int fd, void *info, void *size)',
  libbpf_num_possible_cpus: 'int libbpf_num_possible_cpus()',
}

let loaded: Libbpf | undefined

/**
 * Loads libbpf, or gives this thread's copy: the named library, or the newest the machine has.
 * Throws NativeError (call `dlopen`) when it is not installed, or (call `dlsym`) too old.
 */
export function loadLibbpf(library?: string): Libbpf {
  if (loaded !== undefined && library === undefined) return loaded
  const { handle, name } = openLibrary(library === undefined ? DEFAULT_LIBRARIES : [library])
  defineStructs()
  const functions = bindFunctions(handle, name)
  const setPrint = handle.func('void *libbpf_set_print(void *callback)')
  setPrint(loadShim().libbpfPrint)
  // Every key of Libbpf has its prototype above: the compiler holds PROTOTYPES to that.
  loaded = functions as unknown as Libbpf
  return loaded
}

function openLibrary(names: readonly string[]): { handle: LibraryHandle; name: string } {
  const reasons: string[] = []
  for (const name of names) {
    try {
      return { handle: koffi.load(name), name }
    } catch (thrown) {
      reasons.push(`${name}: ${thrown instanceof Error ? thrown.message : String(thrown)}`)
    }
  }
  throw new NativeError('dlopen', undefined, reasons.join('; '))
}

function bindFunctions(handle: LibraryHandle, library: string): Record<string, unknown> {
  try {
    const isBefore1 = basename(library).startsWith('libbpf.so.0')
    const functions: Record<string, unknown> = isBefore1 ? { ...libbpfBefore1(handle) } : {}
    for (const [name, prototype] of Object.entries(PROTOTYPES))
      functions[name] ??= handle.func(prototype)
    return functions
  } catch (thrown) {
    const reason = thrown instanceof Error ? thrown.message : String(thrown)
    throw new NativeError('dlsym', undefined, `${library} is older than libbpf 0.5: ${reason}`)
  }
}

let structsDefined = false

function defineStructs(): void {
  if (structsDefined) return
  structsDefined = true
  koffi.struct('ambit_test_run_opts', {
    sz: 'size_t',
    data_in: 'void *',
    data_out: 'void *',
    data_size_in: 'uint32_t',
    data_size_out: 'uint32_t',
    ctx_in: 'void *',
    ctx_out: 'void *',
    ctx_size_in: 'uint32_t',
    ctx_size_out: 'uint32_t',
    retval: 'uint32_t',
    repeat: 'int',
    duration: 'uint32_t',
    flags: 'uint32_t',
    cpu: 'uint32_t',
    batch_size: 'uint32_t',
  })
}

/** Throws when the result is negative: with the errno, and what libbpf logged if it logged anything. */
export function check(result: number, call: string, detail: string): number {
  if (result >= 0) {
    takeLog()
    return result
  }
  throw failure(call, -result, detail)
}

/** Throws when libbpf gave null. */
export function checkPointer<Pointer>(
  pointer: Pointer | null,
  call: string,
  detail: string,
): Pointer {
  if (pointer !== null) return pointer
  throw failure(call, koffi.errno(), detail)
}

function failure(call: string, errno: number, detail: string): NativeError {
  const log = takeLog()
  return new NativeError(call, errno, log === '' ? detail : `${detail}\n${log}`)
}

/** The last lines libbpf and the verifier logged on this thread. */
function takeLog(): string {
  const into = Buffer.alloc(LOG_SIZE)
  const length = loadShim().libbpfLogTake(into, LOG_SIZE)
  if (length <= 0) return ''
  const lines = into.toString('utf8', 0, length).split('\n')
  return lines
    .filter((line) => line.trim() !== '')
    .slice(-QUOTED_LOG_LINES)
    .join('\n')
}
