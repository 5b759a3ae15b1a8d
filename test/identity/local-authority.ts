// SPDX-License-Identifier: Apache-2.0
// A certificate authority in this process: signs whatever identity is asked for. For tests and benches,
// which need certificates without a controller; it authorises nobody and must never serve a network.

import { type Result, err, ok } from '../../mesh/result.ts'
import type { SigningAuthority } from '../../mesh/identity/authority.ts'
import type {
  CaFailure,
  CertificateAuthority,
  SignedChain,
  SignRequest,
} from '../../mesh/identity/types.ts'
import { Pkcs10CertificateRequest } from '../../mesh/identity/x509.ts'

/** Wraps a signing authority as a CertificateAuthority that refuses nothing. */
export function localAuthority(authority: SigningAuthority): CertificateAuthority {
  return {
    async sign(request: SignRequest): Promise<Result<SignedChain, CaFailure>> {
      const csr = new Pkcs10CertificateRequest(request.csrPem)
      if (!(await csr.verify()))
        return err({ kind: 'invalid', message: 'the CSR is not signed by its key' })
      const now = Date.now()
      const chainPem = await authority.sign({
        names: [{ type: 'url', value: request.identity }],
        publicKeyDer: new Uint8Array(csr.publicKey.rawData),
        notBefore: new Date(now - 1000),
        notAfter: new Date(now + request.ttlSeconds * 1000),
      })
      return ok({ chainPem, rootsPem: authority.bundlePem })
    },
  }
}
