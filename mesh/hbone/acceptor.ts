// SPDX-License-Identifier: Apache-2.0
// The front door of 15008: accepts TCP, bounds how many strangers may knock at once, runs TLS against a
// deadline, and hands on only connections whose client proved an identity of our trust domain.

import { type Server, type Socket, createServer } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { ownDomainOnly, type TrustPolicy } from '../identity/trust-policy.ts'
import type { WorkloadCertificate } from '../identity/types.ts'
import { noteMade, type TlsConnection } from '../http2/adopted-wire.ts'
import type { SocketAddress, SpiffeId } from '../model/types.ts'
import type { Knocker } from './knocking.ts'
import type { HboneSources } from './sources.ts'
import { hasLastDescriptor } from '../relay/last-descriptors.ts'
import { END_REASONS, type EndReason } from '../telemetry/end-reason.ts'
import { resetSocket } from '../relay/reset-socket.ts'
import { socketAddressOf } from '../model/address.ts'
import { checkClient, explainTls } from './tls.ts'
import { handshakesWith } from './tls-contexts.ts'
import { isOvertaken } from './trust-change.ts'
import type { HboneServerOptions, ListenPlace } from './types.ts'

export interface AuthenticatedConnection extends TlsConnection {
  readonly peerIdentity: SpiffeId
  readonly peer: SocketAddress
  readonly local: SocketAddress
  /** Whether the peer's address was that of a workload when it came. */
  readonly isKnown: boolean
  /** When the first HTTP/2 SETTINGS must have come, in milliseconds of performance.now(). */
  readonly deadlineAt: number
  /** Whether the server got another certificate during the handshake, which was made on the one before. */
  readonly isOvertaken: boolean
}

export interface AcceptorOptions {
  readonly certificate: WorkloadCertificate
  readonly trust: TrustPolicy | undefined
  readonly onConnection: (connection: AuthenticatedConnection) => void
  readonly onRefused: HboneServerOptions['onRefused']
  readonly isFromOutside: HboneServerOptions['isFromOutside']
  readonly isKnownSource: HboneServerOptions['isKnownSource']
  readonly sources: HboneSources
  readonly engine: HboneServerOptions['engine']
  /** The pod served, in the books of `sources`. */
  readonly pod: string
}

export interface Acceptor {
  /** Says the port. */
  listen(place: ListenPlace): Promise<number>
  setCertificate(certificate: WorkloadCertificate): void
  /** Stops accepting; resolves when no connection is left, nor a handshake. */
  stopListening(): Promise<void>
  /** Stops accepting and cuts handshakes under way; connections handed on are not touched. */
  close(): void
}

/** One connection until its handshake is over. */
class Knock implements Knocker {
  readonly raw: Socket
  readonly peer: SocketAddress
  readonly local: SocketAddress
  readonly isKnown: boolean
  /** What the handshake is made on. */
  readonly certificate: WorkloadCertificate
  deadline: NodeJS.Timeout | undefined
  /** Of its TLS connection, as of the engine. */
  made = 0
  /** In milliseconds of performance.now(). */
  deadlineAt = 0
  readonly #giveWay: (knock: Knock, message: string) => void

  constructor(
    raw: Socket,
    peer: SocketAddress,
    local: SocketAddress,
    isKnown: boolean,
    certificate: WorkloadCertificate,
    giveWay: (knock: Knock, message: string) => void,
  ) {
    this.#giveWay = giveWay
    this.raw = raw
    this.peer = peer
    this.local = local
    this.isKnown = isKnown
    this.certificate = certificate
  }

  get bytesRead(): number {
    return this.raw.bytesRead
  }

  giveWay(message: string): void {
    this.#giveWay(this, message)
  }
}

/** Makes the acceptor of one pod's port 15008. */
export function createAcceptor(options: AcceptorOptions): Acceptor {
  const { knocking } = options.sources
  const trust = options.trust ?? ownDomainOnly(options.certificate.identity)
  const bySocket = new Map<Socket, Knock>()
  let { certificate } = options
  let tls = handshakesWith(certificate)

  const forget = (knock: Knock): boolean => {
    if (!bySocket.delete(knock.raw)) return false
    knocking.delete(knock)
    clearTimeout(knock.deadline)
    return true
  }

  const refuse = (knock: Knock, message: string, reason: EndReason = 'tlsFailure'): void => {
    if (!forget(knock)) return
    options.sources.handshakeWasted(knock.peer.address, knock.isKnown)
    options.onRefused({ peer: knock.peer, reason, message })
  }

  const refuseAndCut = (knock: Knock, message: string): void => {
    refuse(knock, message)
    cutHandshake(knock.raw)
  }

  const onSecure = (knock: Knock, socket: TLSSocket): void => {
    if (!bySocket.has(knock.raw)) return void socket.destroy() // refused meanwhile
    const isOutdated = isOvertaken(knock.certificate, certificate)
    const identity = checkClient(socket, trust, isOutdated ? certificate.rootsPem : undefined)
    if (!identity.ok) {
      refuse(knock, identity.error.message, identity.error.reason)
      socket.destroy()
      return
    }
    forget(knock)
    options.onConnection({
      socket,
      made: knock.made,
      peerIdentity: identity.value,
      peer: knock.peer,
      local: knock.local,
      isKnown: knock.isKnown,
      deadlineAt: knock.deadlineAt,
      isOvertaken: isOutdated,
    })
  }

  const tcp: Server = createServer({ noDelay: true }, (raw) => {
    const peer = socketAddressOf(raw.remoteAddress, raw.remotePort)
    const local = socketAddressOf(raw.localAddress, raw.localPort)
    if (peer === undefined || local === undefined) {
      raw.destroy() // gone before we looked
      return
    }
    if (hasLastDescriptor(raw)) {
      resetSocket(raw)
      options.onRefused({
        peer,
        reason: 'outOfDescriptors',
        message: END_REASONS.outOfDescriptors.text,
      })
      return
    }
    if (!options.isFromOutside(peer, local)) {
      resetSocket(raw)
      const message = `a call from ${peer.address} to ${local.address} is none from outside to this pod`
      options.onRefused({ peer, reason: 'selfCall', message })
      return
    }
    const isKnown = options.isKnownSource(peer.address)
    const away = options.sources.turnAway(options.pod, peer.address, isKnown)
    if (away !== undefined) {
      resetSocket(raw)
      options.onRefused({ peer, ...away })
      return
    }
    const knock = new Knock(raw, peer, local, isKnown, certificate, refuseAndCut)
    bySocket.set(raw, knock)
    const deadlineMs = knocking.add(peer.address, isKnown, knock)
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
    const handshaker = {
      onSecure: (socket: TLSSocket): void => onSecure(knock, socket),
      onFailed: (error: Error, socket: TLSSocket): void => {
        refuse(knock, explainTls(error, socket))
        socket.destroy()
      },
    }
    // TLS begins here and not with accept, so that strangers are bounded before.
    knock.made = noteMade(options.engine, () => tls.begin(raw, handshaker)).made
  })

  let stopped: Promise<void> | undefined
  const stopListening = (): Promise<void> => {
    // Node calls back when all that the server has accepted is closed.
    stopped ??= new Promise((resolve) => tcp.close(() => resolve()))
    return stopped
  }

  return {
    listen: (place) =>
      new Promise((resolve, reject) => {
        tcp.once('error', reject)
        tcp.listen(place, () => {
          tcp.removeListener('error', reject)
          // Whatever accept() fails of is no reason to end the process. It does not fail for want of descriptors: see above.
          tcp.on('error', (error) => {
            const message = `cannot accept a connection: ${error.message}`
            options.onRefused({ peer: undefined, reason: 'internal', message })
          })
          const bound = tcp.address()
          resolve(typeof bound === 'object' && bound !== null ? bound.port : 0)
        })
      }),
    setCertificate(renewed) {
      tls = handshakesWith(renewed)
      certificate = renewed
    },
    stopListening,
    close() {
      void stopListening()
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
