// SPDX-License-Identifier: Apache-2.0
// A blocking TCP client of single system calls, for what node:net cannot do: device-bound, marked, MPTCP, fast open,
// bound to a port, reconnected. Runs in processes of its own.

import koffi from 'koffi'
import { errnoName } from '../../../native/error.ts'
import { addressBytes } from '../../../native/libc.ts'

const libc = koffi.load('libc.so.6')
const call = {
  socket: libc.func('int socket(int family, int type, int protocol)'),
  setsockopt: libc.func(
    'int setsockopt(int fd, int level, int name, const void *value, uint32_t size)',
  ),
  getsockopt: libc.func(
    'int getsockopt(int fd, int level, int name, _Out_ void *value, _Inout_ uint32_t *size)',
  ),
  bind: libc.func('int bind(int fd, const void *address, uint32_t size)'),
  listen: libc.func('int listen(int fd, int backlog)'),
  connect: libc.func('int connect(int fd, const void *address, uint32_t size)'),
  sendto: libc.func(
    'long sendto(int fd, const void *data, size_t size, int flags, const void *address, uint32_t address_size)',
  ),
  getpeername: libc.func('int getpeername(int fd, void *address, void *size)'),
  getsockname: libc.func('int getsockname(int fd, void *address, void *size)'),
  recv: libc.func('long recv(int fd, void *data, size_t size, int flags)'),
  shutdown: libc.func('int shutdown(int fd, int how)'),
  close: libc.func('int close(int fd)'),
} as Record<string, (...args: readonly unknown[]) => number>

const SOL_SOCKET = 1
const SO_RCVTIMEO = 20
const SO_SNDTIMEO = 21
const SO_BINDTODEVICE = 25
const SO_MARK = 36
const IPPROTO_MPTCP = 262
const MSG_OOB = 1
const SHUT_WR = 1
const MSG_FASTOPEN = 0x20000000
const TIMEOUT_S = 3n

/** What to do with the socket, in the order of the fields. */
export interface RawConnect {
  readonly address: string
  readonly port: number
  readonly device?: string
  readonly mark?: number
  readonly multipath?: boolean
  /** Level, name and value of socket options, set before connect(). */
  readonly options?: readonly (readonly [number, number, number | string])[]
  /** Sign what goes to this address (TCP_MD5SIG). */
  readonly signTo?: string
  readonly localAddress?: string
  readonly localPort?: number
  /** Connect and send in one call. */
  readonly fastOpen?: boolean
  /** Connect here first, disconnect (AF_UNSPEC), then connect to address and port on the same socket. */
  readonly before?: { readonly address: string; readonly port: number }
  /** Send abc, an urgent !, and def, then end. */
  readonly urgent?: boolean
  /** Do not wait for an answer. */
  readonly silent?: boolean
  /** Nor close: it stays open as long as the process. */
  readonly keep?: boolean
}

/** What the application saw. */
export interface RawResult {
  readonly error?: string
  readonly peer?: string
  readonly local?: string
  readonly received?: string
}

function sockaddr(address: string, port: number): Buffer {
  const bytes = addressBytes(address)
  const isV4 = bytes.length === 4
  const target = Buffer.alloc(isV4 ? 16 : 28)
  target.writeUInt16LE(isV4 ? 2 : 10, 0)
  target.writeUInt16BE(port, 2)
  target.set(bytes, isV4 ? 4 : 8)
  return target
}

function name(which: 'getpeername' | 'getsockname', fd: number): string {
  const address = Buffer.alloc(28)
  const size = new Uint32Array([28])
  if ((call[which]?.(fd, address, size) ?? -1) < 0) return errnoName(koffi.errno())
  const port = address.readUInt16BE(2)
  if (address.readUInt16LE(0) === 2) return `${[...address.subarray(4, 8)].join('.')}:${port}`
  const groups = Array.from({ length: 8 }, (_, group) =>
    address.readUInt16BE(8 + group * 2).toString(16),
  )
  return `[${groups.join(':').replace(/(^|:)0(:0)+(:|$)/, '::')}]:${port}`
}

class CallError extends Error {}

function must(name: string, ...args: readonly unknown[]): number {
  const result = call[name]?.(...args) ?? -1
  if (result < 0) throw new CallError(errnoName(koffi.errno()))
  return result
}

/** Sets an option; throws with the errno's name. */
export function option(fd: number, level: number, name: number, value: Buffer): void {
  must('setsockopt', fd, level, name, value, value.length)
}

function number(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32LE(value)
  return bytes
}

/** TCP_MD5SIG (RFC 2385) with this peer, struct tcp_md5sig; the key is the same everywhere. */
export function signTo(fd: number, peer: string): void {
  const key = Buffer.from('known to both')
  const request = Buffer.alloc(216)
  request.set(sockaddr(peer, 0))
  request.writeUInt16LE(key.length, 130)
  request.set(key, 136)
  option(fd, 6, 14, request)
}

function timeout(): Buffer {
  const value = Buffer.alloc(16)
  value.writeBigInt64LE(TIMEOUT_S)
  return value
}

/** Connects, looks at both names, reads one answer to the end. Never throws for what the kernel refuses. */
export function rawConnect(wanted: RawConnect): RawResult {
  const target = sockaddr(wanted.address, wanted.port)
  const fd = must(
    'socket',
    target.readUInt16LE(0),
    1,
    wanted.multipath === true ? IPPROTO_MPTCP : 0,
  )
  try {
    // MPTCP sockets take no such option before 5.17.
    if (wanted.multipath !== true) {
      option(fd, SOL_SOCKET, SO_RCVTIMEO, timeout())
      option(fd, SOL_SOCKET, SO_SNDTIMEO, timeout())
    }
    if (wanted.device !== undefined)
      option(fd, SOL_SOCKET, SO_BINDTODEVICE, Buffer.from(`${wanted.device}\0`))
    if (wanted.mark !== undefined) option(fd, SOL_SOCKET, SO_MARK, number(wanted.mark))
    for (const [level, name, value] of wanted.options ?? [])
      option(fd, level, name, typeof value === 'string' ? Buffer.from(value) : number(value))
    if (wanted.signTo !== undefined) signTo(fd, wanted.signTo)
    if (wanted.localAddress !== undefined) {
      const local = sockaddr(wanted.localAddress, wanted.localPort ?? 0)
      must('bind', fd, local, local.length)
    }
    if (wanted.before !== undefined) {
      const before = sockaddr(wanted.before.address, wanted.before.port)
      must('connect', fd, before, before.length)
      const unspecified = Buffer.alloc(16)
      must('connect', fd, unspecified, unspecified.length)
    }
    if (wanted.fastOpen === true)
      must('sendto', fd, Buffer.from('early'), 5, MSG_FASTOPEN, target, target.length)
    else must('connect', fd, target, target.length)
    const names = { peer: name('getpeername', fd), local: name('getsockname', fd) }
    if (wanted.urgent === true) {
      for (const [text, flags] of [
        ['abc', 0],
        ['!', MSG_OOB],
        ['def', 0],
      ] as const)
        must('sendto', fd, Buffer.from(text), text.length, flags, null, 0)
      must('shutdown', fd, SHUT_WR)
    }
    if (wanted.silent === true || wanted.keep === true) return names
    return { ...names, received: readAll(fd) }
  } catch (thrown) {
    if (!(thrown instanceof CallError)) throw thrown
    return { error: thrown.message }
  } finally {
    if (wanted.keep !== true) call.close?.(fd)
  }
}

function readAll(fd: number): string {
  const chunk = Buffer.alloc(4096)
  let text = ''
  for (;;) {
    const length = must('recv', fd, chunk, chunk.length, 0)
    if (length === 0) return text
    text += chunk.toString('utf8', 0, length)
  }
}

/** An option's number, or what there is of its bytes. */
export function optionOf(fd: number, level: number, name: number): Buffer {
  const value = Buffer.alloc(256)
  const size = new Uint32Array([value.length])
  must('getsockopt', fd, level, name, value, size)
  return value.subarray(0, size[0])
}

/** Binds and listens without SO_REUSEADDR, as an application that never heard of it. Gives the errno's name or ok. */
export function rawListen(address: string, port: number): string {
  const target = sockaddr(address, port)
  const fd = must('socket', target.readUInt16LE(0), 1, 0)
  try {
    must('bind', fd, target, target.length)
    must('listen', fd, 1)
    return 'ok'
  } catch (thrown) {
    if (!(thrown instanceof CallError)) throw thrown
    return thrown.message
  } finally {
    call.close?.(fd)
  }
}
