// SPDX-License-Identifier: Apache-2.0
// The controller's own TLS certificate, signed by the mesh's root and renewed at half-life without a restart.

import { type ServerCredentials, experimental } from '@grpc/grpc-js'
import { errorMessage } from '../../mesh/errors.ts'
import type { Clock } from '../../mesh/identity/clock.ts'
import { exportPrivateKeyPem } from '../../mesh/identity/csr.ts'
import { type LeafName, issueLeaf } from '../../mesh/identity/issue.ts'
import type { SigningRoot } from '../../mesh/identity/root.ts'
import { refreshDelayMs, retryDelayMs } from '../../mesh/identity/schedule.ts'
import { KEY_ALGORITHM } from '../../mesh/identity/x509.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import { BACKDATE_MS } from './signing-authority.ts'

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

/** Makes, holds and renews the serving certificate; a grpc-js certificate provider. */
export class ServingCertificate {
  readonly #root: SigningRoot
  readonly #options: ServingCertificateOptions
  readonly #listeners = new Set<Listener>()
  #current: Update | null = null
  #failures = 0
  #cancelTimer: (() => void) | undefined
  #isClosed = false

  constructor(root: SigningRoot, options: ServingCertificateOptions) {
    this.#root = root
    this.#options = options
  }

  /** Makes the first certificate and starts renewing. */
  async start(): Promise<void> {
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
    this.#cancelTimer?.()
    this.#listeners.clear()
  }

  async #renew(): Promise<void> {
    const { clock, log, names } = this.#options
    const now = clock.now()
    const notAfter = new Date(now + (this.#options.lifetimeMs ?? LIFETIME_MS))
    const keys = await crypto.subtle.generateKey(KEY_ALGORITHM, true, ['sign', 'verify'])
    const leaf = await issueLeaf(this.#root, {
      names,
      publicKeyDer: new Uint8Array(await crypto.subtle.exportKey('spki', keys.publicKey)),
      notBefore: new Date(now - BACKDATE_MS),
      notAfter,
    })
    this.#current = {
      certificate: Buffer.from(leaf),
      privateKey: Buffer.from(await exportPrivateKeyPem(keys.privateKey)),
    }
    if (this.#isClosed) return
    for (const listener of this.#listeners) listener(this.#current)
    this.#failures = 0
    log.debug({ notAfter }, 'serving certificate renewed')
    this.#renewAfter(refreshDelayMs(notAfter.getTime(), now, Math.random()))
  }

  #renewAfter(delayMs: number): void {
    const { clock, log } = this.#options
    this.#cancelTimer = clock.after(delayMs, () => {
      this.#renew().catch((thrown: unknown) => {
        this.#failures += 1
        log.error({ error: errorMessage(thrown) }, 'cannot renew the serving certificate')
        this.#renewAfter(retryDelayMs(this.#failures, Math.random(), false))
      })
    })
  }
}
