// SPDX-License-Identifier: Apache-2.0
// What data-plane worker threads need of capture. Made in each worker from plain data; hot, once per connection.

import type { AmbitError } from '../../mesh/errors.ts'
import { err, ok, type Result } from '../../mesh/result.ts'
import { NativeError } from '../../native/error.ts'
import { handshakesIn } from '../../native/handshakes.ts'
import { addressBytes } from '../../native/libc.ts'
import { loadLibbpf } from '../../native/libbpf.ts'
import { openSocket, type SocketOption, type SocketSpec } from '../../native/socket-spec.ts'
import { toAmbitError } from './failure.ts'
import { CALL_NAME_SIZE, loadShim, shimError } from '../../native/shim.ts'
import { decodeAsked, decodeDestination, encodeAsked, isCapturedSocket, LAYOUT } from './layout.ts'
import type { DataPlaneHandles, DataPlaneSockets, UpstreamSource } from './types.ts'

/** Mark of the agent's connections to applications: replies carry it and the 0x111 rule keeps them in the pod. */
export const UPSTREAM_MARK = 0x111

const PLAIN_OPTIONS: readonly SocketOption[] = ['noDelay', 'keepAlive', 'urgentInline']
const OPTIONS: Readonly<Record<UpstreamSource['whose'], readonly SocketOption[]>> = {
  pod: PLAIN_OPTIONS,
  foreign: [...PLAIN_OPTIONS, 'transparent'],
  client: [...PLAIN_OPTIONS, 'transparent'],
}

/** Builds the worker's side. `openUpstream` refuses to run on the process's main thread. */
export function createDataPlaneSockets(handles: DataPlaneHandles): DataPlaneSockets {
  const library = loadLibbpf()
  // One buffer each: calls are synchronous.
  const key = Buffer.alloc(4)
  const value = Buffer.alloc(LAYOUT.ambit_socket.size)
  const socketKey = Buffer.alloc(8)
  const asked = Buffer.alloc(LAYOUT.ambit_asked.size)
  const call = Buffer.alloc(CALL_NAME_SIZE)
  const hasStorage = (fd: number): boolean => {
    key.writeInt32LE(fd)
    return library.bpf_map_lookup_elem(handles.socketStorageMapFd, key, value) >= 0
  }
  const open = (what: string, wanted: SocketSpec): Result<number, AmbitError> => {
    try {
      return ok(openSocket(wanted))
    } catch (thrown) {
      if (!(thrown instanceof NativeError)) throw thrown
      return err(toAmbitError(what, thrown))
    }
  }
  const netnsOf = (fd: number) => ({ fd, homeFd: handles.homeNetnsFd })
  return {
    originalDestination: (acceptedFd) =>
      hasStorage(acceptedFd) ? decodeDestination(value) : undefined,
    openUpstream({ netnsFd, family, from }) {
      return open('open an upstream socket in the pod', {
        netns: netnsOf(netnsFd),
        family,
        kind: 'tcp',
        exemptInMapFd: handles.socketStorageMapFd,
        ...(from === undefined ? { options: PLAIN_OPTIONS } : boundTo(from)),
      })
    },
    openAsApp({ netnsFd, family }) {
      const netns = netnsOf(netnsFd)
      return open("open a socket as the pod's app would", { netns, family, kind: 'tcp' })
    },
    isCaptured: (fd) => hasStorage(fd) && isCapturedSocket(value),
    askedSince(cookie) {
      socketKey.writeBigUInt64LE(cookie)
      const map = handles.askedSinceMapFd
      return library.bpf_map_lookup_and_delete_elem(map, socketKey, asked) < 0
        ? undefined
        : decodeAsked(asked)
    },
    setOptions(fd, options) {
      encodeAsked(asked, options)
      const result = loadShim().socketAsk(fd, asked, call)
      if (result < 0) throw shimError(result, call, `fd ${fd}`)
    },
    handshakesIn: (fd) => handshakesIn(netnsOf(fd)),
  }
}

function boundTo({ address, port, whose }: UpstreamSource) {
  return {
    // The same port serves any number of connections, as long as each leads elsewhere.
    options: [...OPTIONS[whose], port === 0 ? 'bindNoPort' : 'reuseAddress'] as const,
    ...(whose === 'client' && { mark: UPSTREAM_MARK }),
    bind: { address: addressBytes(address), port },
  }
}
