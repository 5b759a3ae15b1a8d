// SPDX-License-Identifier: Apache-2.0
// A fresh P-256 key and the certificate request for it: URI SAN with the identity, empty subject.
// A key is made for each issue and never reused.

import type { SpiffeId } from '../model/types.ts'
import {
  KEY_ALGORITHM,
  PemConverter,
  Pkcs10CertificateRequestGenerator,
  SIGNATURE_ALGORITHM,
  SubjectAlternativeNameExtension,
} from './x509.ts'

/** A certificate request with the key that signed it; the key stays in memory. */
export interface KeyAndCsr {
  readonly csrPem: string
  /** PKCS#8. */
  readonly privateKeyPem: string
  /** SubjectPublicKeyInfo, to check that the issued certificate is for this key. */
  readonly publicKeyDer: Buffer
}

/** Makes a key and the certificate request for one identity. */
export async function createKeyAndCsr(identity: SpiffeId): Promise<KeyAndCsr> {
  const keys = await crypto.subtle.generateKey(KEY_ALGORITHM, true, ['sign', 'verify'])
  const csr = await Pkcs10CertificateRequestGenerator.create({
    keys,
    signingAlgorithm: SIGNATURE_ALGORITHM,
    // RFC 5280 4.2.1.6: the SAN is critical when the subject is empty.
    extensions: [new SubjectAlternativeNameExtension([{ type: 'url', value: identity }], true)],
  })
  return {
    csrPem: csr.toString('pem'),
    privateKeyPem: await exportPrivateKeyPem(keys.privateKey),
    publicKeyDer: Buffer.from(await crypto.subtle.exportKey('spki', keys.publicKey)),
  }
}

/** Writes a private key as PKCS#8 PEM. */
export async function exportPrivateKeyPem(key: CryptoKey): Promise<string> {
  return PemConverter.encode(await crypto.subtle.exportKey('pkcs8', key), 'PRIVATE KEY')
}
