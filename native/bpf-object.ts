// SPDX-License-Identifier: Apache-2.0
// A BPF object file: open, look at its types, set configuration, load into the kernel, reach programs and maps.

import koffi from 'koffi'
import { parseBtf, type BtfTypes } from './btf.ts'
import { BpfMap, type MapShape } from './bpf-map.ts'
import { NativeError } from './error.ts'
import { check, checkPointer, loadLibbpf } from './libbpf.ts'
import type { MapPointer, ObjectPointer, ProgramPointer } from './libbpf-calls.ts'

const RODATA = '.rodata'

/** A program in the kernel. */
export interface LoadedProgram {
  readonly name: string
  /** Owned by the object: closed with it. */
  readonly fd: number
  readonly attachType: number
}

/** An opened object. Methods throw NativeError; a refusal by the verifier quotes its last lines. */
export class BpfObject {
  readonly #object: ObjectPointer
  readonly #path: string
  readonly types: BtfTypes
  #closed = false

  /** Opens the file without touching the kernel. */
  static open(path: string): BpfObject {
    const object = checkPointer(loadLibbpf().bpf_object__open(path), 'bpf_object__open', path)
    return new BpfObject(object, path)
  }

  private constructor(object: ObjectPointer, path: string) {
    this.#object = object
    this.#path = path
    this.types = readTypes(object, path)
  }

  /** Sets `const volatile` variables. Before load. */
  setConstants(values: Readonly<Record<string, bigint>>): void {
    const map = this.#maps().find((candidate) => mapName(candidate).endsWith(RODATA))
    const section = this.types.sections.get(RODATA)
    const pointer =
      map === undefined ? null : loadLibbpf().bpf_map__initial_value(map, new BigUint64Array(1))
    for (const [name, value] of Object.entries(values)) {
      const variable = section?.get(name)
      if (pointer === null || variable === undefined)
        throw new NativeError('set constant', undefined, `${this.#path} has no variable ${name}`)
      koffi.encode(pointer, variable.offset, variable.size === 8 ? 'uint64_t' : 'uint32_t', value)
    }
  }

  /** What the maps with these names are, or will be. */
  mapShapes(names: readonly string[]): ReadonlyMap<string, MapShape> {
    const library = loadLibbpf()
    const wanted = this.#maps().filter((map) => names.includes(mapName(map)))
    return new Map(
      wanted.map((map) => [
        mapName(map),
        {
          type: library.bpf_map__type(map),
          keySize: library.bpf_map__key_size(map),
          valueSize: library.bpf_map__value_size(map),
          maxEntries: library.bpf_map__max_entries(map),
          flags: library.bpf_map__map_flags(map),
        },
      ]),
    )
  }

  /** Maps with these names live at `directory/name`: reused when pinned there, else pinned at load. Before load. */
  pinMaps(directory: string, names: readonly string[]): void {
    for (const map of this.#maps())
      if (names.includes(mapName(map)))
        check(
          loadLibbpf().bpf_map__set_pin_path(map, `${directory}/${mapName(map)}`),
          'bpf_map__set_pin_path',
          mapName(map),
        )
  }

  /** Changes a map's size. Before load. */
  setMaxEntries(name: string, entries: number): void {
    const map = this.#maps().find((candidate) => mapName(candidate) === name)
    if (map === undefined)
      throw new NativeError('bpf_map__set_max_entries', undefined, `no map ${name}`)
    check(loadLibbpf().bpf_map__set_max_entries(map, entries), 'bpf_map__set_max_entries', name)
  }

  /** Creates maps and loads programs. */
  load(): void {
    check(loadLibbpf().bpf_object__load(this.#object), 'bpf_object__load', this.#path)
  }

  /** Programs in the object. After load. */
  programs(): readonly LoadedProgram[] {
    const found: LoadedProgram[] = []
    const library = loadLibbpf()
    for (let program: ProgramPointer | null = null; ; ) {
      program = library.bpf_object__next_program(this.#object, program)
      if (program === null) return found
      found.push({
        name: library.bpf_program__name(program),
        fd: library.bpf_program__fd(program),
        attachType: library.bpf_program__expected_attach_type(program),
      })
    }
  }

  /** A map by name; its fd is owned by the object. After load. */
  map(name: string): BpfMap {
    const library = loadLibbpf()
    const map = this.#maps().find((candidate) => mapName(candidate) === name)
    if (map === undefined)
      throw new NativeError('bpf_map__fd', undefined, `${this.#path} has no map ${name}`)
    return new BpfMap(
      name,
      library.bpf_map__fd(map),
      library.bpf_map__key_size(map),
      library.bpf_map__value_size(map),
    )
  }

  /** Frees the object and closes the fds of its programs and maps; what is pinned stays. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    loadLibbpf().bpf_object__close(this.#object)
  }

  #maps(): MapPointer[] {
    const found: MapPointer[] = []
    for (let map: MapPointer | null = null; ; ) {
      map = loadLibbpf().bpf_object__next_map(this.#object, map)
      if (map === null) return found
      found.push(map)
    }
  }
}

function mapName(map: MapPointer): string {
  return loadLibbpf().bpf_map__name(map)
}

function readTypes(object: ObjectPointer, path: string): BtfTypes {
  const library = loadLibbpf()
  const btf = checkPointer(library.bpf_object__btf(object), 'bpf_object__btf', path)
  const size = new Uint32Array(1)
  const data = checkPointer(library.btf__raw_data(btf, size), 'btf__raw_data', path)
  // Copied: the memory is libbpf's and goes with the object.
  return parseBtf(Buffer.from(new Uint8Array(koffi.view(data, size[0] ?? 0))))
}
