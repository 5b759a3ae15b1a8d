// SPDX-License-Identifier: Apache-2.0
// What the rest of the product needs to know of certificates, free of how they are obtained.

import type { Result } from '../result.ts'
import type { SpiffeId } from '../model/types.ts'

/** A workload's certificate with its key and the roots it trusts; all PEM. Never logged, never written to disk. */
export interface WorkloadCertificate {
  readonly identity: SpiffeId
  /** Leaf first, then intermediates. */
  readonly chainPem: string
  readonly privateKeyPem: string
  /** One or more concatenated roots: the trust bundle of this workload. */
  readonly rootsPem: string
  readonly serialNumber: string
  readonly notBefore: Date
  readonly notAfter: Date
}

export interface SignRequest {
  readonly identity: SpiffeId
  readonly csrPem: string
  readonly ttlSeconds: number
}

export interface SignedChain {
  readonly chainPem: string
  readonly rootsPem: string
}

export type CaFailure = {
  readonly kind: 'unavailable' | 'denied' | 'invalid'
  readonly message: string
}

/** Something that signs workload certificates: the controller over gRPC, or a test. */
export interface CertificateAuthority {
  sign(request: SignRequest, signal: AbortSignal): Promise<Result<SignedChain, CaFailure>>
}

/** Keeps a valid certificate for each identity in use; see certificate-manager.ts. */
export interface CertificateSource {
  /** Starts keeping a certificate for this identity (counted: call release as often). */
  retain(identity: SpiffeId): void
  release(identity: SpiffeId): void
  /** The current certificate; waits for the first one until the signal aborts. */
  get(identity: SpiffeId, signal: AbortSignal): Promise<Result<WorkloadCertificate, CaFailure>>
  /** The certificate in hand, if there is one that has not expired. */
  current(identity: SpiffeId): WorkloadCertificate | undefined
  /** Calls back on the first and each renewed certificate of any retained identity. Returns the unsubscriber. */
  onCertificate(listener: (certificate: WorkloadCertificate) => void): () => void
}
