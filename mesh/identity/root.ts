// SPDX-License-Identifier: Apache-2.0
// Makes a self-signed root, for a mesh that was given none. Where it is kept is the caller's affair.

import type { AuthorityPem } from './authority.ts'
import { exportPrivateKeyPem } from './csr.ts'
import { BACKDATE_MS } from './schedule.ts'
import { newSerialNumber } from './serial.ts'
import {
  BasicConstraintsExtension,
  KEY_ALGORITHM,
  KeyUsageFlags,
  KeyUsagesExtension,
  SIGNATURE_ALGORITHM,
  SubjectKeyIdentifierExtension,
  X509CertificateGenerator,
} from './x509.ts'

export interface RootOptions {
  /** Organisation in the subject; by Istio's habit the trust domain. */
  readonly organization: string
  readonly now?: Date
  readonly lifetimeMs?: number
}

const DAY_MS = 86_400_000
/** Ten years, as Istio's self-signed root: rotation of a root touches every workload. */
const ROOT_LIFETIME_MS = 3650 * DAY_MS

/** Makes a self-signed P-256 root that may sign leaves only (path length 0). */
export async function createRoot(options: RootOptions): Promise<AuthorityPem> {
  const now = options.now?.getTime() ?? Date.now()
  const keys = await crypto.subtle.generateKey(KEY_ALGORITHM, true, ['sign', 'verify'])
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: newSerialNumber(),
    name: [{ O: [options.organization] }],
    notBefore: new Date(now - BACKDATE_MS),
    notAfter: new Date(now + (options.lifetimeMs ?? ROOT_LIFETIME_MS)),
    keys,
    signingAlgorithm: SIGNATURE_ALGORITHM,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  })
  return {
    certificatePem: `${certificate.toString('pem').trim()}\n`,
    privateKeyPem: await exportPrivateKeyPem(keys.privateKey),
  }
}
