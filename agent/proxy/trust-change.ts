// SPDX-License-Identifier: Apache-2.0
// What becomes of a pod's live HBONE connections when its roots change: one whose peer leads to no root any more is cut, for a
// root is taken out because what hangs on it shall end. The others are replaced: they stand on certificates of before, which
// the next step of a rotation may take the ground from.

import { X509Certificate } from 'node:crypto'
import type { LiveConnection } from '../../mesh/hbone/lifetime.ts'
import { CONNECT_DEADLINE_MS, HANDSHAKE_DEADLINE_MS } from '../../mesh/hbone/limits.ts'
import type { HbonePool, HboneServer } from '../../mesh/hbone/types.ts'
import { leadsTo } from '../../mesh/identity/chain.ts'
import { splitCertificates } from '../../mesh/identity/pem.ts'
import type { WorkloadCertificate } from '../../mesh/identity/types.ts'

/** A handshake that began with the roots of before is over after this. */
const STRAGGLERS_MS = CONNECT_DEADLINE_MS + HANDSHAKE_DEADLINE_MS

/** Both ends of a pod: what its app calls, and who calls its app. */
export interface PodEnds {
  readonly pool: Pick<HbonePool, 'closeWhere' | 'leaveWhere'>
  readonly servers: () => readonly Pick<HboneServer, 'closeWhere' | 'leaveWhere'>[]
  /** Told when connections were cut. */
  readonly onCut: (connections: number) => void
}

/** Follows the certificates of one pod. */
export class TrustChange {
  readonly #ends: PodEnds
  #rootsPem: string | undefined
  #stragglers: NodeJS.Timeout | undefined

  constructor(ends: PodEnds) {
    this.#ends = ends
  }

  /** Takes the certificate that new handshakes are made with from now on. */
  certificate(certificate: WorkloadCertificate): void {
    const before = this.#rootsPem
    this.#rootsPem = certificate.rootsPem
    if (before === undefined || before === certificate.rootsPem) return
    this.#apply(certificate)
    clearTimeout(this.#stragglers)
    this.#stragglers = setTimeout(() => this.#apply(certificate), STRAGGLERS_MS).unref()
  }

  close(): void {
    clearTimeout(this.#stragglers)
  }

  #apply(certificate: WorkloadCertificate): void {
    const roots = splitCertificates(certificate.rootsPem).map((pem) => new X509Certificate(pem))
    const now = new Date()
    const isDistrusted = ({ socket }: LiveConnection): boolean => {
      const peer = socket.getPeerX509Certificate()
      return peer === undefined || !leadsTo(peer, roots, now)
    }
    const isOutdated = ({ socket }: LiveConnection): boolean =>
      socket.getX509Certificate()?.serialNumber.toLowerCase() !== certificate.serialNumber
    const { pool, servers } = this.#ends
    let cut = pool.closeWhere(isDistrusted)
    for (const server of servers()) cut += server.closeWhere(isDistrusted)
    if (cut > 0) this.#ends.onCut(cut)
    pool.leaveWhere(isOutdated)
    for (const server of servers()) server.leaveWhere(isOutdated)
  }
}
