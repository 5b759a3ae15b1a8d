// SPDX-License-Identifier: Apache-2.0
// From what a CA answered to a certificate that may be used: the leaf must be for the identity that was
// asked for and for the key that goes with it, must be valid now, and be of use to peers that trust the roots
// that came with it. A CA that answers otherwise is not trusted.

import type { SpiffeId } from '../model/types.ts'
import { type Result, err, ok } from '../result.ts'
import type { KeyAndCsr } from './csr.ts'
import { peerSpiffeId } from './peer.ts'
import { joinPem, splitCertificates } from './pem.ts'
import { readChain, usablePath } from './usable-chain.ts'
import type { CaFailure, SignedChain, WorkloadCertificate } from './types.ts'

/** Checks a CA's answer and joins it with the key; `answerer` is whose answer it is, for messages. */
export function assembleCertificate(
  identity: SpiffeId,
  key: Pick<KeyAndCsr, 'privateKeyPem' | 'publicKeyDer'>,
  signed: SignedChain,
  now: Date,
  answerer = 'the CA',
): Result<WorkloadCertificate, CaFailure> {
  if (splitCertificates(signed.chainPem).length === 0)
    return invalid(identity, `${answerer} answered no certificate`)
  if (splitCertificates(signed.rootsPem).length === 0)
    return invalid(identity, `${answerer} answered no root`)
  const read = readChain(signed.chainPem)
  if (!read.ok) return invalid(identity, `${answerer} answered one that ${read.error.message}`)
  const { leaf } = read.value
  const named = peerSpiffeId(leaf)
  if (!named.ok) return invalid(identity, named.error.message)
  if (named.value !== identity)
    return invalid(identity, `${answerer} answered one for ${named.value}`)
  const leafKey = leaf.publicKey.export({ type: 'spki', format: 'der' })
  if (!leafKey.equals(key.publicKeyDer))
    return invalid(identity, 'the certificate is not for the key that goes with it')
  if (leaf.validToDate <= now) return invalid(identity, `it expired at ${leaf.validTo}`)
  // What peers would refuse must not take the place of a certificate that works, nor what cannot be read go to the workers.
  const path = usablePath(read.value, signed.rootsPem, now)
  if (!path.ok) return invalid(identity, `${answerer} answered one that ${path.error.message}`)
  return ok({
    identity,
    chainPem: joinPem(path.value.map(String)),
    privateKeyPem: key.privateKeyPem,
    rootsPem: signed.rootsPem,
    serialNumber: leaf.serialNumber.toLowerCase(),
    notBefore: leaf.validFromDate,
    notAfter: leaf.validToDate,
  })
}

function invalid(identity: SpiffeId, reason: string): Result<never, CaFailure> {
  return err({ kind: 'invalid', message: `Cannot use the certificate for ${identity}: ${reason}` })
}
