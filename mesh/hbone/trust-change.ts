// SPDX-License-Identifier: Apache-2.0
// What becomes of a workload's live HBONE connections when its roots change, or certificates are revoked. When its roots change, one whose peer leads to no root any more is cut, for a
// root is taken out because what hangs on it shall end. The others are replaced: they stand on certificates of before, which
// the next step of a rotation may take the ground from. Pool and server see to handshakes that are under way at that moment.

import type { DistrustReason } from './cut-code.ts'
import type { LiveConnection } from './lifetime.ts'
import { isRevoked, trustedBy } from './tls.ts'
import type { HbonePool, HboneServer } from './types.ts'
import type { TrustPolicy } from '../identity/trust-policy.ts'
import type { WorkloadCertificate } from '../identity/types.ts'

/** Both ends of a workload: what it calls, and who calls it. */
export interface TrustedEnds {
  readonly pool: Pick<HbonePool, 'closeWhere' | 'leaveWhere'>
  readonly servers: () => readonly Pick<HboneServer, 'closeWhere' | 'leaveWhere'>[]
  /** Told when connections were cut. */
  readonly onCut: (connections: number, reason: DistrustReason) => void
}

/**
 * Whether a handshake that was begun with one certificate is overtaken by the other: another was issued, or the same one goes with other
 * roots by now, as where roots are told of by themselves.
 */
export function isOvertaken(begunWith: WorkloadCertificate, current: WorkloadCertificate): boolean {
  return begunWith.serialNumber !== current.serialNumber || begunWith.rootsPem !== current.rootsPem
}

/** Follows the certificates of one workload. */
export class TrustChange {
  readonly #ends: TrustedEnds
  #rootsPem: string | undefined

  constructor(ends: TrustedEnds) {
    this.#ends = ends
  }

  /** Takes the certificate that new handshakes are made with from now on. */
  certificate(certificate: WorkloadCertificate): void {
    const before = this.#rootsPem
    this.#rootsPem = certificate.rootsPem
    if (before === undefined || before === certificate.rootsPem) return
    this.#apply(certificate)
  }

  /** Cuts the connections whose peers have been revoked meanwhile. */
  revoked(trust: TrustPolicy): void {
    const isOver = ({ socket }: LiveConnection): boolean => isRevoked(socket, trust)
    const { pool, servers } = this.#ends
    let cut = pool.closeWhere(isOver, 'certificateRevoked')
    for (const server of servers()) cut += server.closeWhere(isOver, 'certificateRevoked')
    if (cut > 0) this.#ends.onCut(cut, 'certificateRevoked')
  }

  #apply(certificate: WorkloadCertificate): void {
    const isTrusted = trustedBy(certificate.rootsPem)
    const isDistrusted = ({ socket }: LiveConnection): boolean => !isTrusted(socket)
    const isOutdated = ({ socket }: LiveConnection): boolean =>
      socket.getX509Certificate()?.serialNumber.toLowerCase() !== certificate.serialNumber
    const { pool, servers } = this.#ends
    let cut = pool.closeWhere(isDistrusted)
    for (const server of servers()) cut += server.closeWhere(isDistrusted)
    if (cut > 0) this.#ends.onCut(cut, 'peerDistrusted')
    pool.leaveWhere(isOutdated)
    for (const server of servers()) server.leaveWhere(isOutdated)
  }
}
