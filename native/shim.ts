// SPDX-License-Identifier: Apache-2.0
// libambit-native.so (native/src) as typed functions. Loaded once per thread, at first use.

import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import koffi from 'koffi'
import { NativeError } from './error.ts'

const LIBRARY = fileURLToPath(new URL('./build/libambit-native.so', import.meta.url))

/** Bytes of the buffer in which the C side names the call that failed (AMBIT_CALL_NAME_SIZE). */
export const CALL_NAME_SIZE = 48

/** The functions of native/src; each gives a value >= 0 or a negative errno, with the call's name in `call`. */
export interface Shim {
  socketOpen(spec: Buffer, call: Buffer): number
  socketFlag(fd: number, storageMapFd: number, flags: number, call: Buffer): number
  socketAsk(fd: number, asked: Buffer, call: Buffer): number
  socketNetnsCookie(fd: number, cookie: BigUint64Array, call: Buffer): number
  netnsCreate(homeFd: number, call: Buffer): number
  netnsSysctl(
    netnsFd: number,
    homeFd: number,
    path: string,
    value: string,
    old: Buffer,
    oldSize: number,
    call: Buffer,
  ): number
  programLoad(
    name: string,
    type: number,
    attachType: number,
    code: Buffer,
    count: number,
    call: Buffer,
  ): number
  imageUnmap(): number
  watchStart(readFd: Int32Array, call: Buffer): number
  watchAdd(epollFd: number, fd: number, key: number, call: Buffer): number
  watchRearm(epollFd: number, fd: number, key: number, call: Buffer): number
  libbpfLogTake(into: Buffer, size: number): number
  /** The C function libbpf_set_print() wants. */
  readonly libbpfPrint: unknown
}

let loaded: Shim | undefined

/** Loads the shim, or gives this thread's copy. */
export function loadShim(): Shim {
  if (loaded !== undefined) return loaded
  if (!existsSync(LIBRARY))
    throw new NativeError('dlopen', undefined, `${LIBRARY} is missing; build it by make -C native`)
  const library = koffi.load(LIBRARY)
  loaded = {
    socketOpen: library.func('int ambit_socket_open(void *spec, void *call)'),
    socketFlag: library.func('int ambit_socket_flag(int fd, int map, int flags, void *call)'),
    socketAsk: library.func('int ambit_socket_ask(int fd, void *asked, void *call)'),
    socketNetnsCookie: library.func(
      'int ambit_socket_netns_cookie(int fd, void *cookie, void *call)',
    ),
    netnsCreate: library.func('int ambit_netns_create(int home, void *call)'),
    netnsSysctl: library.func(
      'int ambit_netns_sysctl(int netns, int home, const char *path, const char *value, void *old, int old_size, void *call)',
    ),
    programLoad: library.func(
      'int ambit_program_load(const char *name, int type, int attach_type, void *code, uint32_t count, void *call)',
    ),
    imageUnmap: library.func('int ambit_image_unmap()'),
    watchStart: library.func('int ambit_watch_start(void *read_fd, void *call)'),
    watchAdd: library.func('int ambit_watch_add(int epoll, int fd, uint32_t key, void *call)'),
    watchRearm: library.func('int ambit_watch_rearm(int epoll, int fd, uint32_t key, void *call)'),
    libbpfLogTake: library.func('int ambit_libbpf_log_take(void *into, int size)'),
    libbpfPrint: library.symbol('ambit_libbpf_print') as unknown,
  }
  return loaded
}

/** Turns a negative result into a NativeError that names the call the C side was at. */
export function shimError(result: number, call: Buffer, detail: string): NativeError {
  const end = call.indexOf(0)
  return new NativeError(call.toString('utf8', 0, end < 0 ? call.length : end), -result, detail)
}
