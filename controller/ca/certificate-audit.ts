// SPDX-License-Identifier: Apache-2.0
// Puts on record who got a certificate, and who did not and why.

import { X509Certificate } from 'node:crypto'
import type { AuditJournal } from '../../mesh/audit/journal.ts'
import { parseSpiffeId } from '../../mesh/identity/spiffe.ts'
import { type Caller, callerName, type Refusal } from '../auth/caller.ts'
import type { IssuedLeaf } from './sign-request.ts'

/** A request for a certificate, as far as it is known. */
export interface CertificateAsk {
  /** `address:port` */
  readonly peer: string
  /** Undefined for one whose token is not good. */
  readonly caller: Caller | undefined
  /** The identity asked for; undefined: the caller's own. */
  readonly requested: string | undefined
  /** An agent asks for as many as its node has pods: each of its lines counts. Any pod has a token, and may ask as it likes. */
  readonly isAgent: boolean
}

/** Who cannot say who they are share one budget: a new address costs nothing. */
const STRANGERS = 'strangers'

/** Records that a certificate was issued. */
export function recordIssued(journal: AuditJournal, ask: CertificateAsk, leaf: IssuedLeaf): void {
  const { identity, chainPem, notAfter } = leaf
  record(journal, ask, {
    kind: 'certificate.issued',
    what: identity,
    why: 'the caller may have it',
    details: {
      // By this number it can be revoked.
      serial: new X509Certificate(chainPem).serialNumber.toLowerCase(),
      notAfter: notAfter.toISOString(),
    },
  })
}

/** Records that none was. */
export function recordRefused(
  journal: AuditJournal,
  ask: CertificateAsk,
  { kind, reason }: Refusal,
): void {
  record(journal, ask, {
    kind: 'certificate.refused',
    what: ask.requested ?? 'its own identity',
    why: reason,
    details: { reason: kind },
  })
}

function record(
  journal: AuditJournal,
  { peer, caller, requested, isAgent }: CertificateAsk,
  event: {
    readonly kind: 'certificate.issued' | 'certificate.refused'
    readonly what: string
    readonly why: string
    readonly details: Readonly<Record<string, string>>
  },
): void {
  const owner = parseSpiffeId(event.what) ?? (requested && parseSpiffeId(requested))
  const who = caller === undefined ? peer : callerName(caller)
  const pod = caller?.pod && { pod: caller.pod.name }
  const payer = caller === undefined ? STRANGERS : (caller.pod?.uid ?? who)
  journal.record(isAgent ? undefined : payer, {
    ...event,
    time: Date.now(),
    namespace: (owner ? owner.namespace : caller?.namespace) ?? '',
    who,
    details: { peer, ...pod, ...event.details },
  })
}
