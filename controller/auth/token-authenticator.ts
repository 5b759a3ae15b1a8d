// SPDX-License-Identifier: Apache-2.0
// Turns a bearer token into a Caller by asking the API server (TokenReview). Verdicts are remembered briefly
// under the token's hash; tokens themselves are neither kept nor logged.

import { createHash } from 'node:crypto'
import { type KubeApi, TOKEN_REVIEWS, type TokenReview } from '../../mesh/kube/index.ts'
import { type Result, err, ok } from '../../mesh/result.ts'
import type { Caller, Refusal } from './caller.ts'
import { ReviewBudget } from './review-budget.ts'

export interface TokenAuthenticatorOptions {
  readonly audience: string
  /** For tests: both clocks, the one that says how long ago something was and the one by which a token ends. */
  readonly now?: () => number
}

type Verdict = Result<Caller, Refusal>
type Verdicts = Map<string, { readonly verdict: Verdict; readonly untilMs: number }>

/** How long a yes is believed: bounds how long a deleted pod's token still works. */
const ACCEPTED_TTL_MS = 30_000
/** How long a no is believed: a client that retries a bad token in a loop costs the API server little. */
const REFUSED_TTL_MS = 5_000
/** How long a token that was accepted before waits when the API server could not be asked. */
const UNAVAILABLE_TTL_MS = 1_000
/** Bounds memory, of each kind of verdict; the oldest goes first. */
const MAX_VERDICTS = 10_000
/** Real tokens have 1 to 2 KB. */
const MAX_TOKEN_BYTES = 16_384
const REVIEW_DEADLINE_MS = 5_000

const USER_PATTERN = /^system:serviceaccount:([a-z0-9.-]{1,253}):([a-z0-9.-]{1,253})$/
const POD_NAME_EXTRA = 'authentication.kubernetes.io/pod-name'
const POD_UID_EXTRA = 'authentication.kubernetes.io/pod-uid'

/** Authenticates service account tokens. */
export class TokenAuthenticator {
  readonly #api: KubeApi
  readonly #audience: string
  /** Nobody sets it: a yes is not believed for longer because a clock went back. */
  readonly #now: () => number
  readonly #wallNow: () => number
  /**
   * Of tokens that were accepted at their last review. Kept apart, where refusals cannot push them out, and kept when they are to be
   * reviewed again: nobody made them up, so that no flood of made-up ones stands in the way of an agent that reconnects.
   */
  readonly #accepted: Verdicts = new Map()
  readonly #refused: Verdicts = new Map()
  /** Reviews under way, so that a crowd with one token asks once. */
  readonly #pending = new Map<string, Promise<Verdict>>()
  readonly #budget: ReviewBudget

  constructor(api: KubeApi, options: TokenAuthenticatorOptions) {
    this.#api = api
    this.#audience = options.audience
    this.#now = options.now ?? (() => performance.now())
    this.#wallNow = options.now ?? Date.now
    this.#budget = new ReviewBudget(options.now)
  }

  /** Authenticates the value of an authorization header; `peer` is the address it came from, as ip:port. */
  async authenticate(authorization: string | undefined, peer?: string): Promise<Verdict> {
    if (authorization === undefined) return unauthenticated('there is no authorization header')
    const token = /^Bearer +(\S+)$/i.exec(authorization.trim())?.[1]
    if (token === undefined) return unauthenticated('the authorization header is no bearer token')
    if (token.length > MAX_TOKEN_BYTES) return unauthenticated('the token is too long')
    const key = createHash('sha256').update(token).digest('base64')
    const accepted = this.#accepted.get(key)
    const known = accepted ?? this.#refused.get(key)
    if (known !== undefined && known.untilMs > this.#now()) return known.verdict
    const pending = this.#pending.get(key)
    if (pending !== undefined) return pending
    const review = accepted === undefined ? this.#reviewUnknown(token, peer) : this.#review(token)
    const remembered = review
      .then((verdict) => {
        this.#remember(key, token, verdict)
        return verdict
      })
      .finally(() => this.#pending.delete(key))
    this.#pending.set(key, remembered)
    return remembered
  }

  async #reviewUnknown(token: string, peer: string | undefined): Promise<Verdict> {
    const address = peer?.replace(/:\d+$/, '')
    const reason = this.#budget.enter(address)
    if (reason !== undefined) return err({ kind: 'throttled', reason })
    let wasAccepted = false
    try {
      const verdict = await this.#review(token)
      wasAccepted = verdict.ok
      return verdict
    } finally {
      this.#budget.leave(address, wasAccepted)
    }
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
    const now = this.#now()
    if (verdict.ok) {
      const leftMs = (expiryOf(token) ?? Number.POSITIVE_INFINITY) - this.#wallNow()
      return put(this.#accepted, key, verdict, now + Math.min(ACCEPTED_TTL_MS, leftMs))
    }
    // Not being able to ask is no verdict. It is remembered only where no budget bounds how often the API server is asked.
    if (verdict.error.kind !== 'unauthenticated') {
      if (this.#accepted.has(key)) put(this.#accepted, key, verdict, now + UNAVAILABLE_TTL_MS)
      return
    }
    this.#accepted.delete(key)
    put(this.#refused, key, verdict, now + REFUSED_TTL_MS)
  }
}

function put(verdicts: Verdicts, key: string, verdict: Verdict, untilMs: number): void {
  verdicts.delete(key)
  verdicts.set(key, { verdict, untilMs })
  for (const oldest of verdicts.keys()) {
    if (verdicts.size <= MAX_VERDICTS) return
    verdicts.delete(oldest)
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
