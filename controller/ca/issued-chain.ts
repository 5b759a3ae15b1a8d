// SPDX-License-Identifier: Apache-2.0
// What an authority that is not ours has signed, judged as if it might lie: only the very certificate that was asked for goes on
// to an agent. Pure.

import { peerSpiffeId } from '../../mesh/identity/peer.ts'
import { joinPem, splitCertificates } from '../../mesh/identity/pem.ts'
import { readChain, usablePath } from '../../mesh/identity/usable-chain.ts'
import { maySignCertificates } from '../../mesh/identity/x509.ts'
import type { SpiffeId } from '../../mesh/model/types.ts'
import { type Result, err, ok } from '../../mesh/result.ts'

export interface WantedLeaf {
  readonly identity: SpiffeId
  /** SubjectPublicKeyInfo. */
  readonly publicKeyDer: Uint8Array
  /** No later may it begin: nobody could use it. */
  readonly latestStart: Date
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
  if (splitCertificates(pem).length === 0) return err('nothing was signed')
  const read = readChain(pem)
  if (!read.ok) return err(`what was signed is no certificate: it ${read.error.message}`)
  const { leaf } = read.value
  const named = peerSpiffeId(leaf)
  if (!named.ok) return err(`the signed certificate names no identity: ${named.error.message}`)
  if (named.value !== wanted.identity)
    return err(`the signed certificate is for ${named.value}, not for ${wanted.identity}`)
  const leafKey = leaf.publicKey.export({ type: 'spki', format: 'der' })
  if (!leafKey.equals(wanted.publicKeyDer))
    return err('the signed certificate is not for the key of the request')
  if (maySignCertificates(leaf.raw)) return err('the signed certificate may sign others')
  if (leaf.validToDate <= now) return err(`the signed certificate ended at ${leaf.validTo}`)
  if (leaf.validFromDate > wanted.latestStart)
    return err(
      `the signed certificate is not valid before ${leaf.validFromDate.toISOString()}; is the signer's clock ahead?`,
    )
  if (leaf.validToDate > wanted.latestEnd)
    return err(
      `the signed certificate lasts until ${leaf.validToDate.toISOString()}, longer than was asked for`,
    )
  const path = usablePath(read.value, wanted.rootsPem, now)
  if (path.ok) return ok({ chainPem: joinPem(path.value.map(String)), notAfter: leaf.validToDate })
  if (path.error.kind !== 'noPath') return err(`the signed certificate ${path.error.message}`)
  return err(
    `the signed certificate leads to none of the mesh's roots; add the signer's root to the mesh's (docs/operations.md, "Certificates signed by another authority")`,
  )
}
