// SPDX-License-Identifier: Apache-2.0
// A certificate authority and a server certificate for an API server of the lab's, made anew at each start.

import { isIP } from 'node:net'
import { webcrypto } from 'node:crypto'
import {
  BasicConstraintsExtension,
  ExtendedKeyUsageExtension,
  KEY_ALGORITHM,
  KeyUsageFlags,
  KeyUsagesExtension,
  OID_SERVER_AUTH,
  SIGNATURE_ALGORITHM,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
} from '../../mesh/identity/x509.ts'

export interface ServerCertificate {
  readonly caPem: string
  readonly certificatePem: string
  readonly privateKeyPem: string
}

/** A lab does not live longer; nobody has to rotate anything. */
const VALID_DAYS = 365
const MS_PER_DAY = 86_400_000
/** Clocks of containers may lag behind. */
const BACKDATE_MS = 3_600_000
const PEM_LINE = 64

function toPem(label: string, der: ArrayBuffer): string {
  const base64 = Buffer.from(der).toString('base64')
  const lines = base64.match(new RegExp(`.{1,${PEM_LINE}}`, 'g')) ?? []
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}

/** Makes a CA and a server certificate for the names and addresses. */
export async function makeServerCertificate(names: readonly string[]): Promise<ServerCertificate> {
  const notBefore = new Date(Date.now() - BACKDATE_MS)
  const notAfter = new Date(Date.now() + VALID_DAYS * MS_PER_DAY)
  const generateKeys = () => webcrypto.subtle.generateKey(KEY_ALGORITHM, true, ['sign', 'verify'])
  const [caKeys, serverKeys] = await Promise.all([generateKeys(), generateKeys()])
  const ca = await X509CertificateGenerator.createSelfSigned({
    serialNumber: '01',
    name: 'CN=ambit-lab-ca',
    notBefore,
    notAfter,
    keys: caKeys,
    signingAlgorithm: SIGNATURE_ALGORITHM,
    extensions: [
      new BasicConstraintsExtension(true, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
    ],
  })
  const server = await X509CertificateGenerator.create({
    serialNumber: '02',
    subject: 'CN=kube-apiserver',
    issuer: ca.subject,
    notBefore,
    notAfter,
    publicKey: serverKeys.publicKey,
    signingKey: caKeys.privateKey,
    signingAlgorithm: SIGNATURE_ALGORITHM,
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension([OID_SERVER_AUTH]),
      new SubjectAlternativeNameExtension(
        names.map((name) => ({ type: isIP(name) === 0 ? 'dns' : 'ip', value: name })),
      ),
    ],
  })
  const key = await webcrypto.subtle.exportKey('pkcs8', serverKeys.privateKey)
  return {
    caPem: `${ca.toString('pem')}\n`,
    certificatePem: `${server.toString('pem')}\n`,
    privateKeyPem: toPem('PRIVATE KEY', key),
  }
}
