// SPDX-License-Identifier: Apache-2.0
// The state of a TCP socket as the kernel has it: what Node and libuv do not notice once they have read a FIN.

import koffi from 'koffi'
import { NativeError } from './error.ts'

const LIBC = 'libc.so.6'
const IPPROTO_TCP = 6
const TCP_KEEPIDLE = 4
const TCP_KEEPINTVL = 5
const TCP_KEEPCNT = 6
const TCP_INFO = 11
const SOL_SOCKET = 1
const SO_KEEPALIVE = 9
/** enum in include/net/tcp_states.h. */
const TCP_CLOSE = 7

/** A peer whose kernel knows it no more is found at the next probe; a network that is away for less than 100 s does no harm. */
const PROBE_IDLE_S = 10
const PROBE_INTERVAL_S = 10
const PROBES = 9

type SocketOption = (
  fd: number,
  level: number,
  name: number,
  value: Int32Array | Buffer,
  length: Uint32Array | number,
) => number
let getOption: SocketOption | undefined
let setOption: SocketOption | undefined

/**
 * struct tcp_info begins with tcpi_state; the kernel copies as much as there is room for. Of a listener tcpi_unacked is
 * the length of its queue.
 */
const state = Buffer.alloc(1)
const listener = Buffer.alloc(28)
const UNACKED_OFFSET = 24
const sent = Buffer.alloc(128)
const LAST_DATA_OFFSET = 52
const LAST_ACK_OFFSET = 56
const BYTES_ACKED_OFFSET = 120
const length = new Uint32Array(1)
const number = new Int32Array(1)

/**
 * Whether the kernel has ended the connection (a reset came, keepalive or a retransmission gave up) though the descriptor is still open.
 * Throws NativeError for what is no TCP socket.
 */
export function isTcpClosed(fd: number): boolean {
  tcpInfo(fd, state)
  return state[0] === TCP_CLOSE
}

/** How many connections wait in a listener's queue to be accepted. Throws NativeError for what is no TCP socket. */
export function waitingConnections(fd: number): number {
  tcpInfo(fd, listener)
  return listener.readUInt32LE(UNACKED_OFFSET)
}

/** What became of what was sent. */
export interface TcpSent {
  readonly acknowledgedBytes: number
  /** Segments under way. */
  readonly unacknowledged: number
  /** When data or an acknowledgement last came, in milliseconds before now. */
  readonly heardAgoMs: number
}

/** Throws NativeError for what is no TCP socket. */
export function tcpSent(fd: number): TcpSent {
  tcpInfo(fd, sent)
  return {
    acknowledgedBytes: Number(sent.readBigUInt64LE(BYTES_ACKED_OFFSET)),
    unacknowledged: sent.readUInt32LE(UNACKED_OFFSET),
    heardAgoMs: Math.min(sent.readUInt32LE(LAST_DATA_OFFSET), sent.readUInt32LE(LAST_ACK_OFFSET)),
  }
}

function tcpInfo(fd: number, into: Buffer): void {
  getOption ??= koffi
    .load(LIBC)
    .func(
      'int getsockopt(int fd, int level, int name, _Out_ void *value, _Inout_ uint32_t *length)',
    ) as SocketOption
  length[0] = into.length
  if (getOption(fd, IPPROTO_TCP, TCP_INFO, into, length) < 0)
    throw new NativeError('getsockopt', koffi.errno(), `TCP_INFO of fd ${fd}`)
}

/** Has the kernel ask the peer of an idle connection every 10 s whether it is there. Throws NativeError. */
export function probeTcpPeer(fd: number): void {
  setOption ??= koffi
    .load(LIBC)
    .func(
      'int setsockopt(int fd, int level, int name, const int *value, uint32_t length)',
    ) as SocketOption
  for (const [level, name, value] of [
    [IPPROTO_TCP, TCP_KEEPIDLE, PROBE_IDLE_S],
    [IPPROTO_TCP, TCP_KEEPINTVL, PROBE_INTERVAL_S],
    [IPPROTO_TCP, TCP_KEEPCNT, PROBES],
    [SOL_SOCKET, SO_KEEPALIVE, 1],
  ] as const) {
    number[0] = value
    if (setOption(fd, level, name, number, number.byteLength) < 0)
      throw new NativeError('setsockopt', koffi.errno(), `option ${name} of fd ${fd}`)
  }
}
