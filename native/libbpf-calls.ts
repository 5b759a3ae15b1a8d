// SPDX-License-Identifier: Apache-2.0
// The functions of libbpf that are used, by their names and types in C, whichever version answers them.

/** A pointer that only libbpf looks behind. */
export type Opaque<Name extends string> = { readonly __opaque: Name }
export type ObjectPointer = Opaque<'bpf_object'>
export type ProgramPointer = Opaque<'bpf_program'>
export type MapPointer = Opaque<'bpf_map'>
export type BtfPointer = Opaque<'btf'>

/** The calls used; int results are negative errnos on failure, pointers are null with errno set. */
export interface Libbpf {
  bpf_object__open(path: string): ObjectPointer | null
  bpf_object__load(object: ObjectPointer): number
  bpf_object__close(object: ObjectPointer): void
  bpf_object__btf(object: ObjectPointer): BtfPointer | null
  bpf_object__find_program_by_name(object: ObjectPointer, name: string): ProgramPointer | null
  bpf_object__next_program(
    object: ObjectPointer,
    previous: ProgramPointer | null,
  ): ProgramPointer | null
  bpf_object__next_map(object: ObjectPointer, previous: MapPointer | null): MapPointer | null
  bpf_program__name(program: ProgramPointer): string
  bpf_program__fd(program: ProgramPointer): number
  bpf_program__expected_attach_type(program: ProgramPointer): number
  bpf_program__set_autoload(program: ProgramPointer, autoload: boolean): number
  bpf_map__name(map: MapPointer): string
  bpf_map__fd(map: MapPointer): number
  bpf_map__key_size(map: MapPointer): number
  bpf_map__value_size(map: MapPointer): number
  bpf_map__type(map: MapPointer): number
  bpf_map__max_entries(map: MapPointer): number
  bpf_map__map_flags(map: MapPointer): number
  bpf_map__set_pin_path(map: MapPointer, path: string): number
  bpf_map__set_max_entries(map: MapPointer, entries: number): number
  bpf_map__initial_value(map: MapPointer, size: BigUint64Array): bigint | null
  btf__raw_data(btf: BtfPointer, size: Uint32Array): bigint | null
  bpf_map_update_elem(fd: number, key: Uint8Array, value: Uint8Array, flags: number): number
  bpf_map_lookup_elem(fd: number, key: Uint8Array, value: Uint8Array): number
  bpf_map_lookup_and_delete_elem(fd: number, key: Uint8Array, value: Uint8Array): number
  bpf_map_delete_elem(fd: number, key: Uint8Array): number
  bpf_map_get_next_key(fd: number, key: Uint8Array | null, next: Uint8Array): number
  bpf_map_update_batch(
    fd: number,
    keys: Uint8Array,
    values: Uint8Array,
    count: Uint32Array,
    options: Uint8Array | null,
  ): number
  bpf_map_delete_batch(
    fd: number,
    keys: Uint8Array,
    count: Uint32Array,
    options: Uint8Array | null,
  ): number
  bpf_map_lookup_batch(
    fd: number,
    inBatch: Uint8Array | null,
    outBatch: Uint8Array,
    keys: Uint8Array,
    values: Uint8Array,
    count: Uint32Array,
    options: Uint8Array | null,
  ): number
  bpf_prog_test_run_opts(fd: number, options: TestRunOptions): number
  bpf_link_create(program: number, target: number, attachType: number, options: Uint8Array): number
  bpf_prog_query(
    target: number,
    attachType: number,
    queryFlags: number,
    attachFlags: Uint32Array | null,
    programIds: Uint32Array,
    count: Uint32Array,
  ): number
  bpf_link_update(link: number, program: number, options: Uint8Array | null): number
  bpf_link_detach(link: number): number
  bpf_obj_pin(fd: number, path: string): number
  bpf_obj_get(path: string): number
  bpf_obj_get_info_by_fd(fd: number, info: Uint8Array, size: Uint32Array): number
  libbpf_num_possible_cpus(): number
}

/** struct bpf_test_run_opts. */
export interface TestRunOptions {
  sz: number
  data_in: Uint8Array | null
  data_out: Uint8Array | null
  data_size_in: number
  data_size_out: number
  ctx_in: Uint8Array | null
  ctx_out: Uint8Array | null
  ctx_size_in: number
  ctx_size_out: number
  retval: number
  repeat: number
  duration: number
  flags: number
  cpu: number
  batch_size: number
}
