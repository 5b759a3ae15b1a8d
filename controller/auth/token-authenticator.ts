// SPDX-License-Identifier: Apache-2.0
// Turns a bearer token into a Caller by asking the API server (TokenReview). Verdicts are remembered briefly
// under the token's hash; tokens themselves are neither kept nor logged.

import { createHash } from 'node:crypto'
import { PerSource } from '../../mesh/async/per-source.ts'
import { type KubeApi, TOKEN_REVIEWS, type TokenReview } from '../../mesh/kube/index.ts'
import { sourceNetwork } from '../../mesh/model/address.ts'
import { type Result, err, ok } from '../../mesh/result.ts'
import type { Caller, Refusal } from './caller.ts'

export interface TokenAuthenticatorOptions {
  readonly audience: string
  readonly now?: () => number
}

type Verdict = Result<Caller, Refusal>

/** How long a yes is believed: bounds how long a deleted pod's token still works. */
const ACCEPTED_TTL_MS = 30_000
/** How long a no is believed: a client that retries a bad token in a loop costs the API server little. */
const REFUSED_TTL_MS = 5_000
/** Bounds memory; the oldest verdict goes first. */
const MAX_VERDICTS = 10_000
/** Real tokens have 1 to 2 KB. */
const MAX_TOKEN_BYTES = 16_384
/** Reviews under way at once: whoever floods us with made-up tokens does not flood the API server through us. */
const MAX_PENDING_REVIEWS = 100
/** Of them for one address, so that one pod with made-up tokens does not keep the agents out. */
const MAX_PENDING_PER_SOURCE = 10
/** Of them for one IPv6 /64, in which one machine may have any address, and all nodes of a cluster theirs. */
const MAX_PENDING_PER_NETWORK = 50
const REVIEW_DEADLINE_MS = 5_000

const USER_PATTERN = /^system:serviceaccount:([a-z0-9.-]{1,253}):([a-z0-9.-]{1,253})$/
const POD_NAME_EXTRA = 'authentication.kubernetes.io/pod-name'
const POD_UID_EXTRA = 'authentication.kubernetes.io/pod-uid'

/** Authenticates service account tokens. */
export class TokenAuthenticator {
  readonly #api: KubeApi
  readonly #audience: string
  readonly #now: () => number
  readonly #verdicts = new Map<string, { readonly verdict: Verdict; readonly untilMs: number }>()
  /** Reviews under way, so that a crowd with one token asks once. */
  readonly #pending = new Map<string, Promise<Verdict>>()
  readonly #networks = new PerSource({
    perSource: MAX_PENDING_PER_NETWORK,
    total: MAX_PENDING_REVIEWS,
  })
  readonly #reviews = new PerSource({
    perSource: MAX_PENDING_PER_SOURCE,
    total: MAX_PENDING_REVIEWS,
  })

  constructor(api: KubeApi, options: TokenAuthenticatorOptions) {
    this.#api = api
    this.#audience = options.audience
    this.#now = options.now ?? Date.now
  }

  /** Authenticates the value of an authorization header; `peer` is the address it came from, as ip:port. */
  async authenticate(authorization: string | undefined, peer?: string): Promise<Verdict> {
    if (authorization === undefined) return unauthenticated('there is no authorization header')
    const token = /^Bearer +(\S+)$/i.exec(authorization.trim())?.[1]
    if (token === undefined) return unauthenticated('the authorization header is no bearer token')
    if (token.length > MAX_TOKEN_BYTES) return unauthenticated('the token is too long')
    const key = createHash('sha256').update(token).digest('base64')
    const known = this.#verdicts.get(key)
    if (known !== undefined && known.untilMs > this.#now()) return known.verdict
    const pending = this.#pending.get(key)
    if (pending !== undefined) return pending
    if (this.#pending.size >= MAX_PENDING_REVIEWS)
      return err({ kind: 'throttled', reason: 'too many tokens are being reviewed; try again' })
    const source = peer?.replace(/:\d+$/, '')
    if (source !== undefined && !this.#enter(source))
      return err({ kind: 'throttled', reason: 'too many tokens of yours are being reviewed' })
    const review = this.#review(token).finally(() => {
      this.#pending.delete(key)
      if (source !== undefined) this.#leave(source)
    })
    this.#pending.set(key, review)
    const verdict = await review
    this.#remember(key, token, verdict)
    return verdict
  }

  #enter(source: string): boolean {
    const network = sourceNetwork(source)
    if (!this.#networks.enter(network)) return false
    if (this.#reviews.enter(source)) return true
    this.#networks.leave(network)
    return false
  }

  #leave(source: string): void {
    this.#networks.leave(sourceNetwork(source))
    this.#reviews.leave(source)
  }

  async #review(token: string): Promise<Verdict> {
    const answer = await this.#api.create(
      TOKEN_REVIEWS,
      { spec: { token, audiences: [this.#audience] } },
      { deadlineMs: REVIEW_DEADLINE_MS },
    )
    if (!answer.ok)
      return err({
        kind: 'unavailable',
        reason: `the API server cannot review the token now: ${answer.error.message}`,
      })
    return callerOf(answer.value, this.#audience)
  }

  #remember(key: string, token: string, verdict: Verdict): void {
    // Not being able to ask is no verdict.
    if (!verdict.ok && verdict.error.kind === 'unavailable') return
    const now = this.#now()
    const untilMs = verdict.ok
      ? Math.min(now + ACCEPTED_TTL_MS, expiryOf(token) ?? Number.POSITIVE_INFINITY)
      : now + REFUSED_TTL_MS
    this.#verdicts.delete(key)
    this.#verdicts.set(key, { verdict, untilMs })
    for (const oldest of this.#verdicts.keys()) {
      if (this.#verdicts.size <= MAX_VERDICTS) break
      this.#verdicts.delete(oldest)
    }
  }
}

/** Reads the API server's verdict. Pure. */
function callerOf(review: TokenReview, audience: string): Verdict {
  const { status } = review
  if (status?.authenticated !== true)
    return unauthenticated(
      `the API server does not accept the token${status?.error ? `: ${status.error}` : ''}`,
    )
  // A server that ignores audiences leaves the list out: then the token was not checked for ours.
  if (status.audiences?.includes(audience) !== true)
    return unauthenticated(`the token is not for the audience ${audience}`)
  const [, namespace, serviceAccount] = USER_PATTERN.exec(status.user?.username ?? '') ?? []
  if (namespace === undefined || serviceAccount === undefined)
    return unauthenticated('the token belongs to no service account')
  const extra = status.user?.extra ?? {}
  const name = extra[POD_NAME_EXTRA]?.[0]
  const uid = extra[POD_UID_EXTRA]?.[0]
  return ok({
    namespace,
    serviceAccount,
    ...(name !== undefined && uid !== undefined && { pod: { name, uid } }),
  })
}

/** The token's own expiry, read without trust: used only to believe a yes for a shorter time. */
function expiryOf(token: string): number | undefined {
  const payload = token.split('.')[1]
  if (payload === undefined) return undefined
  try {
    const claims: unknown = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8'))
    if (typeof claims !== 'object' || claims === null || !('exp' in claims)) return undefined
    return typeof claims.exp === 'number' ? claims.exp * 1000 : undefined
  } catch (thrown) {
    // Opaque tokens are as good as JWTs; they merely say nothing of their expiry.
    if (thrown instanceof SyntaxError) return undefined
    throw thrown
  }
}

function unauthenticated(reason: string): Verdict {
  return err({ kind: 'unauthenticated', reason })
}
