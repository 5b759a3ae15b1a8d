// SPDX-License-Identifier: Apache-2.0
// Where a call that arrives at a pod leads, and as whom: pure functions. Whether it may is asked afterwards (admission.ts).
// Row numbers are those of the inbound decision tables in docs/compatibility.md.

import { familyOf, parseSocketAddress } from '../../../mesh/model/address.ts'
import type { IpAddress, SocketAddress } from '../../../mesh/model/types.ts'
import type { EndReason } from '../../../mesh/telemetry/end-reason.ts'
import type { LocalPod } from '../local-pod.ts'

export type InboundHboneDecision =
  | { readonly kind: 'connect'; readonly target: SocketAddress }
  | {
      readonly kind: 'reject'
      readonly status: 400 | 503
      readonly reason: EndReason
      readonly message: string
    }

/** Decides one CONNECT; rows 7 and 8 come after, at admission, which is asked about the target decided here. */
export function decideInboundHbone(request: {
  readonly authority: string
  readonly local: SocketAddress
  readonly pod: LocalPod
}): InboundHboneDecision {
  const { authority, local, pod } = request
  // Row 3. Hostnames need gateways and are not served yet.
  const target = parseSocketAddress(authority)
  if (target === undefined) return reject(`authority "${authority.slice(0, 128)}" is not ip:port`)
  // Row 5: only the address that was dialled is ours to serve; anything else would make the pod an open proxy.
  if (target.address !== local.address || !pod.addresses.includes(target.address))
    return reject(`authority ${authority} does not belong to pod ${pod.namespace}/${pod.name}`)
  return { kind: 'connect', target }
}

/**
 * The address to connect to the app from, so that it sees its client; row 9: none when client and server are the same pod, which
 * has that address already. Of a client of the other family the app sees who called for it.
 */
export function clientAddress(
  client: SocketAddress,
  target: SocketAddress,
  caller = client,
): IpAddress | undefined {
  const seen = familyOf(client.address) === familyOf(target.address) ? client : caller
  return seen.address === target.address ? undefined : seen.address
}

/** Answers 400. */
export function reject(
  message: string,
): Extract<InboundHboneDecision, { readonly kind: 'reject' }> {
  return { kind: 'reject', status: 400, reason: 'hboneBadRequest', message }
}
