// SPDX-License-Identifier: Apache-2.0
// What a certificate request must be before anything is signed. The identity never comes from the request;
// a request that names another one than was authorised is refused, because its sender is confused or lying.

import { createPublicKey, type KeyObject } from 'node:crypto'
import { errorMessage } from '../../mesh/errors.ts'
import type { SpiffeId } from '../../mesh/model/types.ts'
import {
  OID_SUBJECT_ALTERNATIVE_NAME,
  Pkcs10CertificateRequest,
  SubjectAlternativeNameExtension,
} from '../../mesh/identity/x509.ts'
import { type Result, err, ok } from '../../mesh/result.ts'
import { excerpt } from '../../mesh/telemetry/excerpt.ts'

/** A P-256 request is 0.5 KB, one for an 8192-bit RSA key 3 KB. */
const MAX_CSR_BYTES = 16_384
const MIN_RSA_BITS = 2048
/** Verifying with larger keys costs us more than it gives anybody. */
const MAX_RSA_BITS = 8192
const CSR_PATTERN =
  /^\s*-----BEGIN (?:NEW )?CERTIFICATE REQUEST-----([A-Za-z0-9+/=\s]+)-----END (?:NEW )?CERTIFICATE REQUEST-----\s*$/

/** Checks a PEM request for the identity; the value is its public key (SubjectPublicKeyInfo). */
export async function checkCsr(
  pem: string,
  identity: SpiffeId,
): Promise<Result<Uint8Array, string>> {
  if (pem.length === 0) return err('the CSR is empty')
  if (pem.length > MAX_CSR_BYTES)
    return err(`the CSR has ${pem.length} bytes; at most ${MAX_CSR_BYTES} are allowed`)
  const body = CSR_PATTERN.exec(pem)?.[1]
  if (body === undefined) return err('the CSR is not exactly one PEM CERTIFICATE REQUEST')
  try {
    const csr = new Pkcs10CertificateRequest(new Uint8Array(Buffer.from(body, 'base64')))
    const publicKey = new Uint8Array(csr.publicKey.rawData)
    const keyDefect = defectOfKey(
      createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'spki' }),
    )
    if (keyDefect !== undefined) return err(keyDefect)
    if (!(await csr.verify())) return err('the CSR is not signed by its own key')
    const nameDefect = defectOfNames(csr, identity)
    return nameDefect === undefined ? ok(publicKey) : err(nameDefect)
  } catch (thrown) {
    return err(`the CSR cannot be read: ${errorMessage(thrown)}`)
  }
}

function defectOfKey(key: KeyObject): string | undefined {
  const { namedCurve, modulusLength = 0 } = key.asymmetricKeyDetails ?? {}
  switch (key.asymmetricKeyType) {
    case 'ec':
      return namedCurve === 'prime256v1'
        ? undefined
        : `the CSR has a key on curve ${namedCurve}; P-256 or RSA is needed`
    case 'rsa':
      return modulusLength >= MIN_RSA_BITS && modulusLength <= MAX_RSA_BITS
        ? undefined
        : `the CSR has an RSA key of ${modulusLength} bits; ${MIN_RSA_BITS} to ${MAX_RSA_BITS} are allowed`
    default:
      return `the CSR has a key of type ${key.asymmetricKeyType}; P-256 or RSA is needed`
  }
}

function defectOfNames(csr: Pkcs10CertificateRequest, identity: SpiffeId): string | undefined {
  const extension = csr.extensions.find((each) => each.type === OID_SUBJECT_ALTERNATIVE_NAME)
  if (extension === undefined) return undefined
  for (const name of new SubjectAlternativeNameExtension(extension.rawData).names.items)
    if (name.type !== 'url' || name.value !== identity)
      return `the CSR names ${JSON.stringify(excerpt(name.value))} but was authorised for ${identity}`
  return undefined
}
