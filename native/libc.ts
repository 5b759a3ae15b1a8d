// SPDX-License-Identifier: Apache-2.0
// Small questions to the kernel that Node has no function for.

import { statfsSync } from 'node:fs'
import { isIPv4 } from 'node:net'
import koffi from 'koffi'
import { NativeError } from './error.ts'
import { CALL_NAME_SIZE, loadShim, shimError } from './shim.ts'

const CGROUP2_MAGIC = 0x63677270
const BPF_FS_MAGIC = 0xcafe4a11

/** SO_NETNS_COOKIE: the identity of the namespace a socket was made in; never reused while the kernel runs. */
export function netnsCookieOfSocket(fd: number): bigint {
  const cookie = new BigUint64Array(1)
  const call = Buffer.alloc(CALL_NAME_SIZE)
  const result = loadShim().socketNetnsCookie(fd, cookie, call)
  if (result < 0) throw shimError(result, call, `fd ${fd}`)
  return cookie[0] ?? 0n
}

/** Whether the path lies on a cgroup v2 file system. */
export function isCgroup2(path: string): boolean {
  return fileSystemType(path) === CGROUP2_MAGIC
}

/** Whether the path lies on a BPF file system. */
export function isBpfFs(path: string): boolean {
  return fileSystemType(path) === BPF_FS_MAGIC
}

function fileSystemType(path: string): number | undefined {
  try {
    // Node gives the type as a signed or unsigned number depending on its width.
    return statfsSync(path).type >>> 0
  } catch (thrown) {
    if (thrown instanceof Error && 'code' in thrown && thrown.code === 'ENOENT') return undefined
    throw thrown
  }
}

let closeCall: ((fd: number) => number) | undefined

/**
 * Closes a descriptor made by this binding. Node's closeSync warns about descriptors it did not open when it runs in
 * a worker thread, so native fds go through here. Throws NativeError (EBADF is a bug of the caller).
 */
export function closeFd(fd: number): void {
  closeCall ??= koffi.load('libc.so.6').func('int close(int fd)') as (fd: number) => number
  if (closeCall(fd) < 0) throw new NativeError('close', koffi.errno(), `fd ${fd}`)
}

type ConvertText = (family: number, text: string, into: Buffer) => number
let inetPton: ConvertText | undefined

/** The bytes of an IP address in network order: 4 for IPv4, 16 for IPv6. Throws NativeError for anything else. */
export function addressBytes(text: string): Buffer {
  const isV4 = isIPv4(text)
  const bytes = Buffer.alloc(isV4 ? 4 : 16)
  inetPton ??= koffi
    .load('libc.so.6')
    .func('int inet_pton(int family, const char *text, void *into)') as ConvertText
  if (inetPton(isV4 ? 2 : 10, text, bytes) !== 1)
    throw new NativeError('inet_pton', undefined, `${JSON.stringify(text)} is not an IP address`)
  return bytes
}
