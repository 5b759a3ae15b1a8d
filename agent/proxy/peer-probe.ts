// SPDX-License-Identifier: Apache-2.0
// How a worker asks the kernel about the peers of its sockets.

import type { Socket } from 'node:net'
import type { WayToPeer } from '../../mesh/http2/peer-silence.ts'
import type { PeerProbe } from '../../mesh/relay/half-closed.ts'
import { socketFd } from '../../mesh/relay/last-descriptors.ts'
import { isTcpClosed, probeTcpPeer, tcpSent } from '../../native/tcp-state.ts'

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

/** What the kernel knows of the way to the socket's peer; undefined: the socket is gone. */
export function wayToPeer(socket: Socket): WayToPeer | undefined {
  const fd = socketFd(socket)
  return fd === undefined ? undefined : tcpSent(fd)
}
