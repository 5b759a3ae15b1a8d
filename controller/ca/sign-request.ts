// SPDX-License-Identifier: Apache-2.0
// Signs for identities that have already been authorised: checks the request, caps the lifetime, writes the leaf.

import { checkCsr } from './csr-check.ts'
import type { SpiffeId } from '../../mesh/model/types.ts'
import { BACKDATE_MS } from '../../mesh/identity/schedule.ts'
import type { SigningAuthority } from '../../mesh/identity/authority.ts'
import type { SignedChain } from '../../mesh/identity/types.ts'
import { type Result, err, ok } from '../../mesh/result.ts'
import type { Refusal } from '../auth/caller.ts'
import { judgeChain } from './issued-chain.ts'
import type { LeafSigner } from './kubernetes-signer.ts'

export interface LifetimeLimits {
  /** Given when the request names none. */
  readonly defaultSeconds: number
  readonly maxSeconds: number
}

/** A signed leaf with what the log says of it. */
export interface IssuedLeaf extends SignedChain {
  readonly identity: SpiffeId
  readonly notAfter: Date
}

/**
 * A day, by default and at most. Nothing is ever revoked: a stolen key, or all those of a stolen node, is good for as
 * long as this. Istio allows ninety days; clients that ask for more than ours get ours.
 */
export const LIFETIME_LIMITS: LifetimeLimits = { defaultSeconds: 86_400, maxSeconds: 86_400 }

/**
 * Signs a request for an identity; the refusal says what is wrong with the request, or with us.
 *
 * @param signer who signs in place of the authority, which still says whom the mesh trusts
 */
export async function signRequest(
  authority: SigningAuthority,
  request: { readonly identity: SpiffeId; readonly csrPem: string; readonly ttlSeconds: number },
  limits: LifetimeLimits,
  nowMs: number,
  signer?: LeafSigner,
): Promise<Result<IssuedLeaf, Refusal>> {
  const lifetime = lifetimeSeconds(request.ttlSeconds, limits)
  if (!lifetime.ok) return invalid(lifetime.error)
  const publicKey = await checkCsr(request.csrPem, request.identity)
  if (!publicKey.ok) return invalid(publicKey.error)
  if (signer !== undefined)
    return signElsewhere(signer, authority, request, publicKey.value, lifetime.value, nowMs)
  const endMs = authority.notAfter.getTime()
  if (endMs <= nowMs)
    return err({
      kind: 'unavailable',
      reason: `the authority of the mesh ended at ${authority.notAfter.toISOString()}`,
    })
  const notAfter = new Date(Math.min(nowMs + lifetime.value * 1000, endMs))
  const chainPem = await authority.sign({
    names: [{ type: 'url', value: request.identity }],
    publicKeyDer: publicKey.value,
    // Of one that lives for minutes less: what is left of it tells an operator whether it is renewed.
    notBefore: new Date(nowMs - Math.min(BACKDATE_MS, lifetime.value * 500)),
    notAfter,
  })
  const { identity } = request
  return ok({ identity, chainPem, rootsPem: authority.bundlePem, notAfter })
}

/** Clocks of whoever signs may be ahead of ours, and its certificates begin when it likes. */
const END_SLACK_MS = 600_000
/** A clock that is so far ahead is soon caught up with; beyond, peers would refuse it for long. */
const LATEST_START_MS = 10_000
/** The Kubernetes API has no certificates for less. */
const LEAST_LIFETIME_MS = 600_000

async function signElsewhere(
  signer: LeafSigner,
  authority: SigningAuthority,
  { identity, csrPem }: { readonly identity: SpiffeId; readonly csrPem: string },
  publicKeyDer: Uint8Array,
  lifetimeSeconds: number,
  nowMs: number,
): Promise<Result<IssuedLeaf, Refusal>> {
  const signed = await signer.sign({ identity, csrPem, lifetimeSeconds })
  if (!signed.ok) return signed
  const latestEnd = new Date(
    nowMs + Math.max(lifetimeSeconds * 1000, LEAST_LIFETIME_MS) + END_SLACK_MS,
  )
  const rootsPem = authority.bundlePem
  const latestStart = new Date(nowMs + LATEST_START_MS)
  const wanted = { identity, publicKeyDer, latestStart, latestEnd, rootsPem }
  const judged = judgeChain(signed.value, wanted, new Date(nowMs))
  if (!judged.ok) return err({ kind: 'unavailable', reason: judged.error })
  return ok({ identity, ...judged.value, rootsPem })
}

function invalid(reason: string): Result<never, Refusal> {
  return err({ kind: 'invalid', reason })
}

/** Zero means "the default"; more than the most is cut to it, as clients need not know our limits. */
function lifetimeSeconds(asked: number, limits: LifetimeLimits): Result<number, string> {
  if (asked < 0) return err(`the validity of ${asked} s is negative`)
  if (asked === 0) return ok(limits.defaultSeconds)
  return ok(Math.min(asked, limits.maxSeconds))
}
