// SPDX-License-Identifier: Apache-2.0
// A worker's copy of the certificates its pods use. The main thread keeps and renews them; a worker that misses one
// asks and waits until its own deadline, never longer than a connection may.

import { isOvertaken } from '../../mesh/hbone/trust-change.ts'
import type { HboneFailure } from '../../mesh/hbone/types.ts'
import type { WorkloadCertificate } from '../../mesh/identity/types.ts'
import type { SpiffeId } from '../../mesh/model/types.ts'
import { err, ok, type Result } from '../../mesh/result.ts'

/** A certificate is usually prefetched at enrolment; a CA that needs longer than this is down. */
const WAIT_MS = 5_000

/** What the main thread says where it has none. */
export interface CertificateFailure {
  readonly identity: SpiffeId
  readonly message: string
  readonly isFinal: boolean
}

type Waiter = (result: Result<WorkloadCertificate, HboneFailure>) => void

export class CertificateCache {
  readonly #certificates = new Map<SpiffeId, WorkloadCertificate>()
  readonly #waiters = new Map<SpiffeId, Set<Waiter>>()
  /** Why there was none when it was last asked for. */
  readonly #reasons = new Map<SpiffeId, string>()
  readonly #want: (identity: SpiffeId) => void
  /** How long whoever needs one waits for it. */
  readonly waitMs: number

  /** `want` asks the main thread for a certificate; the answer comes by `set` or `fail`. */
  constructor(want: (identity: SpiffeId) => void, waitMs = WAIT_MS) {
    this.#want = want
    this.waitMs = waitMs
  }

  current(identity: SpiffeId): WorkloadCertificate | undefined {
    const certificate = this.#certificates.get(identity)
    return certificate !== undefined && certificate.notAfter.getTime() > Date.now()
      ? certificate
      : undefined
  }

  /** False for one that is here already, as the main thread sends it with each pod: what was made of it goes on in use. */
  set(certificate: WorkloadCertificate): boolean {
    const { identity } = certificate
    const known = this.#certificates.get(identity)
    if (known !== undefined && !isOvertaken(known, certificate)) return false
    this.#certificates.set(identity, certificate)
    this.#reasons.delete(identity)
    this.#answer(identity, ok(certificate))
    return true
  }

  /** Where the CA said no, those who wait need not wait for the deadline; else it is theirs, however long others have waited before. */
  fail({ identity, message, isFinal }: CertificateFailure): void {
    if (isFinal) this.#answer(identity, err({ reason: 'identityError', message }))
    else if (this.#waiters.has(identity)) {
      this.#reasons.set(identity, message)
      this.#want(identity)
    }
  }

  forget(identity: SpiffeId): void {
    this.#certificates.delete(identity)
    this.#reasons.delete(identity)
  }

  async get(
    identity: SpiffeId,
    signal: AbortSignal,
  ): Promise<Result<WorkloadCertificate, HboneFailure>> {
    const current = this.current(identity)
    if (current !== undefined) return ok(current)
    if (signal.aborted) return err({ reason: 'drained', message: 'aborted' })
    let waiters = this.#waiters.get(identity)
    if (waiters === undefined) {
      waiters = new Set()
      this.#waiters.set(identity, waiters)
      this.#want(identity)
    }
    const { promise, resolve } = Promise.withResolvers<Result<WorkloadCertificate, HboneFailure>>()
    waiters.add(resolve)
    const deadline = setTimeout(
      () =>
        resolve(
          err({
            reason: 'identityError',
            message: this.#lateMessage(identity),
          }),
        ),
      this.waitMs,
    )
    const onAbort = (): void => resolve(err({ reason: 'drained', message: 'aborted' }))
    signal.addEventListener('abort', onAbort)
    const result = await promise
    clearTimeout(deadline)
    signal.removeEventListener('abort', onAbort)
    waiters.delete(resolve)
    if (waiters.size === 0 && this.#waiters.get(identity) === waiters)
      this.#waiters.delete(identity)
    return result
  }

  #lateMessage(identity: SpiffeId): string {
    const reason = this.#reasons.get(identity)
    const late = `no certificate for ${identity} within ${this.waitMs} ms`
    return reason === undefined ? late : `${late}: ${reason}`
  }

  #answer(identity: SpiffeId, result: Result<WorkloadCertificate, HboneFailure>): void {
    const waiters = this.#waiters.get(identity)
    if (waiters === undefined) return
    this.#waiters.delete(identity)
    for (const resolve of waiters) resolve(result)
  }
}
