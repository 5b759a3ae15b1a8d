// SPDX-License-Identifier: Apache-2.0
// What the kernel says a TCP socket's options are.

import koffi from 'koffi'

const SOL_SOCKET = 1
const IPPROTO_IP = 0
const IPPROTO_TCP = 6
const SO_KEEPALIVE = 9
const SO_OOBINLINE = 10
const IP_TOS = 1
const TCP_NODELAY = 1
const TCP_KEEPIDLE = 4
const TCP_KEEPINTVL = 5
const TCP_KEEPCNT = 6
const TCP_USER_TIMEOUT = 18

const getsockopt = koffi
  .load('libc.so.6')
  .func(
    'int getsockopt(int fd, int level, int name, _Out_ void *value, _Inout_ uint32_t *size)',
  ) as (...args: readonly unknown[]) => number

function read(fd: number, level: number, name: number): number {
  const value = Buffer.alloc(4)
  if (getsockopt(fd, level, name, value, new Uint32Array([value.length])) < 0)
    throw new Error(`getsockopt ${level}/${name} of fd ${fd}: errno ${koffi.errno()}`)
  return value.readInt32LE()
}

/** The options of an open socket that tests care about. */
export function socketOptions(fd: number): {
  readonly noDelay: boolean
  readonly urgentInline: boolean
  readonly tos: number
  readonly userTimeoutMs: number
  readonly keepAlive:
    | { readonly idleS: number; readonly intervalS: number; readonly probes: number }
    | undefined
} {
  return {
    noDelay: read(fd, IPPROTO_TCP, TCP_NODELAY) !== 0,
    urgentInline: read(fd, SOL_SOCKET, SO_OOBINLINE) !== 0,
    tos: read(fd, IPPROTO_IP, IP_TOS),
    userTimeoutMs: read(fd, IPPROTO_TCP, TCP_USER_TIMEOUT),
    keepAlive:
      read(fd, SOL_SOCKET, SO_KEEPALIVE) === 0
        ? undefined
        : {
            idleS: read(fd, IPPROTO_TCP, TCP_KEEPIDLE),
            intervalS: read(fd, IPPROTO_TCP, TCP_KEEPINTVL),
            probes: read(fd, IPPROTO_TCP, TCP_KEEPCNT),
          },
  }
}
