// SPDX-License-Identifier: Apache-2.0
// The controller's own TLS certificate, signed by the mesh's authority and renewed without a restart: at half-life, and
// when another authority takes over.

import { type ServerCredentials, experimental } from '@grpc/grpc-js'
import { Backoff } from '../../mesh/async/backoff.ts'
import { errorMessage } from '../../mesh/errors.ts'
import type { Clock } from '../../mesh/identity/clock.ts'
import { exportPrivateKeyPem } from '../../mesh/identity/csr.ts'
import type { LeafName } from '../../mesh/identity/issue.ts'
import { BACKDATE_MS, refreshDelayMs } from '../../mesh/identity/schedule.ts'
import { KEY_ALGORITHM } from '../../mesh/identity/x509.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import type { Authority } from './authority-source.ts'

export interface ServingCertificateOptions {
  readonly names: readonly LeafName[]
  readonly clock: Clock
  readonly log: Logger
  readonly lifetimeMs?: number
}

type Update = { readonly certificate: Buffer; readonly privateKey: Buffer }
type Listener = (update: Update | null) => void

/** A day: the key lives in memory only, and a restart makes a new one anyway. */
const LIFETIME_MS = 86_400_000
/** It is renewed at half of its life: there is time. */
const RENEWAL_RETRIES = { firstMs: 1_000, longestMs: 150_000 }

/** Makes, holds and renews the serving certificate; a grpc-js certificate provider. */
export class ServingCertificate {
  readonly #authority: Authority
  readonly #options: ServingCertificateOptions
  readonly #listeners = new Set<Listener>()
  #current: Update | null = null
  readonly #backoff = new Backoff(RENEWAL_RETRIES)
  #cancelTimer: (() => void) | undefined
  /** Of the renewal that began last: one that it overtook is not shown, for another authority may have signed it. */
  #renewal = 0
  #isClosed = false
  #unsubscribe: (() => void) | undefined

  constructor(authority: Authority, options: ServingCertificateOptions) {
    this.#authority = authority
    this.#options = options
  }

  /** Makes the first certificate and starts renewing. */
  async start(): Promise<void> {
    this.#unsubscribe = this.#authority.onChange(() => this.#renewAfter(0))
    await this.#renew()
  }

  /** Credentials for a gRPC server that always present the newest certificate. Clients prove themselves by token. */
  serverCredentials(): ServerCredentials {
    // The declared parameter names are swapped in grpc-js 1.14; the first one is the identity provider.
    return experimental.createCertificateProviderServerCredentials(
      {
        addIdentityCertificateListener: (listener) => {
          this.#listeners.add(listener)
          // grpc-js is ready to be told only once this call is over.
          queueMicrotask(() => listener(this.#current))
        },
        removeIdentityCertificateListener: (listener) => {
          this.#listeners.delete(listener)
        },
        addCaCertificateListener: () => undefined,
        removeCaCertificateListener: () => undefined,
      },
      null,
      false,
    )
  }

  /** Calls back after each renewal. Returns the unsubscriber. */
  onRenewed(callback: () => void): () => void {
    const listener: Listener = (update) => {
      if (update !== null) callback()
    }
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  close(): void {
    this.#isClosed = true
    this.#unsubscribe?.()
    this.#cancelTimer?.()
    this.#listeners.clear()
  }

  async #renew(): Promise<void> {
    this.#renewal += 1
    const renewal = this.#renewal
    const { clock, log, names } = this.#options
    const now = clock.now()
    const notAfter = new Date(now + (this.#options.lifetimeMs ?? LIFETIME_MS))
    const keys = await crypto.subtle.generateKey(KEY_ALGORITHM, true, ['sign', 'verify'])
    const leaf = await this.#authority.current.sign({
      names,
      publicKeyDer: new Uint8Array(await crypto.subtle.exportKey('spki', keys.publicKey)),
      notBefore: new Date(now - BACKDATE_MS),
      notAfter,
    })
    const privateKey = Buffer.from(await exportPrivateKeyPem(keys.privateKey))
    if (this.#isClosed || renewal !== this.#renewal) return
    this.#current = { certificate: Buffer.from(leaf), privateKey }
    for (const listener of this.#listeners) listener(this.#current)
    this.#backoff.reset()
    log.debug({ notAfter }, 'serving certificate renewed')
    this.#renewAfter(refreshDelayMs(notAfter.getTime(), now, Math.random()))
  }

  #renewAfter(delayMs: number): void {
    const { clock, log } = this.#options
    this.#cancelTimer?.()
    this.#cancelTimer = clock.after(delayMs, () => {
      this.#renew().catch((thrown: unknown) => {
        log.error({ error: errorMessage(thrown) }, 'cannot renew the serving certificate')
        this.#renewAfter(this.#backoff.next())
      })
    })
  }
}
