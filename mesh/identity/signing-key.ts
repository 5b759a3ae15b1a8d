// SPDX-License-Identifier: Apache-2.0
// The private key of an authority: which kinds may sign, and with what. RSA is what Istio's plug-in certificates often have;
// workloads' own keys are P-256 whatever the authority's is.

import { createPrivateKey, type KeyObject } from 'node:crypto'
import { errorMessage } from '../errors.ts'
import { type Result, err, ok } from '../result.ts'
import type { SignatureAlgorithm } from './x509.ts'

/** NIST SP 800-57: 112 bits of security. */
const LEAST_RSA_BITS = 2048

/** A key ready to sign, that cannot be taken out again. */
export interface SigningKey {
  readonly key: CryptoKey
  readonly algorithm: SignatureAlgorithm
  /** The same key for comparisons with a certificate. */
  readonly keyObject: KeyObject
}

/** Reads a PEM key of any form (PKCS#8, PKCS#1, SEC1); the error says what is wrong with it. */
export async function readSigningKey(pem: string): Promise<Result<SigningKey, string>> {
  let keyObject: KeyObject
  try {
    keyObject = createPrivateKey(pem)
  } catch (thrown) {
    return err(`not a private key in PEM, without a passphrase (${errorMessage(thrown)})`)
  }
  const algorithm = algorithmOf(keyObject)
  if (!algorithm.ok) return algorithm
  const pkcs8 = keyObject.export({ type: 'pkcs8', format: 'der' })
  const key = await crypto.subtle.importKey(
    'pkcs8',
    Uint8Array.from(pkcs8),
    algorithm.value,
    false,
    ['sign'],
  )
  return ok({ key, algorithm: algorithm.value, keyObject })
}

/** What is wrong with the strength or kind of a public or private key of an authority; undefined when nothing is. */
export function weaknessOf(key: KeyObject): string | undefined {
  const algorithm = algorithmOf(key)
  return algorithm.ok ? undefined : algorithm.error
}

function algorithmOf(key: KeyObject): Result<SignatureAlgorithm, string> {
  const { namedCurve, modulusLength = 0 } = key.asymmetricKeyDetails ?? {}
  switch (key.asymmetricKeyType) {
    case 'ec':
      if (namedCurve === 'prime256v1')
        return ok({ name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' })
      if (namedCurve === 'secp384r1')
        return ok({ name: 'ECDSA', namedCurve: 'P-384', hash: 'SHA-384' })
      return err(`a key on the curve ${namedCurve}; P-256, P-384 or RSA is needed`)
    case 'rsa':
      return modulusLength >= LEAST_RSA_BITS
        ? ok({ name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' })
        : err(`a weak RSA key of ${modulusLength} bits; at least ${LEAST_RSA_BITS} are needed`)
    default:
      return err(`a key of type ${key.asymmetricKeyType}; P-256, P-384 or RSA is needed`)
  }
}
