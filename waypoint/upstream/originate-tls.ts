// SPDX-License-Identifier: Apache-2.0
// Speaks TLS to a pod whose clients do not, as a BackendTLSPolicy says: over a connection to it, or within its tunnel. Nothing of a request
// is written before the pod has proved to be what the policy asks for.

import { X509Certificate } from 'node:crypto'
import type { Duplex } from 'node:stream'
import { connect, createSecureContext, type SecureContext, type TLSSocket } from 'node:tls'
import type { CutSignal } from '../../mesh/async/cut.ts'
import { errorMessage } from '../../mesh/errors.ts'
import { HANDSHAKE_DEADLINE_MS } from '../../mesh/hbone/limits.ts'
import type { HboneFailure } from '../../mesh/hbone/types.ts'
import { readCertificate } from '../../mesh/identity/der.ts'
import type { BackendTls } from '../../mesh/model/backend-tls.ts'
import { err, ok, type Result } from '../../mesh/result.ts'
import { excerpt } from '../../mesh/telemetry/excerpt.ts'

/** What is spoken within it: RFC 7301, or what has no name there. */
export type Spoken = 'http/1.1' | 'h2' | 'bytes'

/** Reading a bundle takes longer than a handshake. */
const contexts = new WeakMap<BackendTls, SecureContext>()

/** Shakes hands; what fails leaves nothing open. `under` is a connection that nobody has used yet, and is the TLS's from now on. */
export function originateTls(
  under: Duplex,
  tls: BackendTls,
  spoken: Spoken,
  signal: CutSignal,
): Promise<Result<TLSSocket, HboneFailure>> {
  return new Promise((resolve) => {
    const socket = connect({
      socket: under,
      secureContext: contextOf(tls),
      servername: tls.hostname,
      ...(spoken === 'bytes' ? {} : { ALPNProtocols: [spoken] }),
      rejectUnauthorized: true,
      checkServerIdentity: (_name, { raw }) => mismatchOf(tls, raw),
    })
    const settle = (result: Result<TLSSocket, HboneFailure>): void => {
      clearTimeout(deadline)
      signal.removeEventListener('abort', onAbort)
      socket.off('secureConnect', onSecure)
      socket.off('error', onError)
      // What a dying connection still says is no news; of one that lives its pipe hears by 'close'.
      socket.on('error', () => undefined)
      if (!result.ok) {
        socket.destroy()
        under.destroy()
      }
      resolve(result)
    }
    const fail = (message: string): void => settle(err(failureOf(tls, message)))
    const onSecure = (): void => {
      // RFC 9113 3.3: who does not agree to HTTP/2 may take it for anything.
      if (spoken === 'h2' && socket.alpnProtocol !== 'h2')
        fail('the server does not agree to HTTP/2 (ALPN)')
      else settle(ok(socket))
    }
    const onError = (error: Error): void => fail(errorMessage(error))
    const onAbort = (): void =>
      settle(err({ reason: 'clientReset', message: 'the caller gave up during the handshake' }))
    // After a look at the sockets: a thread that was held up must not take its own lateness for the peer's.
    const deadline = setTimeout(
      () => setImmediate(fail, 'the server does not finish it in time'),
      HANDSHAKE_DEADLINE_MS,
    )
    signal.addEventListener('abort', onAbort)
    socket.on('secureConnect', onSecure)
    socket.on('error', onError)
    if (signal.aborted) onAbort()
  })
}

/** Why a pod cannot be spoken to by such a policy, in the words of the access line. */
export function failureOf({ policy, hostname }: BackendTls, message: string): HboneFailure {
  const whom = hostname === '' ? '' : ` of ${hostname}`
  return {
    reason: 'tlsFailure',
    message: `TLS${whom} by BackendTLSPolicy ${policy}: ${excerpt(message)}`,
  }
}

function contextOf(tls: BackendTls): SecureContext {
  let context = contexts.get(tls)
  if (context === undefined) {
    // Without authorities of its own: those that Node brings along, and what NODE_EXTRA_CA_CERTS adds to them.
    context = createSecureContext({
      ...(tls.authorities === undefined ? {} : { ca: tls.authorities }),
      minVersion: 'TLSv1.2',
    })
    contexts.set(tls, context)
  }
  return context
}

/** What is wrong with the certificate; its chain is verified elsewhere. RFC 9525: names are in the SAN, and nowhere else. */
function mismatchOf({ hostname, subjectAltNames }: BackendTls, der: Uint8Array): Error | undefined {
  const certificate = new X509Certificate(der)
  const isFor = (name: string): boolean =>
    certificate.checkHost(name, { subject: 'never', partialWildcards: false }) !== undefined
  if (subjectAltNames.length === 0)
    return isFor(hostname) ? undefined : new Error(`the certificate is not for ${hostname}`)
  const facts = readCertificate(der)
  const uris = facts.ok ? facts.value.uris : []
  const isOne = subjectAltNames.some(({ kind, value }) =>
    kind === 'dns' ? isFor(value) : uris.includes(value),
  )
  const wanted = subjectAltNames.map(({ value }) => value).join(', ')
  return isOne ? undefined : new Error(`the certificate is for none of ${wanted}`)
}
