// SPDX-License-Identifier: Apache-2.0
// TCP as a namespace's kernel has it before accept(): handshakes under way, and connections that wait in a listener's
// queue. Both are lost when the listener closes.

import { constants } from 'node:os'
import { NativeError } from './error.ts'
import { closeFd } from './libc.ts'
import { dump } from './netlink.ts'
import { openNetlinkSocket } from './socket-spec.ts'

// linux/sock_diag.h, linux/inet_diag.h, include/net/tcp_states.h
const SOCK_DIAG_BY_FAMILY = 20
const REQUEST_SIZE = 56
const STATES_OFFSET = 4
const TCPF_SYN_RECV = 1 << 3
const IPPROTO_TCP = 6
const FAMILIES = [2, 10]
/** Both ports and both addresses, after family, state, timer and retransmissions. */
const TUPLE = { start: 4, end: 40 } as const

/**
 * The handshakes under way in a namespace, answered by SYN-ACK and not acknowledged yet, each by its own name. Undefined
 * where this kernel cannot list them (no tcp_diag). Throws NativeError. Not on the main thread.
 */
export function handshakesIn(netns: {
  readonly fd: number
  readonly homeFd: number
}): ReadonlySet<string> | undefined {
  const fd = openNetlinkSocket(netns, 'sockets')
  try {
    const found = new Set<string>()
    for (const family of FAMILIES) {
      const request = Buffer.alloc(REQUEST_SIZE)
      request[0] = family
      request[1] = IPPROTO_TCP
      request.writeUInt32LE(TCPF_SYN_RECV, STATES_OFFSET)
      for (const { type, body } of dump(fd, SOCK_DIAG_BY_FAMILY, request, [], 'list handshakes'))
        if (type === SOCK_DIAG_BY_FAMILY)
          found.add(`${family} ${body.toString('hex', TUPLE.start, TUPLE.end)}`)
    }
    return found
  } catch (thrown) {
    // The module that knows of TCP is not there.
    if (thrown instanceof NativeError && thrown.errno === constants.errno.ENOENT) return undefined
    throw thrown
  } finally {
    closeFd(fd)
  }
}
