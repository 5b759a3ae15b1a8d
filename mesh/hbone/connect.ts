// SPDX-License-Identifier: Apache-2.0
// From a pool target to an authenticated TLS connection: dial, handshake, identity; each with its deadline.

import type { Socket } from 'node:net'
import { type TLSSocket, connect as tlsConnect } from 'node:tls'
import { errorMessage } from '../errors.ts'
import { ownDomainOnly, type TrustPolicy } from '../identity/trust-policy.ts'
import type { WorkloadCertificate } from '../identity/types.ts'
import { noteMade, type TlsConnection } from '../http2/adopted-wire.ts'
import type { SpiffeId } from '../model/types.ts'
import { type Result, err, ok } from '../result.ts'
import { END_REASONS } from '../telemetry/end-reason.ts'
import { CONNECT_DEADLINE_MS, HANDSHAKE_DEADLINE_MS } from './limits.ts'
import { checkServer, CLIENT_TLS_OPTIONS, explainTls } from './tls.ts'
import { secureContextOf } from './tls-contexts.ts'
import type { HboneFailure, HbonePoolOptions, PoolTarget } from './types.ts'

export interface SecuredConnection extends TlsConnection {
  readonly peerIdentity: SpiffeId
}

/**
 * How long the peer's kernel may acknowledge nothing of what is under way to it in the handshake: so many looks, this far apart. As a rule it
 * does so at once, however busy its agent is and however long that takes; by then it has been sent several times.
 */
const LOOK_MS = 500
const UNHEARD_LOOKS = 5

/** Dials, then shakes hands on `certificate`. Aborting `signal` gives up at any point and leaves nothing open. */
export async function connectSecured(
  target: PoolTarget,
  certificate: WorkloadCertificate,
  options: Pick<HbonePoolOptions, 'dial' | 'trust' | 'engine' | 'wayToPeer'>,
  signal: AbortSignal,
): Promise<Result<SecuredConnection, HboneFailure>> {
  const deadline = AbortSignal.timeout(CONNECT_DEADLINE_MS)
  const dialled = await options.dial(target, AbortSignal.any([signal, deadline]))
  if (!dialled.ok)
    return deadline.aborted && !signal.aborted
      ? err({ reason: 'connectTimeout', message: END_REASONS.connectTimeout.text })
      : err(withLikelyCause(dialled.error))
  if (signal.aborted) {
    dialled.value.destroy()
    return err(abandoned())
  }
  if (dialled.value.destroyed)
    return err({
      reason: 'connectFailed',
      message: 'the connection closed as soon as it was made',
      code: 'ECONNRESET',
    })
  const trust = options.trust ?? ownDomainOnly(target.sourceIdentity)
  const { expectedIdentities } = target
  return handshake(dialled.value, certificate, expectedIdentities, trust, options, signal)
}

/**
 * A port that answers by a refusal is nobody's of the mesh, or somebody on the way speaks for it: CNIs that reject what a NetworkPolicy does
 * not let through do so by a reset or by an ICMP error. Whoever reads the log knows of neither.
 */
function withLikelyCause(failure: HboneFailure): HboneFailure {
  if (failure.code !== 'ECONNREFUSED' && failure.code !== 'EHOSTUNREACH') return failure
  const message = `${failure.message}, maybe a NetworkPolicy is rejecting HBONE port 15008, or the pod has left the mesh`
  return { ...failure, message }
}

/** The failure of an open whose caller gave up. */
export function abandoned(): HboneFailure {
  return { reason: 'clientReset', message: 'the caller gave up before the tunnel was open' }
}

function handshake(
  raw: Socket,
  certificate: WorkloadCertificate,
  expected: readonly SpiffeId[],
  trust: TrustPolicy,
  { engine, wayToPeer }: Pick<HbonePoolOptions, 'engine' | 'wayToPeer'>,
  signal: AbortSignal,
): Promise<Result<SecuredConnection, HboneFailure>> {
  return new Promise((resolve) => {
    raw.setNoDelay(true)
    let socket: TLSSocket
    let made: number
    try {
      const secureContext = secureContextOf(certificate)
      const tls = { ...CLIENT_TLS_OPTIONS, secureContext, socket: raw }
      ;({ connection: socket, made } = noteMade(engine, () => tlsConnect(tls)))
    } catch (thrown) {
      // Key material that OpenSSL cannot read.
      raw.destroy()
      return resolve(err({ reason: 'identityError', message: errorMessage(thrown) }))
    }
    const finish = (result: Result<SecuredConnection, HboneFailure>): void => {
      clearTimeout(deadline)
      clearInterval(looking)
      signal.removeEventListener('abort', onAbort)
      socket.removeListener('error', onError)
      socket.removeListener('close', onClose)
      if (!result.ok) {
        socket.on('error', () => undefined) // what follows our own cut is no news
        socket.destroy()
        raw.destroy()
      }
      resolve(result)
    }
    const fail = (message: string, code?: string): void =>
      finish(err({ reason: 'tlsFailure', message, code }))
    const onAbort = (): void => finish(err(abandoned()))
    const onError = (error: NodeJS.ErrnoException): void =>
      fail(explainTls(error, socket), error.code === 'ECONNRESET' ? error.code : undefined)
    const onClose = (): void =>
      fail('the server closed the connection during the handshake', 'ECONNRESET')
    const deadline = setTimeout(
      () => fail(`not finished within ${HANDSHAKE_DEADLINE_MS} ms`, 'ETIMEDOUT'),
      HANDSHAKE_DEADLINE_MS,
    )
    // A pod that has just gone, and its namespace with it: nobody is left to answer, or to reset.
    let acknowledged = -1
    let unheard = 0
    const looking = setInterval(() => {
      const way = wayToPeer?.(socket)
      if (way === undefined) return
      const isUnheard = way.unacknowledged > 0 && way.acknowledgedBytes === acknowledged
      acknowledged = way.acknowledgedBytes
      unheard = isUnheard ? unheard + 1 : 0
      if (unheard >= UNHEARD_LOOKS)
        fail(`nothing was acknowledged for ${UNHEARD_LOOKS * LOOK_MS} ms`, 'ETIMEDOUT')
    }, LOOK_MS)
    signal.addEventListener('abort', onAbort, { once: true })
    socket.once('error', onError)
    socket.once('close', onClose)
    socket.once('secureConnect', () => {
      const identity = checkServer(socket, expected, trust)
      finish(identity.ok ? ok({ socket, made, peerIdentity: identity.value }) : identity)
    })
  })
}
