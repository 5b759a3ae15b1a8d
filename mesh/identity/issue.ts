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
  SIGNATURE_ALGORITHM,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from './x509.ts'
import type { SigningRoot } from './root.ts'
import { newSerialNumber } from './serial.ts'

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

/** Signs one leaf certificate and returns its PEM. The leaf never outlives the root. */
export async function issueLeaf(root: SigningRoot, request: LeafRequest): Promise<string> {
  const issuer = new X509Certificate(root.certificatePem)
  const publicKey = Uint8Array.from(request.publicKeyDer)
  const certificate = await X509CertificateGenerator.create({
    serialNumber: newSerialNumber(),
    issuer: issuer.subjectName,
    notBefore: request.notBefore,
    notAfter: new Date(Math.min(request.notAfter.getTime(), issuer.notAfter.getTime())),
    publicKey,
    signingKey: root.privateKey,
    signingAlgorithm: SIGNATURE_ALGORITHM,
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension([OID_SERVER_AUTH, OID_CLIENT_AUTH]),
      await SubjectKeyIdentifierExtension.create(publicKey),
      await AuthorityKeyIdentifierExtension.create(issuer),
      // RFC 5280 4.2.1.6: critical, as the subject is empty.
      new SubjectAlternativeNameExtension([...request.names], true),
    ],
  })
  return `${certificate.toString('pem').trim()}\n`
}
