// SPDX-License-Identifier: Apache-2.0
// What to do with a connection that arrives at a pod: pure functions for HBONE tunnels and for plaintext.
// Row numbers are those of the inbound decision tables in docs/compatibility.md.

import { parseSocketAddress } from '../../../mesh/model/address.ts'
import type { IpAddress, SocketAddress } from '../../../mesh/model/types.ts'
import type { EndReason } from '../../../mesh/telemetry/end-reason.ts'
import type { LocalPod } from '../local-pod.ts'
import { isMeshPort } from '../../../mesh/model/ports.ts'

export type InboundHboneDecision =
  | {
      readonly kind: 'connect'
      readonly target: SocketAddress
      /** The client's address, to connect from; absent when the pod calls itself. */
      readonly sourceIp: IpAddress | undefined
    }
  | {
      readonly kind: 'reject'
      readonly status: 400 | 503
      readonly reason: EndReason
      readonly message: string
    }

export type InboundPlaintextDecision =
  | {
      readonly kind: 'connect'
      readonly target: SocketAddress
      readonly sourceIp: IpAddress | undefined
    }
  | { readonly kind: 'drop'; readonly reason: EndReason; readonly message: string }

/** Decides one CONNECT, before policy (row 8 comes after: policy is asked about the target decided here). */
export function decideInboundHbone(request: {
  readonly authority: string
  readonly peer: SocketAddress
  readonly local: SocketAddress
  readonly pod: LocalPod
}): InboundHboneDecision {
  const { authority, peer, local, pod } = request
  // Row 3. Hostnames need gateways and are not served yet.
  const target = parseSocketAddress(authority)
  if (target === undefined)
    return reject(400, 'hboneBadRequest', `authority "${authority.slice(0, 128)}" is not ip:port`)
  // Row 5: only the address that was dialled is ours to serve; anything else would make the pod an open proxy.
  if (target.address !== local.address || !pod.addresses.includes(target.address))
    return reject(
      400,
      'hboneBadRequest',
      `authority ${authority} does not belong to pod ${pod.namespace}/${pod.name}`,
    )
  // Row 7.
  if (isMeshPort(target.port))
    return reject(503, 'selfCall', `port ${target.port} belongs to the mesh`)
  return { kind: 'connect', target, sourceIp: spoofed(peer, target) }
}

/** Decides one plaintext connection; its local address is the address the client dialled. */
export function decideInboundPlaintext(request: {
  readonly peer: SocketAddress
  readonly local: SocketAddress
}): InboundPlaintextDecision {
  const { peer, local } = request
  if (isMeshPort(local.port))
    return { kind: 'drop', reason: 'selfCall', message: `port ${local.port} belongs to the mesh` }
  return { kind: 'connect', target: local, sourceIp: spoofed(peer, local) }
}

/** Row 9: nothing is spoofed when client and server are the same pod; it has that address already. */
function spoofed(peer: SocketAddress, target: SocketAddress): IpAddress | undefined {
  return peer.address === target.address ? undefined : peer.address
}

function reject(status: 400 | 503, reason: EndReason, message: string): InboundHboneDecision {
  return { kind: 'reject', status, reason, message }
}
