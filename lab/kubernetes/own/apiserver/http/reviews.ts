// SPDX-License-Identifier: Apache-2.0
// Reviews: who a token belongs to, and whether somebody may do something. In the lab whoever is
// authenticated may do everything: RBAC objects are stored, not enforced.

import { type Result, ok } from '../../../../../mesh/result.ts'
import { badRequest } from '../../../objects/refusals.ts'
import { type Draft, at, ensureRecord, record, text, texts } from '../../../objects/json.ts'
import type { TokenAuthority, UserInfo } from '../tokens.ts'
import type { Refusal } from '../../../objects/refusals.ts'

export type Authenticator = (
  token: string,
  audiences: readonly string[],
) => Promise<Result<{ readonly user: UserInfo; readonly audiences: readonly string[] }, string>>

const allowed = { allowed: true, reason: 'the lab allows everything to whoever is authenticated' }

async function reviewToken(review: Draft, authority: TokenAuthority, authenticate: Authenticator) {
  const token = text(at(review, 'spec', 'token')) ?? ''
  const wanted = texts(at(review, 'spec', 'audiences'))
  const answer = await authenticate(token, wanted.length === 0 ? [authority.issuer] : wanted)
  if (!answer.ok) return { error: `[invalid bearer token, ${answer.error}]`, user: {} }
  const { user, audiences } = answer.value
  return { authenticated: true, user, audiences }
}

/** Answers a review of some kind; undefined for a kind that is none. */
export async function answerReview(
  kind: string,
  body: unknown,
  user: UserInfo,
  authority: TokenAuthority,
  authenticate: Authenticator,
): Promise<Result<Draft, Refusal>> {
  const review = record(body)
  if (review === undefined) return badRequest('the review must be an object')
  ensureRecord(review, 'metadata')
  switch (kind) {
    case 'TokenReview':
      review.status = await reviewToken(review, authority, authenticate)
      break
    case 'SelfSubjectReview':
      review.status = { userInfo: user }
      break
    case 'SelfSubjectRulesReview':
      review.status = {
        incomplete: false,
        resourceRules: [{ verbs: ['*'], apiGroups: ['*'], resources: ['*'] }],
        nonResourceRules: [{ verbs: ['*'], nonResourceURLs: ['*'] }],
      }
      break
    default:
      review.status = allowed
  }
  return ok(review)
}
