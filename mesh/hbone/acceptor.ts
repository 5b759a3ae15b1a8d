// SPDX-License-Identifier: Apache-2.0
// The front door of 15008: accepts TCP, bounds how many strangers may knock at once, runs TLS against a
// deadline, and hands on only connections whose client proved an identity of our trust domain.

import { type Server, type Socket, createServer } from 'node:net'
import { type Server as TlsServer, type TLSSocket, createServer as createTlsServer } from 'node:tls'
import type { WorkloadCertificate } from '../identity/types.ts'
import type { SocketAddress, SpiffeId } from '../model/types.ts'
import { type KnockLimits, type Knocker, Knocking } from './knocking.ts'
import {
  ACCEPT_DEADLINE_MS,
  MAX_UNAUTHENTICATED,
  MAX_UNAUTHENTICATED_PER_SOURCE,
  RESERVED_FOR_MESH,
  SHORTEST_ACCEPT_DEADLINE_MS,
} from './limits.ts'
import { resetSocket } from '../relay/reset-socket.ts'
import { socketAddressOf } from '../model/address.ts'
import { checkClient, explainTls, secureContextOptions, serverTlsOptions } from './tls.ts'
import type { HboneServerOptions } from './types.ts'

export interface AuthenticatedConnection {
  readonly socket: TLSSocket
  readonly peerIdentity: SpiffeId
  readonly peer: SocketAddress
  readonly local: SocketAddress
  /** When the first HTTP/2 SETTINGS must have come, in milliseconds of performance.now(). */
  readonly deadlineAt: number
}

export interface AcceptorOptions {
  readonly certificate: WorkloadCertificate
  readonly onConnection: (connection: AuthenticatedConnection) => void
  readonly onRefused: HboneServerOptions['onRefused']
  readonly isFromOutside: HboneServerOptions['isFromOutside']
  readonly isKnownSource: HboneServerOptions['isKnownSource']
  /** For tests; defaults to the limits of limits.ts. */
  readonly limits?: Partial<KnockLimits>
}

export interface Acceptor {
  listen(fd: number): Promise<void>
  setCertificate(certificate: WorkloadCertificate): void
  /** Stops accepting and cuts handshakes under way; connections handed on are not touched. */
  close(): void
}

/** One connection until its handshake is over. */
class Knock implements Knocker {
  readonly raw: Socket
  readonly peer: SocketAddress
  readonly local: SocketAddress
  deadline: NodeJS.Timeout | undefined
  /** In milliseconds of performance.now(). */
  deadlineAt = 0

  constructor(raw: Socket, peer: SocketAddress, local: SocketAddress) {
    this.raw = raw
    this.peer = peer
    this.local = local
  }

  get bytesRead(): number {
    return this.raw.bytesRead
  }
}

/** Makes the acceptor of one pod's port 15008. */
export function createAcceptor(options: AcceptorOptions): Acceptor {
  const limits: KnockLimits = {
    deadlineMs: ACCEPT_DEADLINE_MS,
    shortestDeadlineMs: SHORTEST_ACCEPT_DEADLINE_MS,
    unauthenticated: MAX_UNAUTHENTICATED,
    unauthenticatedPerSource: MAX_UNAUTHENTICATED_PER_SOURCE,
    reservedForMesh: RESERVED_FOR_MESH,
    ...options.limits,
  }
  let certificate = options.certificate
  const bySocket = new Map<Socket, Knock>()

  const forget = (knock: Knock): boolean => {
    if (!bySocket.delete(knock.raw)) return false
    knocking.delete(knock)
    clearTimeout(knock.deadline)
    return true
  }

  const refuse = (knock: Knock, message: string): void => {
    if (forget(knock)) options.onRefused({ peer: knock.peer, reason: 'tlsFailure', message })
  }

  const refuseAndCut = (knock: Knock, message: string): void => {
    refuse(knock, message)
    cutHandshake(knock.raw)
  }

  const knocking = new Knocking<Knock>(limits, refuseAndCut)

  // Fed by hand, never listening itself: net.Server accepts, so that strangers can be bounded before TLS begins.
  const tls: TlsServer = createTlsServer(serverTlsOptions(certificate))
  tls.on('secureConnection', (socket: TLSSocket) => {
    const knock = knockOf(socket, bySocket)
    if (knock === undefined) return void socket.destroy() // refused meanwhile
    const identity = checkClient(socket, certificate.identity)
    if (!identity.ok) {
      refuse(knock, identity.error.message)
      socket.destroy()
      return
    }
    forget(knock)
    options.onConnection({
      socket,
      peerIdentity: identity.value,
      peer: knock.peer,
      local: knock.local,
      deadlineAt: knock.deadlineAt,
    })
  })
  tls.on('tlsClientError', (error: Error, socket: TLSSocket) => {
    const knock = knockOf(socket, bySocket)
    if (knock !== undefined) refuse(knock, explainTls(error, socket))
    socket.destroy()
  })

  const tcp: Server = createServer({ noDelay: true }, (raw) => {
    const peer = socketAddressOf(raw.remoteAddress, raw.remotePort)
    const local = socketAddressOf(raw.localAddress, raw.localPort)
    if (peer === undefined || local === undefined) {
      raw.destroy() // gone before we looked
      return
    }
    if (!options.isFromOutside(peer, local)) {
      resetSocket(raw)
      const message = `a call from ${peer.address} to ${local.address} is none from outside to this pod`
      options.onRefused({ peer, reason: 'selfCall', message })
      return
    }
    const knock = new Knock(raw, peer, local)
    bySocket.set(raw, knock)
    const deadlineMs = knocking.add(peer.address, options.isKnownSource(peer.address), knock)
    knock.deadlineAt = performance.now() + deadlineMs
    // Node's handshakeTimeout starts anew with each byte, so a slow-loris outlives it: this one does not.
    knock.deadline = setTimeout(
      refuseAndCut,
      deadlineMs,
      knock,
      `not finished within ${deadlineMs} ms`,
    )
    raw.once('close', () => {
      // One turn later, for TLS reports its more telling reason only after this.
      setImmediate(refuse, knock, 'the client closed the connection during the handshake')
    })
    tls.emit('connection', raw)
  })

  return {
    listen: (fd) =>
      new Promise((resolve, reject) => {
        tcp.once('error', reject)
        tcp.listen({ fd }, () => {
          tcp.removeListener('error', reject)
          // accept() fails when the process is out of file descriptors: no reason to end it.
          tcp.on('error', (error) => {
            const message = `cannot accept a connection: ${error.message}`
            options.onRefused({ peer: undefined, reason: 'internal', message })
          })
          resolve()
        })
      }),
    setCertificate(renewed) {
      certificate = renewed
      tls.setSecureContext(secureContextOptions(renewed))
    },
    close() {
      tcp.close()
      for (const knock of [...bySocket.values()]) {
        forget(knock)
        cutHandshake(knock.raw)
      }
    },
  }
}

/**
 * Ends a connection whose TLS has begun. Not by a reset: TLS may have begun a shutdown on the handle which the raw
 * socket knows nothing of, libuv refuses a reset then, and Node loses the handle over it.
 */
function cutHandshake(raw: Socket): void {
  raw.destroy()
}

/** Node keeps the TCP socket under a TLS socket in `_parent`; there is no public way back to it. */
function knockOf(socket: TLSSocket, bySocket: ReadonlyMap<Socket, Knock>): Knock | undefined {
  return bySocket.get(Reflect.get(socket, '_parent') as Socket)
}
