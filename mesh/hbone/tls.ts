// SPDX-License-Identifier: Apache-2.0
// TLS for HBONE: the options of both sides, and who the peer is. Nothing of HTTP/2 is read or written
// before these checks passed: chain verified against the workload's own roots, then the SPIFFE identity.

import { constants, X509Certificate } from 'node:crypto'
import type { ConnectionOptions, SecureContextOptions, TLSSocket, TlsOptions } from 'node:tls'
import { leadsTo } from '../identity/chain.ts'
import { socketSpiffeId } from '../identity/peer.ts'
import { splitCertificates } from '../identity/pem.ts'
import type { TrustPolicy } from '../identity/trust-policy.ts'
import type { WorkloadCertificate } from '../identity/types.ts'
import type { SpiffeId } from '../model/types.ts'
import { type Result, err, ok } from '../result.ts'
import { TLS_CIPHERS } from './limits.ts'
import type { HboneFailure } from './types.ts'

const ALPN_HTTP2 = 'h2'

/** Key material and protocol bounds; the same for both sides. */
export function secureContextOptions(certificate: WorkloadCertificate): SecureContextOptions {
  return {
    cert: certificate.chainPem,
    key: certificate.privateKeyPem,
    // Replaces Node's bundled roots: a certificate of a public authority means nothing here.
    ca: certificate.rootsPem,
    minVersion: 'TLSv1.3',
    maxVersion: 'TLSv1.3',
    ciphers: TLS_CIPHERS,
    honorCipherOrder: true,
    // No resumption: a resumed session is not verified again, so it would outlive its certificate and roots.
    secureOptions: constants.SSL_OP_NO_TICKET,
  }
}

/** Options of a server that demands a client certificate of the workload's own roots. */
export function serverTlsOptions(certificate: WorkloadCertificate): TlsOptions {
  return {
    ...secureContextOptions(certificate),
    requestCert: true,
    rejectUnauthorized: true,
    ALPNProtocols: [ALPN_HTTP2],
  }
}

/** Options of a client but for its certificate: no SNI is sent, and no DNS name is compared, for identity is the SPIFFE ID alone. */
export const CLIENT_TLS_OPTIONS: ConnectionOptions = {
  rejectUnauthorized: true,
  ALPNProtocols: [ALPN_HTTP2],
  checkServerIdentity: () => undefined, // replaced by checkServer() once the handshake is done
}

/** Whether the peer of a connection that stands leads to one of these roots now: its handshake may have asked others. */
export function trustedBy(rootsPem: string): (socket: TLSSocket) => boolean {
  const roots = splitCertificates(rootsPem).map((pem) => new X509Certificate(pem))
  const now = new Date()
  return (socket) => {
    const peer = socket.getPeerX509Certificate()
    return peer !== undefined && leadsTo(peer, roots, now)
  }
}

/** Whether the peer of a connection has been revoked, by what is known now. */
export function isRevoked(socket: TLSSocket, trust: TrustPolicy): boolean {
  const peer = socket.getPeerX509Certificate()
  return peer !== undefined && trust.isRevoked(peer)
}

/**
 * Who the client is, if it may talk to us at all: chain valid, HTTP/2, of the mesh's trust domain or an alias of it.
 * `laterRootsPem`: the roots by which the handshake was judged have been replaced by these meanwhile.
 */
export function checkClient(
  socket: TLSSocket,
  trust: TrustPolicy,
  laterRootsPem?: string,
): Result<SpiffeId, HboneFailure> {
  const peer = checkPeer(socket, trust)
  if (!peer.ok) return peer
  if (laterRootsPem !== undefined && !trustedBy(laterRootsPem)(socket))
    return err({
      reason: 'tlsFailure',
      message: 'certificate chain ends in a root this workload does not trust any more',
    })
  if (!trust.accepts(peer.value))
    return err({
      reason: 'tlsFailure',
      message: `the client ${peer.value} is of another trust domain than this workload (${trust.domains.join(', ')})`,
    })
  return peer
}

/** Who the server is, if it is one of `expected`, exactly but for aliases of the trust domain. */
export function checkServer(
  socket: TLSSocket,
  expected: readonly SpiffeId[],
  trust: TrustPolicy,
): Result<SpiffeId, HboneFailure> {
  const peer = checkPeer(socket, trust)
  if (!peer.ok) return peer
  if (!trust.isOneOf(peer.value, expected))
    return err({
      reason: 'peerIdentityMismatch',
      message: `the server is ${peer.value}, expected ${expected.join(' or ') || 'nobody'}`,
    })
  return peer
}

function checkPeer(socket: TLSSocket, trust: TrustPolicy): Result<SpiffeId, HboneFailure> {
  if (!socket.authorized)
    return err({
      reason: 'tlsFailure',
      message: `the peer's certificate was not accepted: ${explainTls(undefined, socket)}`,
    })
  if (socket.isSessionReused())
    return err({
      reason: 'tlsFailure',
      message: 'the peer resumed a session, which is not verified',
    })
  if (socket.alpnProtocol !== ALPN_HTTP2)
    return err({ reason: 'tlsFailure', message: 'the peer does not speak HTTP/2 (no ALPN h2)' })
  const identity = socketSpiffeId(socket)
  if (isRevoked(socket, trust))
    return err({
      reason: 'handshakeRevoked',
      // It leads to one of our roots: whose it is, or was, is proven.
      message: `the peer's certificate is revoked${identity.ok ? `: ${identity.value}` : ''}`,
    })
  return identity.ok
    ? ok(identity.value)
    : err({ reason: 'tlsFailure', message: identity.error.message })
}

/** What OpenSSL and Node report, in words an operator can act on. */
const TLS_EXPLANATIONS: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: 'certificate has expired',
  CERT_NOT_YET_VALID: 'certificate is not yet valid (check the clocks)',
  SELF_SIGNED_CERT_IN_CHAIN: 'certificate chain ends in a root this workload does not trust',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'certificate is self-signed',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'certificate is not signed by a root this workload trusts',
  UNABLE_TO_GET_ISSUER_CERT: 'issuer of the certificate is unknown to this workload',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'issuer of the certificate is unknown to this workload',
  CERT_SIGNATURE_FAILURE: 'certificate signature does not match the root this workload trusts',
  INVALID_PURPOSE: 'certificate is not meant for this side of TLS (extended key usage)',
  ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE: 'the client presented no certificate',
  ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED: 'the server demands a client certificate',
  ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: 'the peer does not trust our root',
  ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION: 'the peer does not speak TLS 1.3',
  ERR_SSL_UNSUPPORTED_PROTOCOL: 'the peer does not speak TLS 1.3',
  ERR_SSL_WRONG_VERSION_NUMBER: 'the peer does not speak TLS',
  ERR_SSL_HTTP_REQUEST: 'the peer sent plain HTTP, not TLS',
  ERR_SSL_NO_APPLICATION_PROTOCOL: 'the peer does not offer HTTP/2 (ALPN h2)',
  ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL: 'the peer does not accept HTTP/2 (ALPN h2)',
  ERR_TLS_HANDSHAKE_TIMEOUT: 'the handshake did not finish in time',
  ECONNRESET: 'the peer closed the connection during the handshake',
}

/** Says why a handshake failed: the verification error of `socket` if there is one, else `error`. */
export function explainTls(error: Error | undefined, socket: TLSSocket | undefined): string {
  // Typed as Error, but holds OpenSSL's code as a string.
  const verification: unknown = socket?.authorizationError
  const code =
    typeof verification === 'string'
      ? verification
      : verification instanceof Error
        ? codeOf(verification)
        : codeOf(error)
  if (code === undefined) return error?.message ?? 'unknown TLS error'
  const explanation = TLS_EXPLANATIONS[code]
  return explanation === undefined ? `${code}: ${error?.message ?? ''}` : `${explanation} (${code})`
}

function codeOf(error: (Error & { readonly code?: unknown }) | undefined): string | undefined {
  return typeof error?.code === 'string' ? error.code : undefined
}
