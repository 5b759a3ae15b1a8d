// SPDX-License-Identifier: Apache-2.0
// Signs for identities that have already been authorised: checks the request, caps the lifetime, writes the leaf.

import { checkCsr } from './csr-check.ts'
import type { SpiffeId } from '../../mesh/model/types.ts'
import { issueLeaf } from '../../mesh/identity/issue.ts'
import type { SigningRoot } from '../../mesh/identity/root.ts'
import type { SignedChain } from '../../mesh/identity/types.ts'
import { type Result, err, ok } from '../../mesh/result.ts'

export interface LifetimeLimits {
  /** Given when the request names none. */
  readonly defaultSeconds: number
  readonly maxSeconds: number
}

/** A signed leaf with what the log says of it. */
export interface IssuedLeaf extends SignedChain {
  readonly notAfter: Date
}

/**
 * A day, by default and at most. Nothing is ever revoked: a stolen key, or all those of a stolen node, is good for as
 * long as this. Istio allows ninety days; clients that ask for more than ours get ours.
 */
export const LIFETIME_LIMITS: LifetimeLimits = { defaultSeconds: 86_400, maxSeconds: 86_400 }
/** Clocks of nodes may run this far behind ours and still accept a fresh certificate. */
export const BACKDATE_MS = 120_000

/** Signs a request for an identity; the error says what is wrong with the request. */
export async function signRequest(
  root: SigningRoot,
  request: { readonly identity: SpiffeId; readonly csrPem: string; readonly ttlSeconds: number },
  limits: LifetimeLimits,
  nowMs: number,
): Promise<Result<IssuedLeaf, string>> {
  const lifetime = lifetimeSeconds(request.ttlSeconds, limits)
  if (!lifetime.ok) return lifetime
  const publicKey = await checkCsr(request.csrPem, request.identity)
  if (!publicKey.ok) return publicKey
  const notAfter = new Date(Math.min(nowMs + lifetime.value * 1000, root.notAfter.getTime()))
  const chainPem = await issueLeaf(root, {
    names: [{ type: 'url', value: request.identity }],
    publicKeyDer: publicKey.value,
    notBefore: new Date(nowMs - BACKDATE_MS),
    notAfter,
  })
  return ok({ chainPem, rootsPem: root.certificatePem, notAfter })
}

/** Zero means "the default"; more than the most is cut to it, as clients need not know our limits. */
function lifetimeSeconds(asked: number, limits: LifetimeLimits): Result<number, string> {
  if (asked < 0) return err(`the validity of ${asked} s is negative`)
  if (asked === 0) return ok(limits.defaultSeconds)
  return ok(Math.min(asked, limits.maxSeconds))
}
