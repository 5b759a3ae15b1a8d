// SPDX-License-Identifier: Apache-2.0
// What an authority that is not ours has signed, judged as if it might lie: only the very certificate that was asked for goes on
// to an agent. Pure.

import { X509Certificate } from 'node:crypto'
import { errorMessage } from '../../mesh/errors.ts'
import { pathToRoot } from '../../mesh/identity/chain.ts'
import { peerSpiffeId } from '../../mesh/identity/peer.ts'
import { joinPem, splitCertificates } from '../../mesh/identity/pem.ts'
import { maySignCertificates } from '../../mesh/identity/x509.ts'
import type { SpiffeId } from '../../mesh/model/types.ts'
import { type Result, err, ok } from '../../mesh/result.ts'

export interface WantedLeaf {
  readonly identity: SpiffeId
  /** SubjectPublicKeyInfo. */
  readonly publicKeyDer: Uint8Array
  /** No later may it end: what a stolen key is worth is decided here and not by who signs. */
  readonly latestEnd: Date
  /** Roots of the mesh, of which one must vouch for it: a leaf that no peer trusts is worse than none. */
  readonly rootsPem: string
}

/** The leaf and what lies between it and its root. */
export interface IssuedChain {
  readonly chainPem: string
  readonly notAfter: Date
}

/** Judges the PEM certificates that an authority answered, the leaf first. */
export function judgeChain(
  pem: string,
  wanted: WantedLeaf,
  now: Date,
): Result<IssuedChain, string> {
  let certificates: readonly X509Certificate[]
  let leafKey: Buffer | undefined
  try {
    certificates = splitCertificates(pem).map((each) => new X509Certificate(each))
    leafKey = certificates[0]?.publicKey.export({ type: 'spki', format: 'der' })
  } catch (thrown) {
    return err(`what was signed is no certificate (${errorMessage(thrown)})`)
  }
  const [leaf, ...others] = certificates
  if (leaf === undefined || leafKey === undefined) return err('nothing was signed')
  const named = peerSpiffeId(leaf)
  if (!named.ok) return err(`the signed certificate names no identity: ${named.error.message}`)
  if (named.value !== wanted.identity)
    return err(`the signed certificate is for ${named.value}, not for ${wanted.identity}`)
  if (!leafKey.equals(wanted.publicKeyDer))
    return err('the signed certificate is not for the key of the request')
  if (leaf.ca || maySignCertificates(leaf.raw)) return err('the signed certificate may sign others')
  if (leaf.validToDate <= now) return err(`the signed certificate ended at ${leaf.validTo}`)
  if (leaf.validToDate > wanted.latestEnd)
    return err(
      `the signed certificate lasts until ${leaf.validToDate.toISOString()}, longer than was asked for`,
    )
  const roots = splitCertificates(wanted.rootsPem).map((each) => new X509Certificate(each))
  const path = pathToRoot(leaf, others, roots)
  if (path === undefined)
    return err(
      `the signed certificate leads to none of the mesh's roots; add the signer's root to the mesh's (docs/operations.md, "Certificates signed by another authority")`,
    )
  const chainPem = joinPem(path.slice(0, -1).map(String))
  return ok({ chainPem, notAfter: leaf.validToDate })
}
