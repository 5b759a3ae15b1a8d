// SPDX-License-Identifier: Apache-2.0
// The state of a TCP socket as the kernel has it: what Node and libuv do not notice once they have read a FIN.

import { constants } from 'node:os'
import koffi from 'koffi'
import { NativeError } from './error.ts'

const LIBC = 'libc.so.6'
const IPPROTO_TCP = 6
const TCP_INFO = 11
/** enum in include/net/tcp_states.h. */
const TCP_CLOSE = 7

type GetSockOpt = (
  fd: number,
  level: number,
  name: number,
  value: Buffer,
  length: Uint32Array,
) => number
let getSockOpt: GetSockOpt | undefined

/** struct tcp_info begins with tcpi_state; the kernel copies as much as there is room for. */
const state = Buffer.alloc(1)
const length = new Uint32Array(1)

/**
 * Whether the kernel has ended the connection (a reset came, keepalive or a retransmission gave up) though the descriptor is still open.
 * Throws NativeError for what is no TCP socket.
 */
export function isTcpClosed(fd: number): boolean {
  getSockOpt ??= koffi
    .load(LIBC)
    .func(
      'int getsockopt(int fd, int level, int name, _Out_ void *value, _Inout_ uint32_t *length)',
    ) as GetSockOpt
  length[0] = state.length
  if (getSockOpt(fd, IPPROTO_TCP, TCP_INFO, state, length) < 0) {
    const errno = koffi.errno()
    // ENOTCONN is what other kernels say of a closed one.
    if (errno === constants.errno.ENOTCONN) return true
    throw new NativeError('getsockopt', errno, `TCP_INFO of fd ${fd}`)
  }
  return state[0] === TCP_CLOSE
}
