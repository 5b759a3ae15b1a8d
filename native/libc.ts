// SPDX-License-Identifier: Apache-2.0
// Small questions to the kernel that Node has no function for.

import { statfsSync } from 'node:fs'
import { isIPv4 } from 'node:net'
import { constants } from 'node:os'
import koffi from 'koffi'
import { NativeError } from './error.ts'
import { CALL_NAME_SIZE, loadShim, shimError } from './shim.ts'

const LIBC = 'libc.so.6'
const AF_INET = 2
const AF_INET6 = 10
const SOCKADDR_IN_SIZE = 16
const SOCKADDR_IN6_SIZE = 28
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
  closeCall ??= koffi.load(LIBC).func('int close(int fd)') as (fd: number) => number
  if (closeCall(fd) < 0) throw new NativeError('close', koffi.errno(), `fd ${fd}`)
}

let trimCall: ((keep: bigint) => number) | undefined

/** Has malloc return the pages that it keeps free, in the arenas of all threads; takes some milliseconds. */
export function trimMalloc(): void {
  trimCall ??= koffi.load(LIBC).func('int malloc_trim(size_t keep)') as (keep: bigint) => number
  trimCall(0n)
}

/**
 * Has the kernel unmap the program's own code and constants: starting up touches most of them, and running few. They stay in the page
 * cache, and come back page by page when they are touched, which takes some milliseconds in all. Throws NativeError.
 */
function unmapProgram(): void {
  const result = loadShim().imageUnmap()
  if (result < 0) throw new NativeError('madvise', -result, "the program's file")
}

/** Gives back what the process holds and does not use: free pages of malloc, and those of the program's file. Throws NativeError. */
export function trimProcess(): void {
  trimMalloc()
  unmapProgram()
}

const MSG_DONTWAIT = 0x40
type ReceiveCall = (fd: number, into: Buffer, size: number, flags: number) => number
let receiveCall: ReceiveCall | undefined

/** Reads what a socket has received, without waiting: the number of bytes, 0 at its end, -1 when there is nothing or it failed. */
export function readNow(fd: number, into: Buffer): number {
  receiveCall ??= koffi
    .load(LIBC)
    .func('intptr_t recv(int fd, void *into, size_t size, int flags)') as ReceiveCall
  return receiveCall(fd, into, into.length, MSG_DONTWAIT)
}

type ConnectCall = (fd: number, address: Buffer, length: number) => number
let connectCall: ConnectCall | undefined

/**
 * Starts connecting a non-blocking socket; wrap it by `new net.Socket({ fd })` afterwards, never before (Node would
 * read from it at once). Gives whether the connection is there already; throws NativeError when it is refused at once
 * (EPERM, ENETUNREACH).
 */
export function connectSocket(fd: number, address: string, port: number): boolean {
  const bytes = addressBytes(address)
  const isV4 = bytes.length === 4
  const target = Buffer.alloc(isV4 ? SOCKADDR_IN_SIZE : SOCKADDR_IN6_SIZE)
  target.writeUInt16LE(isV4 ? AF_INET : AF_INET6, 0)
  target.writeUInt16BE(port, 2)
  target.set(bytes, isV4 ? 4 : 8)
  connectCall ??= koffi
    .load(LIBC)
    .func('int connect(int fd, const void *address, uint32_t length)') as ConnectCall
  if (connectCall(fd, target, target.length) === 0) return true
  const errno = koffi.errno()
  if (errno === constants.errno.EINPROGRESS) return false
  throw new NativeError('connect', errno, `${address} port ${port}`)
}

type ConvertText = (family: number, text: string, into: Buffer) => number
let inetPton: ConvertText | undefined

/** The bytes of an IP address in network order: 4 for IPv4, 16 for IPv6. Throws NativeError for anything else. */
export function addressBytes(text: string): Buffer {
  const isV4 = isIPv4(text)
  const bytes = Buffer.alloc(isV4 ? 4 : 16)
  inetPton ??= koffi
    .load(LIBC)
    .func('int inet_pton(int family, const char *text, void *into)') as ConvertText
  if (inetPton(isV4 ? AF_INET : AF_INET6, text, bytes) !== 1)
    throw new NativeError('inet_pton', undefined, `${JSON.stringify(text)} is not an IP address`)
  return bytes
}
