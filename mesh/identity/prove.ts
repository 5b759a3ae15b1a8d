// SPDX-License-Identifier: Apache-2.0
// Whether certificates of an authority hold in a handshake, asked of OpenSSL itself: it knows of purposes, name constraints
// and weak digests, and what it refuses here every peer would refuse later.

import { duplexPair } from 'node:stream'
import { connect, createServer, type TLSSocket } from 'node:tls'
import { type Result, err, ok } from '../result.ts'
import type { SpiffeId } from '../model/types.ts'
import type { SigningAuthority } from './authority.ts'
import { createKeyAndCsr } from './csr.ts'
import { spiffeId } from './spiffe.ts'

/** A probe lives no longer than it takes. */
const PROBE_LIFETIME_MS = 60_000
/** In memory, so a machine that needs longer has other troubles. */
const HANDSHAKE_DEADLINE_MS = 10_000

/** Issues a certificate and shakes hands with itself; the error is OpenSSL's reason. */
export async function proveAuthority(
  authority: SigningAuthority,
  trustDomain: string,
): Promise<Result<void, string>> {
  const identity: SpiffeId = spiffeId({ trustDomain, namespace: 'probe', serviceAccount: 'probe' })
  const key = await createKeyAndCsr(identity)
  const now = Date.now()
  const cert = await authority.sign({
    names: [{ type: 'url', value: identity }],
    publicKeyDer: key.publicKeyDer,
    notBefore: new Date(now - PROBE_LIFETIME_MS),
    notAfter: new Date(now + PROBE_LIFETIME_MS),
  })
  return handshake({ cert, key: key.privateKeyPem, ca: authority.bundlePem })
}

function handshake(papers: {
  readonly cert: string
  readonly key: string
  readonly ca: string
}): Promise<Result<void, string>> {
  const [near, far] = duplexPair()
  // Nobody rejects, so that both sides tell their verdict.
  const server = createServer({ ...papers, requestCert: true, rejectUnauthorized: false })
  const client = connect({ ...papers, socket: near, rejectUnauthorized: false })
  const { promise, resolve } = Promise.withResolvers<Result<void, string>>()
  const failed = (error: Error): void => resolve(err(error.message))
  const deadline = setTimeout(() => failed(new Error('no answer')), HANDSHAKE_DEADLINE_MS)
  let accepted: TLSSocket | undefined
  server.once('tlsClientError', failed)
  server.once('secureConnection', (socket) => {
    accepted = socket.on('error', failed)
    // The client's part is over before the server's: its verdict is there.
    const refusal = refusalOf('server', client) ?? refusalOf('client', socket)
    resolve(refusal === undefined ? ok(undefined) : err(refusal))
  })
  client.on('error', failed)
  server.emit('connection', far)
  return promise.finally(() => {
    clearTimeout(deadline)
    client.destroy()
    accepted?.destroy()
    near.destroy()
    far.destroy()
  })
}

/** Why the certificate of that side was not accepted by the other, whose socket this is. */
function refusalOf(side: 'server' | 'client', socket: TLSSocket): string | undefined {
  // Typed as Error, but holds OpenSSL's code as a string. Whose name it bears is not in question.
  const reason: unknown = socket.authorizationError
  if (socket.authorized || reason === 'ERR_TLS_CERT_ALTNAME_INVALID') return undefined
  return `as a ${side}'s it is refused: ${String(reason)}`
}
