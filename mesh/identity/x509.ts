// SPDX-License-Identifier: Apache-2.0
// The one door to @peculiar/x509. The library's dependency container insists on the Reflect metadata
// proposal at load time, of which it uses three functions; they are supplied here, before the library loads.

import './reflect-metadata.ts'

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
