// SPDX-License-Identifier: Apache-2.0
// Who the other end of a TLS connection is. Read from the certificate's DER, never from Node's
// subjectAltName string, whose quoting has been ambiguous before (CVE-2021-44532).
// The chain itself is verified by TLS; this file only reads the name.

import type { X509Certificate as NodeCertificate } from 'node:crypto'
import type { TLSSocket } from 'node:tls'
import type { SpiffeId } from '../model/types.ts'
import { type Result, err, ok } from '../result.ts'
import { readCertificate } from './der.ts'
import { parseSpiffeId } from './spiffe.ts'

/** Why a certificate names no mesh identity. */
export interface PeerIdentityFailure {
  readonly kind:
    | 'no-certificate'
    | 'authority'
    | 'malformed'
    | 'no-uri-san'
    | 'several-uri-sans'
    | 'not-spiffe'
  readonly message: string
}

/** The identity of the peer of a TLS connection whose handshake is done and whose chain was verified. */
export function socketSpiffeId(socket: TLSSocket): Result<SpiffeId, PeerIdentityFailure> {
  const certificate = socket.getPeerX509Certificate()
  return certificate === undefined
    ? err({ kind: 'no-certificate', message: 'the peer presented no certificate' })
    : peerSpiffeId(certificate)
}

/** The one SPIFFE ID that a certificate names: exactly one URI SAN, of the mesh's form. */
export function peerSpiffeId(
  certificate: Pick<NodeCertificate, 'raw'>,
): Result<SpiffeId, PeerIdentityFailure> {
  return spiffeIdOfDer(certificate.raw)
}

/** As peerSpiffeId, from the certificate's DER. */
export function spiffeIdOfDer(der: Uint8Array): Result<SpiffeId, PeerIdentityFailure> {
  const facts = readCertificate(der)
  if (!facts.ok)
    return err({ kind: 'malformed', message: `the certificate cannot be read: ${facts.error}` })
  const { uris, isAuthority, maySign } = facts.value
  // X509-SVID 5.2: a certificate that may sign others is nobody's own. One that leaked would be everybody's.
  if (isAuthority)
    return err({ kind: 'authority', message: 'the certificate is that of an authority (CA:true)' })
  if (maySign)
    return err({
      kind: 'authority',
      message: 'the key usage of the certificate allows signing certificates or revocation lists',
    })
  const [uri, ...others] = uris
  if (uri === undefined)
    return err({ kind: 'no-uri-san', message: 'the certificate has no URI SAN' })
  if (others.length > 0)
    return err({
      kind: 'several-uri-sans',
      message: `the certificate has ${uris.length} URI SANs; exactly one is allowed`,
    })
  const parsed = parseSpiffeId(uri)
  return parsed === undefined
    ? err({
        kind: 'not-spiffe',
        message: `the URI SAN ${JSON.stringify(uri)} is not a SPIFFE ID of the form spiffe://<trust domain>/ns/<namespace>/sa/<service account>`,
      })
    : ok(parsed.id)
}
