// SPDX-License-Identifier: Apache-2.0
// What a socket shall be like, in the form the C shim takes (struct ambit_socket_spec in native/src/socket.c), and
// the call that makes it. Used by the enrolment thread for listeners and by data-plane threads per connection.

import { CALL_NAME_SIZE, loadShim, shimError } from './shim.ts'

const AF_INET = 2
const AF_INET6 = 10
const SOCK_STREAM = 1
const SOCK_DGRAM = 2
const AF_NETLINK = 16
const SOCK_RAW = 3
const SPEC_SIZE = 52
const ADDRESS_OFFSET = 32
const PORT_OFFSET = 48
const PROTOCOL_OFFSET = 50

const FLAG = {
  reuseAddress: 1 << 0,
  reusePort: 1 << 1,
  freeBind: 1 << 2,
  transparent: 1 << 3,
  bindNoPort: 1 << 4,
  noDelay: 1 << 5,
  keepAlive: 1 << 6,
  urgentInline: 1 << 9,
} as const

const FLAG_BIND = 1 << 7
const FLAG_EXEMPT = 1 << 8

/** Boolean options of a socket. */
export type SocketOption = keyof typeof FLAG

/** A socket to make. Options that are not listed stay off. */
export interface SocketSpec {
  /** The namespace to make it in; undefined makes it at home. Never on the main thread. */
  readonly netns?: { readonly fd: number; readonly homeFd: number }
  readonly family: 4 | 6
  readonly kind: 'tcp' | 'udp'
  readonly options?: readonly SocketOption[]
  readonly mark?: number
  /** Flags the socket as exempt from capture in this socket storage map. */
  readonly exemptInMapFd?: number
  /** Where to bind; address as 4 or 16 bytes in network order. */
  readonly bind?: { readonly address: Uint8Array; readonly port: number }
  /** Listen with this accept queue. */
  readonly backlog?: number
}

// One buffer a thread: calls are synchronous, so none is in use when the next begins.
const spec = Buffer.alloc(SPEC_SIZE)
const call = Buffer.alloc(CALL_NAME_SIZE)

/**
 * Makes a non-blocking, close-on-exec socket and gives its fd, which the caller owns. Throws NativeError.
 * Hot: once per upstream connection; watched by the connection-rate bench.
 */
export function openSocket(wanted: SocketSpec): number {
  let flags = 0
  if (wanted.options !== undefined) for (const option of wanted.options) flags |= FLAG[option]
  if (wanted.exemptInMapFd !== undefined) flags |= FLAG_EXEMPT
  spec.fill(0, ADDRESS_OFFSET)
  if (wanted.bind !== undefined) {
    flags |= FLAG_BIND
    spec.set(wanted.bind.address, ADDRESS_OFFSET)
    spec.writeUInt16LE(wanted.bind.port, PORT_OFFSET)
  }
  spec.writeInt32LE(wanted.netns?.fd ?? -1, 0)
  spec.writeInt32LE(wanted.netns?.homeFd ?? -1, 4)
  spec.writeInt32LE(wanted.family === 4 ? AF_INET : AF_INET6, 8)
  spec.writeInt32LE(wanted.kind === 'tcp' ? SOCK_STREAM : SOCK_DGRAM, 12)
  spec.writeUInt32LE(flags, 16)
  spec.writeUInt32LE(wanted.mark ?? 0, 20)
  spec.writeInt32LE(wanted.exemptInMapFd ?? -1, 24)
  spec.writeInt32LE(wanted.backlog ?? 0, 28)
  const result = loadShim().socketOpen(spec, call)
  if (result < 0) throw shimError(result, call, describe(wanted))
  return result
}

/** What a netlink socket speaks of (linux/netlink.h). */
const NETLINK_PROTOCOL = { route: 0, sockets: 4 } as const

/** Opens a netlink socket of a namespace; it keeps speaking for that namespace wherever it is used. */
export function openNetlinkSocket(
  netns: { readonly fd: number; readonly homeFd: number },
  of: keyof typeof NETLINK_PROTOCOL,
): number {
  spec.fill(0)
  spec.writeUInt16LE(NETLINK_PROTOCOL[of], PROTOCOL_OFFSET)
  spec.writeInt32LE(netns.fd, 0)
  spec.writeInt32LE(netns.homeFd, 4)
  spec.writeInt32LE(AF_NETLINK, 8)
  spec.writeInt32LE(SOCK_RAW, 12)
  const result = loadShim().socketOpen(spec, call)
  if (result < 0) throw shimError(result, call, 'netlink socket')
  return result
}

function describe(wanted: SocketSpec): string {
  const where =
    wanted.bind === undefined
      ? ''
      : ` bound to ${formatAddress(wanted.bind.address)}:${wanted.bind.port}`
  return `${wanted.kind}${wanted.family} socket${where}`
}

function formatAddress(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.')
  const groups: string[] = []
  for (let at = 0; at < bytes.length; at += 2)
    groups.push((((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)).toString(16))
  return `[${groups.join(':')}]`
}
