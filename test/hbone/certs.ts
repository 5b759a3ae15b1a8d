// SPDX-License-Identifier: Apache-2.0
// Certificates for the HBONE tests: a root, workload certificates of any identity and validity, and bad ones.

import type { webcrypto } from 'node:crypto'
import type { ConnectionOptions } from 'node:tls'
import { CLIENT_TLS_OPTIONS, secureContextOptions } from '../../mesh/hbone/tls.ts'
import * as x509 from '../../mesh/identity/x509.ts'
import type { WorkloadCertificate } from '../../mesh/identity/types.ts'
import type { SpiffeId } from '../../mesh/model/types.ts'

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const
const DAY_MS = 24 * 60 * 60 * 1000

export interface TestRoot {
  readonly pem: string
  readonly name: string
  readonly keys: webcrypto.CryptoKeyPair
}

/** A self-signed root of its own key; two roots never trust one another. */
export async function makeRoot(name = 'CN=ambit test root'): Promise<TestRoot> {
  const keys = await crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: '01',
    name,
    notBefore: new Date(Date.now() - DAY_MS),
    notAfter: new Date(Date.now() + DAY_MS),
    signingAlgorithm: ALGORITHM,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
    ],
  })
  return { pem: certificate.toString('pem'), name, keys }
}

export interface TestCertificateOptions {
  readonly notBefore?: Date
  readonly notAfter?: Date
  /** Subject alternative names instead of the one URI of the identity. */
  readonly names?: readonly { readonly type: 'url' | 'dns'; readonly value: string }[]
  /** CA:true in the basic constraints. */
  readonly isAuthority?: boolean
  /** Flags of the key usage; digitalSignature, and of authorities keyCertSign, when absent. */
  readonly keyUsage?: number
  /** Extended key usage; both sides of TLS when absent. Without any, there is no such extension. */
  readonly purposes?: readonly string[]
  /** Roots that this workload trusts, when not the one that signed it. */
  readonly trusts?: TestRoot
}

let serial = 1

/** A workload certificate signed by `root`. */
export async function makeCertificate(
  root: TestRoot,
  identity: string,
  options: TestCertificateOptions = {},
): Promise<WorkloadCertificate> {
  const keys = await crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
  const notBefore = options.notBefore ?? new Date(Date.now() - 60_000)
  const notAfter = options.notAfter ?? new Date(Date.now() + DAY_MS)
  const purposes = options.purposes ?? [x509.OID_SERVER_AUTH, x509.OID_CLIENT_AUTH]
  serial += 1
  const serialNumber = serial.toString(16).padStart(8, '0')
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber,
    issuer: root.name,
    notBefore,
    notAfter,
    signingKey: root.keys.privateKey,
    publicKey: keys.publicKey,
    signingAlgorithm: ALGORITHM,
    extensions: [
      ...(options.isAuthority === true
        ? [new x509.BasicConstraintsExtension(true, undefined, true)]
        : []),
      new x509.KeyUsagesExtension(
        options.keyUsage ??
          x509.KeyUsageFlags.digitalSignature |
            (options.isAuthority === true ? x509.KeyUsageFlags.keyCertSign : 0),
        true,
      ),
      ...(purposes.length > 0 ? [new x509.ExtendedKeyUsageExtension([...purposes])] : []),
      new x509.SubjectAlternativeNameExtension(
        [...(options.names ?? [{ type: 'url' as const, value: identity }])],
        true,
      ),
    ],
  })
  const key = Buffer.from(await crypto.subtle.exportKey('pkcs8', keys.privateKey))
  return {
    identity: identity as SpiffeId,
    chainPem: certificate.toString('pem'),
    privateKeyPem: x509.PemConverter.encode(key, 'PRIVATE KEY'),
    rootsPem: (options.trusts ?? root).pem,
    serialNumber,
    notBefore,
    notAfter,
  }
}

/** The identity of a service account in the tests' trust domain. */
export const testIdentity = (name: string, trustDomain = 'cluster.local'): SpiffeId =>
  `spiffe://${trustDomain}/ns/shop/sa/${name}` as SpiffeId

/** All options of a client of HBONE that has this certificate, for who dials by itself. */
export const clientTlsOptions = (certificate: WorkloadCertificate): ConnectionOptions => ({
  ...CLIENT_TLS_OPTIONS,
  ...secureContextOptions(certificate),
})
