// SPDX-License-Identifier: Apache-2.0
// Which certificates are revoked, as far as anybody has said so: of what no list speaks, nothing is known, and it is accepted, as
// Istio's ztunnel does.

import type { X509Certificate } from 'node:crypto'
import { issuerAndSerial, type RevocationList } from './revocation-list.ts'

/** Longer chains do not occur; also ends loops. */
const MOST_CERTIFICATES = 10

export class Revocations {
  #serials: ReadonlyMap<string, ReadonlySet<string>> = new Map()

  /** Takes these lists in place of those before. */
  replace(lists: readonly RevocationList[]): void {
    const serials = new Map<string, Set<string>>()
    for (const list of lists) {
      const ofIssuer = serials.get(list.issuer) ?? new Set()
      serials.set(list.issuer, ofIssuer)
      for (const serial of list.serials) ofIssuer.add(serial)
    }
    this.#serials = serials
  }

  /** Whether the certificate is revoked, or one of those it came with that vouch for it. Hot: once per handshake. */
  isRevoked(peer: X509Certificate): boolean {
    if (this.#serials.size === 0) return false
    let at: X509Certificate | undefined = peer
    for (let count = 0; at !== undefined && count < MOST_CERTIFICATES; count += 1) {
      const named = issuerAndSerial(at.raw)
      // OpenSSL has read it, so this does not happen; what cannot be looked up is not to slip through.
      if (named === undefined) return true
      if (this.#serials.get(named.issuer)?.has(named.serial) === true) return true
      at = at.issuerCertificate
    }
    return false
  }
}
