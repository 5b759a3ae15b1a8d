// SPDX-License-Identifier: Apache-2.0
// Signs for identities that have already been authorised: checks the request, caps the lifetime, writes the leaf.

import { checkCsr } from './csr-check.ts'
import type { SpiffeId } from '../../mesh/model/types.ts'
import type { SigningAuthority } from '../../mesh/identity/authority.ts'
import type { SignedChain } from '../../mesh/identity/types.ts'
import { type Result, err, ok } from '../../mesh/result.ts'
import type { Refusal } from '../auth/caller.ts'

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
/** Clocks of nodes may run this far behind ours and still accept a fresh certificate. */
export const BACKDATE_MS = 120_000

/** Signs a request for an identity; the refusal says what is wrong with the request, or with us. */
export async function signRequest(
  authority: SigningAuthority,
  request: { readonly identity: SpiffeId; readonly csrPem: string; readonly ttlSeconds: number },
  limits: LifetimeLimits,
  nowMs: number,
): Promise<Result<IssuedLeaf, Refusal>> {
  const lifetime = lifetimeSeconds(request.ttlSeconds, limits)
  if (!lifetime.ok) return invalid(lifetime.error)
  const publicKey = await checkCsr(request.csrPem, request.identity)
  if (!publicKey.ok) return invalid(publicKey.error)
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
    notBefore: new Date(nowMs - BACKDATE_MS),
    notAfter,
  })
  const { identity } = request
  return ok({ identity, chainPem, rootsPem: authority.bundlePem, notAfter })
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
