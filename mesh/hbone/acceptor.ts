// SPDX-License-Identifier: Apache-2.0
// The front door of 15008: accepts TCP, bounds how many strangers may knock at once, runs TLS against a
// deadline, and hands on only connections whose client proved an identity of our trust domain.

import { type Server, type Socket, createServer } from 'node:net'
import { type Server as TlsServer, type TLSSocket, createServer as createTlsServer } from 'node:tls'
import type { WorkloadCertificate } from '../identity/types.ts'
import type { SocketAddress, SpiffeId } from '../model/types.ts'
import {
  ACCEPT_DEADLINE_MS,
  MAX_UNAUTHENTICATED,
  MAX_UNAUTHENTICATED_PER_SOURCE,
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
  /** For tests; defaults to the limits of limits.ts. */
  readonly limits?: Partial<AcceptLimits>
}

export interface AcceptLimits {
  readonly deadlineMs: number
  readonly unauthenticated: number
  readonly unauthenticatedPerSource: number
}

export interface Acceptor {
  listen(fd: number): Promise<void>
  setCertificate(certificate: WorkloadCertificate): void
  /** Stops accepting and cuts handshakes under way; connections handed on are not touched. */
  close(): void
}

interface Knock {
  readonly raw: Socket
  readonly peer: SocketAddress
  readonly local: SocketAddress
  readonly deadline: NodeJS.Timeout
  readonly deadlineAt: number
}

/** Makes the acceptor of one pod's port 15008. */
export function createAcceptor(options: AcceptorOptions): Acceptor {
  const limits: AcceptLimits = {
    deadlineMs: ACCEPT_DEADLINE_MS,
    unauthenticated: MAX_UNAUTHENTICATED,
    unauthenticatedPerSource: MAX_UNAUTHENTICATED_PER_SOURCE,
    ...options.limits,
  }
  let certificate = options.certificate
  const knocking = new Map<Socket, Knock>()
  const bySource = new Map<string, number>()

  const forget = (knock: Knock): void => {
    if (!knocking.delete(knock.raw)) return
    clearTimeout(knock.deadline)
    const left = (bySource.get(knock.peer.address) ?? 1) - 1
    if (left > 0) bySource.set(knock.peer.address, left)
    else bySource.delete(knock.peer.address)
  }

  const refuse = (knock: Knock, message: string): void => {
    if (!knocking.has(knock.raw)) return
    forget(knock)
    options.onRefused({ peer: knock.peer, reason: 'tlsFailure', message })
  }

  // Fed by hand, never listening itself: net.Server accepts, so that strangers can be bounded before TLS begins.
  const tls: TlsServer = createTlsServer(serverTlsOptions(certificate))
  tls.on('secureConnection', (socket: TLSSocket) => {
    const knock = knockOf(socket, knocking)
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
    const knock = knockOf(socket, knocking)
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
    const fromSource = bySource.get(peer.address) ?? 0
    if (knocking.size >= limits.unauthenticated || fromSource >= limits.unauthenticatedPerSource) {
      resetSocket(raw)
      options.onRefused({
        peer,
        reason: 'tlsFailure',
        message: `too many connections in their handshake (${fromSource} from ${peer.address}, ${knocking.size} in all)`,
      })
      return
    }
    // Node's handshakeTimeout starts anew with each byte, so a slow-loris outlives it: this one does not.
    const deadline = setTimeout(() => {
      refuse(knock, `not finished within ${limits.deadlineMs} ms`)
      cutHandshake(raw)
    }, limits.deadlineMs)
    const deadlineAt = performance.now() + limits.deadlineMs
    const knock: Knock = { raw, peer, local, deadline, deadlineAt }
    knocking.set(raw, knock)
    bySource.set(peer.address, fromSource + 1)
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
      for (const knock of [...knocking.values()]) {
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
function knockOf(socket: TLSSocket, knocking: ReadonlyMap<Socket, Knock>): Knock | undefined {
  return knocking.get(Reflect.get(socket, '_parent') as Socket)
}
