// SPDX-License-Identifier: Apache-2.0
// Has certificates signed by whoever serves a signer name in the cluster (certificates.k8s.io CertificateSigningRequest): cert-manager, a
// Vault, the cloud's authority. Whom a certificate is for has been decided before; this asks for it, vouches for the request by
// approving it, waits, and leaves nothing behind. What was signed is judged by the caller.

import { randomUUID } from 'node:crypto'
import {
  CERTIFICATE_SIGNING_REQUESTS,
  type CertificateSigningRequest,
  type KubeApi,
  type KubeFailure,
  type ResourceWatch,
  watchResource,
} from '../../mesh/kube/index.ts'
import type { SpiffeId } from '../../mesh/model/types.ts'
import { type Result, err, ok } from '../../mesh/result.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import type { Refusal } from '../auth/caller.ts'

/** Signs what has been authorised. */
export interface LeafSigner {
  /** Gives the certificates in PEM, the leaf first. */
  sign(request: LeafSigning): Promise<Result<string, Refusal>>
}

export interface LeafSigning {
  readonly identity: SpiffeId
  readonly csrPem: string
  readonly lifetimeSeconds: number
}

export interface KubernetesSignerOptions {
  readonly signerName: string
  readonly log: Logger
  /** For a request to be signed, once it is approved; for tests. */
  readonly deadlineMs?: number
}

/** An agent waits ten seconds for its answer. */
const SIGN_DEADLINE_MS = 8_000
/** The API refuses a shorter one. */
const LEAST_SECONDS = 600
const LABEL = { 'app.kubernetes.io/managed-by': 'ambit-controller' }
const USAGES = ['digital signature', 'client auth', 'server auth']

/** What became of a request, as far as it is said. */
type Outcome = Result<string, string> | undefined

export class KubernetesSigner implements LeafSigner {
  readonly #api: KubeApi
  readonly #options: KubernetesSignerOptions
  /** One watch for all: a node that starts asks for hundreds at once. */
  readonly #watch: ResourceWatch<Outcome>
  readonly #waiting = new Map<string, (outcome: Result<string, string>) => void>()
  readonly #forgetting = new Set<Promise<void>>()

  constructor(api: KubeApi, options: KubernetesSignerOptions) {
    this.#api = api
    this.#options = options
    const tell = (outcome: Outcome, name: string): void => {
      if (outcome !== undefined) this.#waiting.get(name)?.(outcome)
    }
    this.#watch = watchResource(api, CERTIFICATE_SIGNING_REQUESTS, {
      logger: options.log,
      labelSelector: Object.entries(LABEL)
        .map((pair) => pair.join('='))
        .join(),
      keep: outcomeOf,
      added: tell,
      updated: (_previous, outcome, name) => tell(outcome, name),
      deleted: (_last, name) =>
        this.#waiting.get(name)?.(err('the request was deleted before it was signed')),
    })
  }

  get #deadlineMs(): number {
    return this.#options.deadlineMs ?? SIGN_DEADLINE_MS
  }

  /** Resolves when what it has asked for is taken away. */
  async close(): Promise<void> {
    await this.#watch.close()
    await Promise.all(this.#forgetting)
  }

  async sign(request: LeafSigning): Promise<Result<string, Refusal>> {
    const name = `ambit-${randomUUID()}`
    // One for all that it takes: whoever asks hears from us before it gives up, and why.
    const ending = new AbortController()
    const outcome = Promise.withResolvers<Result<string, string>>()
    this.#waiting.set(name, outcome.resolve)
    const late = setTimeout(() => {
      const { signerName } = this.#options
      outcome.resolve(err(`nobody signed it in time; is there a signer of ${signerName}?`))
      ending.abort()
    }, this.#deadlineMs)
    try {
      const asked = await this.#ask(name, request, ending.signal)
      if (!asked.ok)
        return unavailable(
          ending.signal.aborted
            ? `the API server has not taken the request within ${this.#deadlineMs / 1000} s`
            : asked.error.message,
        )
      const signed = await outcome.promise
      return signed.ok ? signed : unavailable(signed.error)
    } finally {
      clearTimeout(late)
      this.#waiting.delete(name)
      // Nobody waits for that.
      const forgetting = this.#forget(name).finally(() => this.#forgetting.delete(forgetting))
      this.#forgetting.add(forgetting)
    }
  }

  /** Creates the request and approves it. */
  async #ask(
    name: string,
    request: LeafSigning,
    signal: AbortSignal,
  ): Promise<Result<unknown, KubeFailure>> {
    const { signerName } = this.#options
    const { csrPem, lifetimeSeconds, identity } = request
    const created = await this.#api.create(
      CERTIFICATE_SIGNING_REQUESTS,
      {
        metadata: { name, labels: LABEL },
        spec: {
          signerName,
          request: Buffer.from(csrPem, 'utf8').toString('base64'),
          expirationSeconds: Math.max(LEAST_SECONDS, lifetimeSeconds),
          usages: USAGES,
        },
      },
      { signal },
    )
    if (!created.ok) return created
    const approval = {
      type: 'Approved',
      status: 'True',
      reason: 'AmbitAuthorised',
      message: `the caller may have a certificate for ${identity}`,
    }
    // Whole, as the subresource wants it, and with its version: what is approved is what was created.
    return this.#api.update(
      CERTIFICATE_SIGNING_REQUESTS,
      {
        ...created.value,
        apiVersion: 'certificates.k8s.io/v1',
        kind: CERTIFICATE_SIGNING_REQUESTS.kind,
        status: { ...created.value.status, conditions: [approval] },
      },
      { subresource: 'approval', signal },
    )
  }

  async #forget(name: string): Promise<void> {
    const deleted = await this.#api.delete(CERTIFICATE_SIGNING_REQUESTS, { name })
    // The API server deletes those that are signed after an hour, and those that are not after a day.
    if (!deleted.ok && deleted.error.kind !== 'notFound')
      this.#options.log.warn(
        { request: name, reason: deleted.error.message },
        'cannot delete a CertificateSigningRequest',
      )
  }
}

function unavailable(reason: string): Result<never, Refusal> {
  return err({ kind: 'unavailable', reason: `the certificate cannot be had: ${reason}` })
}

/** Reads what a signer said of a request. */
function outcomeOf({ status }: CertificateSigningRequest): Outcome {
  for (const { type, reason, message } of status?.conditions ?? [])
    if (type === 'Denied' || type === 'Failed')
      return err(`the request is ${type.toLowerCase()} (${reason ?? ''}: ${message ?? ''})`)
  const { certificate } = status ?? {}
  if (certificate === undefined || certificate === '') return undefined
  return ok(Buffer.from(certificate, 'base64').toString('utf8'))
}
