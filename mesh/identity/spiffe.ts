// SPDX-License-Identifier: Apache-2.0
// SPIFFE IDs as Istio writes them: spiffe://<trust domain>/ns/<namespace>/sa/<service account>, exactly.

import type { SpiffeId } from '../model/types.ts'

export interface SpiffeParts {
  readonly trustDomain: string
  readonly namespace: string
  readonly serviceAccount: string
}

/**
 * The trust domain is compared as it stands: lower case alone (SPIFFE-ID 2.1), no port, no user, nothing percent-encoded, and more than
 * dots. Names are Kubernetes' own, which begin and end with a letter or a digit: so no segment is `.` or `..`, which SPIFFE-ID 2.2
 * forbids, for a reader that resolves paths would find another identity in it.
 */
const SPIFFE_PATTERN =
  /^spiffe:\/\/((?!\.+\/)[a-z0-9._-]{1,255})\/ns\/([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)\/sa\/([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)$/

/** Writes a SPIFFE ID from its parts. */
export function spiffeId(parts: SpiffeParts): SpiffeId {
  return `spiffe://${parts.trustDomain}/ns/${parts.namespace}/sa/${parts.serviceAccount}` as SpiffeId
}

/** Reads a SPIFFE ID; undefined for anything that is not exactly of the mesh's form. */
export function parseSpiffeId(text: string): (SpiffeParts & { readonly id: SpiffeId }) | undefined {
  const match = SPIFFE_PATTERN.exec(text)
  const [, trustDomain, namespace, serviceAccount] = match ?? []
  if (trustDomain === undefined || namespace === undefined || serviceAccount === undefined)
    return undefined
  return { trustDomain, namespace, serviceAccount, id: text as SpiffeId }
}
