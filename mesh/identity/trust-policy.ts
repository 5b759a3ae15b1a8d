// SPDX-License-Identifier: Apache-2.0
// Whom the mesh takes for one of its own: identities of its trust domain, and of the domains that were its names before or
// are those of meshes it grows together with (Istio's trustDomainAliases). Which roots vouch for them is TLS's affair.

import type { X509Certificate } from 'node:crypto'
import type { SpiffeId } from '../model/types.ts'
import type { Revocations } from './revocations.ts'
import { parseSpiffeId, spiffeId } from './spiffe.ts'

/** What a policy is made of; plain data, so that it can go to a worker. */
export interface TrustDomains {
  readonly trustDomain: string
  /** Other names of the same domain: an identity of theirs is that of the same account in ours. */
  readonly aliases: readonly string[]
}

export interface TrustPolicy {
  /** Whether a peer of this identity may talk to us at all. */
  accepts(peer: SpiffeId): boolean
  /** Whether the peer is one of those, where a domain and its aliases are the same. */
  isOneOf(peer: SpiffeId, expected: readonly SpiffeId[]): boolean
  /** Whether two identities are of one account. */
  isSame(one: SpiffeId, other: SpiffeId): boolean
  /** Whether a certificate, or one that vouches for it, has been revoked. */
  isRevoked(certificate: X509Certificate): boolean
  /** The trust domain and its aliases, for messages. */
  readonly domains: readonly string[]
}

/** Makes the policy of a mesh; `revocations` may change later. */
export function trustPolicy(
  { trustDomain, aliases }: TrustDomains,
  revocations?: Revocations,
): TrustPolicy {
  const domains = new Set([trustDomain, ...aliases])
  /** The identity in the mesh's own domain; others stay as they are. */
  const canonical = (id: SpiffeId): SpiffeId => {
    const parts = parseSpiffeId(id)
    return parts !== undefined &&
      parts.trustDomain !== trustDomain &&
      domains.has(parts.trustDomain)
      ? spiffeId({ ...parts, trustDomain })
      : id
  }
  const isSame = (one: SpiffeId, other: SpiffeId): boolean =>
    // Hot: almost always they are equal as they stand.
    one === other || (aliases.length > 0 && canonical(one) === canonical(other))
  return {
    domains: [...domains],
    accepts: (peer) => {
      const parts = parseSpiffeId(peer)
      return parts !== undefined && domains.has(parts.trustDomain)
    },
    isOneOf: (peer, expected) => expected.some((each) => isSame(each, peer)),
    isSame,
    isRevoked: (certificate) => revocations?.isRevoked(certificate) ?? false,
  }
}

/** The policy of a workload that knows no more than its own identity: its own trust domain alone. */
export function ownDomainOnly(own: SpiffeId, revocations?: Revocations): TrustPolicy {
  const trustDomain = parseSpiffeId(own)?.trustDomain ?? ''
  return trustPolicy({ trustDomain, aliases: [] }, revocations)
}
