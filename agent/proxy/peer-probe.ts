// SPDX-License-Identifier: Apache-2.0
// How a worker asks the kernel about the peers of its sockets.

import type { Socket } from 'node:net'
import type { PeerProbe } from '../../mesh/relay/half-closed.ts'
import { socketFd } from '../../mesh/relay/last-descriptors.ts'
import { isTcpClosed, probeTcpPeer, tcpHeardAgoMs } from '../../native/tcp-state.ts'

export const peerProbe: PeerProbe = {
  ask(socket) {
    const fd = socketFd(socket)
    if (fd !== undefined) probeTcpPeer(fd)
  },
  isDead(socket) {
    const fd = socketFd(socket)
    return fd !== undefined && isTcpClosed(fd)
  },
}

/** When the kernel last got anything of the socket's peer, in milliseconds before now; undefined: the socket is gone. */
export function heardAgoMs(socket: Socket): number | undefined {
  const fd = socketFd(socket)
  return fd === undefined ? undefined : tcpHeardAgoMs(fd)
}
