// SPDX-License-Identifier: Apache-2.0
// The one door to @peculiar/x509. The library's dependency container insists on the Reflect metadata
// proposal at load time, of which it uses three functions; they are supplied here, before the library loads.

import './reflect-metadata.ts'

import {
  BasicConstraintsExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
} from '@peculiar/x509'

export {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  Pkcs10CertificateRequest,
  Pkcs10CertificateRequestGenerator,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509'

/** Object identifiers of the extensions we look for by name. */
export const OID_SUBJECT_ALTERNATIVE_NAME = '2.5.29.17'
export const OID_SERVER_AUTH = '1.3.6.1.5.5.7.3.1'
export const OID_CLIENT_AUTH = '1.3.6.1.5.5.7.3.2'

/** P-256 keys with SHA-256 signatures everywhere: what Istio's data plane uses, and cheap in each handshake. */
export const KEY_ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256' } as const
export const SIGNATURE_ALGORITHM = { name: 'ECDSA', hash: 'SHA-256' } as const

/** How a key signs: for WebCrypto, and for what is written into a certificate. */
export type SignatureAlgorithm =
  | { readonly name: 'ECDSA'; readonly namedCurve: 'P-256'; readonly hash: 'SHA-256' }
  | { readonly name: 'ECDSA'; readonly namedCurve: 'P-384'; readonly hash: 'SHA-384' }
  | { readonly name: 'RSASSA-PKCS1-v1_5'; readonly hash: 'SHA-256' }

/** Whether a certificate's key usage allows it to sign certificates; one that says nothing of usage may. RFC 5280 4.2.1.3. */
export function maySignCertificates(der: Uint8Array): boolean {
  const usages = new X509Certificate(Uint8Array.from(der)).getExtension(KeyUsagesExtension)
  return usages === null || (usages.usages & KeyUsageFlags.keyCertSign) !== 0
}

/** Whether a certificate's key usage allows signatures other than of certificates, as each handshake needs; one that says nothing of usage does. */
export function maySignDigitally(der: Uint8Array): boolean {
  const usages = new X509Certificate(Uint8Array.from(der)).getExtension(KeyUsagesExtension)
  return usages === null || (usages.usages & KeyUsageFlags.digitalSignature) !== 0
}

/** Whether a certificate says by what its key is known. RFC 5280 4.2.1.2. */
export function hasKeyIdentifier(der: Uint8Array): boolean {
  const certificate = new X509Certificate(Uint8Array.from(der))
  return certificate.getExtension(SubjectKeyIdentifierExtension) !== null
}

/** Whether a certificate allows so many authorities between it and a leaf. RFC 5280 4.2.1.9, pathLenConstraint. */
export function mayIssueBelow(der: Uint8Array, authorities: number): boolean {
  const constraints = new X509Certificate(Uint8Array.from(der)).getExtension(
    BasicConstraintsExtension,
  )
  return constraints?.pathLength === undefined || constraints.pathLength >= authorities
}
