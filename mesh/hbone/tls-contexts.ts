// SPDX-License-Identifier: Apache-2.0
// What TLS makes of a certificate, its key and its roots: made once for each certificate, whatever number of pods and connections it has. To
// read them takes OpenSSL a millisecond, in which no byte of any pod moves: on a node with a hundred pods of one account, or of many peers, that adds up.

import type { Socket } from 'node:net'
import {
  createSecureContext,
  createServer,
  type SecureContext,
  type Server,
  type TLSSocket,
} from 'node:tls'
import type { WorkloadCertificate } from '../identity/types.ts'
import { secureContextOptions, serverTlsOptions } from './tls.ts'

/** Who began a handshake, and hears how it ended: by one of these, or by the 'close' of its socket alone. */
export interface Handshaker {
  onSecure(socket: TLSSocket): void
  onFailed(error: Error, socket: TLSSocket): void
}

/** The servers' side of TLS with one certificate. It never listens: who accepts connections may bound them first. */
export class TlsHandshakes {
  readonly #server: Server
  readonly #underWay = new WeakMap<Socket, Handshaker>()

  /** Throws where OpenSSL cannot read key or certificates. */
  constructor(certificate: WorkloadCertificate) {
    this.#server = createServer(serverTlsOptions(certificate))
      .on('secureConnection', (socket) => this.#whoBegan(socket)?.onSecure(socket))
      .on('tlsClientError', (error, socket) => this.#whoBegan(socket)?.onFailed(error, socket))
  }

  begin(raw: Socket, handshaker: Handshaker): void {
    this.#underWay.set(raw, handshaker)
    this.#server.emit('connection', raw)
  }

  /** Node keeps the TCP socket under a TLS socket in `_parent`; there is no public way back to it. */
  #whoBegan(socket: TLSSocket): Handshaker | undefined {
    const raw = Reflect.get(socket, '_parent') as Socket
    const handshaker = this.#underWay.get(raw)
    // The connection may live for days: it shall not keep what its handshake needed.
    this.#underWay.delete(raw)
    return handshaker
  }
}

const handshakes = new WeakMap<WorkloadCertificate, TlsHandshakes>()
const contexts = new WeakMap<WorkloadCertificate, SecureContext>()

/** For servers. Throws where OpenSSL cannot read key or certificates. */
export function handshakesWith(certificate: WorkloadCertificate): TlsHandshakes {
  return madeOnce(handshakes, certificate, () => new TlsHandshakes(certificate))
}

/** For clients. Throws where OpenSSL cannot read key or certificates. */
export function secureContextOf(certificate: WorkloadCertificate): SecureContext {
  return madeOnce(contexts, certificate, () =>
    createSecureContext(secureContextOptions(certificate)),
  )
}

function madeOnce<Key extends object, Value>(
  made: WeakMap<Key, Value>,
  key: Key,
  make: () => Value,
): Value {
  const known = made.get(key)
  if (known !== undefined) return known
  const value = make()
  made.set(key, value)
  return value
}
