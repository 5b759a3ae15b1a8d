// SPDX-License-Identifier: Apache-2.0
// Self-signed roots: making one, and reading one back from PEM with every check that keeps a wrong
// or damaged root from signing. Where a root is kept is the caller's affair.

import { X509Certificate as NodeCertificate, createPrivateKey, type KeyObject } from 'node:crypto'
import { errorMessage } from '../errors.ts'
import { type Result, err, ok } from '../result.ts'
import { exportPrivateKeyPem } from './csr.ts'
import { splitCertificates } from './pem.ts'
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

/** A root as text. The key is secret: never logged. */
export interface RootPem {
  readonly certificatePem: string
  /** PKCS#8. */
  readonly privateKeyPem: string
}

/** A root ready to sign. */
export interface SigningRoot {
  readonly certificatePem: string
  readonly privateKey: CryptoKey
  readonly notAfter: Date
}

export interface RootOptions {
  /** Organisation in the subject; by Istio's habit the trust domain. */
  readonly organization: string
  readonly now?: Date
  readonly lifetimeMs?: number
}

/** What is wrong with a root, and in which of its two parts. */
export interface RootDefect {
  readonly part: 'certificate' | 'key'
  readonly reason: string
}

const DAY_MS = 86_400_000
/** Ten years, as Istio's self-signed root: rotation of a root touches every workload. */
const ROOT_LIFETIME_MS = 3650 * DAY_MS
/** Backdated so that a node whose clock runs behind accepts it at once. */
const BACKDATE_MS = 120_000

/** Makes a self-signed P-256 root that may sign leaves only (path length 0). */
export async function createRoot(options: RootOptions): Promise<RootPem> {
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

/** Reads a root and checks that it may sign: a CA, in date, with the key that belongs to it. */
export async function loadRoot(
  pem: RootPem,
  now = new Date(),
): Promise<Result<SigningRoot, RootDefect>> {
  const certificate = readCertificate(pem.certificatePem)
  if (!certificate.ok) return certificate
  const key = readKey(pem.privateKeyPem)
  if (!key.ok) return key
  const defect = rootDefect(certificate.value, key.value, now)
  if (defect !== undefined) return err(defect)
  const pkcs8 = key.value.export({ type: 'pkcs8', format: 'der' })
  const privateKey = await crypto.subtle.importKey(
    'pkcs8',
    Uint8Array.from(pkcs8),
    KEY_ALGORITHM,
    false,
    ['sign'],
  )
  return ok({
    certificatePem: `${pem.certificatePem.trim()}\n`,
    privateKey,
    notAfter: new Date(certificate.value.validTo),
  })
}

function readCertificate(pem: string): Result<NodeCertificate, RootDefect> {
  const blocks = splitCertificates(pem)
  if (blocks.length !== 1)
    return err({
      part: 'certificate',
      reason: `expected exactly one PEM certificate, found ${blocks.length}`,
    })
  try {
    return ok(new NodeCertificate(pem))
  } catch (thrown) {
    return err({ part: 'certificate', reason: `not a certificate (${errorMessage(thrown)})` })
  }
}

function readKey(pem: string): Result<KeyObject, RootDefect> {
  try {
    return ok(createPrivateKey(pem))
  } catch (thrown) {
    return err({ part: 'key', reason: `not a private key in PEM (${errorMessage(thrown)})` })
  }
}

function rootDefect(
  certificate: NodeCertificate,
  key: KeyObject,
  now: Date,
): RootDefect | undefined {
  if (!certificate.ca) return { part: 'certificate', reason: 'not a CA certificate' }
  if (certificate.validToDate <= now)
    return { part: 'certificate', reason: `expired at ${certificate.validTo}` }
  if (certificate.validFromDate > now)
    return { part: 'certificate', reason: `not valid before ${certificate.validFrom}` }
  if (key.asymmetricKeyType !== 'ec' || key.asymmetricKeyDetails?.namedCurve !== 'prime256v1')
    return { part: 'key', reason: 'not a P-256 key' }
  if (!certificate.checkPrivateKey(key))
    return { part: 'key', reason: 'does not belong to the certificate' }
  return undefined
}
