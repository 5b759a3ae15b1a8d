// SPDX-License-Identifier: Apache-2.0
// Writes leaf certificates. Pure of policy: who may get what, and for how long, is decided by the caller
// (controller/ca); here only what every leaf of the mesh looks like.

import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  OID_CLIENT_AUTH,
  OID_SERVER_AUTH,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from './x509.ts'
import { newSerialNumber } from './serial.ts'
import type { SigningKey } from './signing-key.ts'

/** A name a leaf is issued for. */
export interface LeafName {
  readonly type: 'url' | 'dns' | 'ip'
  readonly value: string
}

export interface LeafRequest {
  readonly names: readonly LeafName[]
  /** SubjectPublicKeyInfo. */
  readonly publicKeyDer: Uint8Array
  readonly notBefore: Date
  readonly notAfter: Date
}

/** Who signs. */
export interface Issuer {
  readonly issuerPem: string
  /** No leaf outlives this. */
  readonly notAfter: Date
  readonly key: Pick<SigningKey, 'key' | 'algorithm'>
}

/** Signs one leaf certificate and returns its PEM. */
export async function issueLeaf(by: Issuer, request: LeafRequest): Promise<string> {
  const issuer = new X509Certificate(by.issuerPem)
  const publicKey = Uint8Array.from(request.publicKeyDer)
  const certificate = await X509CertificateGenerator.create({
    serialNumber: newSerialNumber(),
    issuer: issuer.subjectName,
    notBefore: request.notBefore,
    notAfter: new Date(Math.min(request.notAfter.getTime(), by.notAfter.getTime())),
    publicKey,
    signingKey: by.key.key,
    signingAlgorithm: by.key.algorithm,
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension([OID_SERVER_AUTH, OID_CLIENT_AUTH]),
      await SubjectKeyIdentifierExtension.create(publicKey),
      await authorityKeyIdentifier(issuer),
      // RFC 5280 4.2.1.6: critical, as the subject is empty.
      new SubjectAlternativeNameExtension([...request.names], true),
    ],
  })
  return `${certificate.toString('pem').trim()}\n`
}

/** As the issuer itself says it: there are several ways to make one, and OpenSSL demands the same. RFC 5280 4.2.1.1. */
async function authorityKeyIdentifier(
  issuer: X509Certificate,
): Promise<AuthorityKeyIdentifierExtension> {
  const own = issuer.getExtension(SubjectKeyIdentifierExtension)
  return own === null
    ? AuthorityKeyIdentifierExtension.create(issuer)
    : new AuthorityKeyIdentifierExtension(own.keyId)
}
