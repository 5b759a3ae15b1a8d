// SPDX-License-Identifier: Apache-2.0
// How a worker asks the kernel about the peers of half-closed sockets.

import type { PeerProbe } from '../../mesh/relay/half-closed.ts'
import { socketFd } from '../../mesh/relay/last-descriptors.ts'
import { isTcpClosed, probeTcpPeer } from '../../native/tcp-state.ts'

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
