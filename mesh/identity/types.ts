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

/** What a supply is to get certificates for, and whom it tells of them. */
export interface CertificateOrder {
  readonly identity: SpiffeId
  /** Aborted when nobody uses the identity any more. */
  readonly signal: AbortSignal
  /** How often it has failed since a certificate was last given. */
  readonly failures: number
  /** Whether somebody waits for the first one. */
  readonly isWaitedFor: boolean
  /** Here is a certificate: the first, or one that takes the place of the one before. */
  give(certificate: WorkloadCertificate): void
  /** There is none now, and the supply goes on trying. What was given before serves until it expires. */
  fail(failure: CaFailure): void
}

/** Where the certificates of a CertificateManager come from: signed-certificates.ts, spire/. */
export interface CertificateSupply {
  /** An identity has its first user: keeps the order supplied until its signal aborts. */
  begin(order: CertificateOrder): void
  /** Somebody has begun to wait: what is put off for later is due. */
  hasten(order: CertificateOrder): void
  /** The roots of the mesh have changed. */
  renewAll(reason: string): void
  /** Whoever gives certificates may be there again: what is put off for later, because it failed, is due. */
  retryFailed(): void
  /** Ends everything that is under way, once all orders are at their end. */
  close(): void
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
