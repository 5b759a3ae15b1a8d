// SPDX-License-Identifier: Apache-2.0
// What to do with a connection that arrives at a pod: pure functions for HBONE tunnels and for plaintext.
// Row numbers are those of the inbound decision tables in docs/compatibility.md.

import { isIPv4, isIPv6 } from 'node:net'
import { parseIpAddress } from '../../../mesh/model/address.ts'
import type { IpAddress, SocketAddress } from '../../../mesh/model/types.ts'
import type { EndReason } from '../../../mesh/telemetry/end-reason.ts'
import type { LocalPod } from '../local-pod.ts'
import { isMeshPort } from '../../mesh-ports.ts'

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
  const target = parseAuthority(authority)
  // Row 3.
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

/** Reads `1.2.3.4:80` or `[fd00::1]:80`; undefined for anything else. Hostnames need gateways and are not served yet. */
export function parseAuthority(authority: string): SocketAddress | undefined {
  const colon = authority.lastIndexOf(':')
  if (colon <= 0) return undefined
  const host = authority.slice(0, colon)
  const portText = authority.slice(colon + 1)
  if (portText.length === 0 || portText.length > 5 || !isDecimal(portText)) return undefined
  const port = Number(portText)
  if (port < 1 || port > 65_535) return undefined
  if (isIPv4(host)) return { address: host as IpAddress, port }
  if (!host.startsWith('[') || !host.endsWith(']')) return undefined
  const bare = host.slice(1, -1)
  const address = isIPv6(bare) ? parseIpAddress(bare) : undefined
  return address === undefined ? undefined : { address, port }
}

function isDecimal(text: string): boolean {
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index)
    if (code < 48 || code > 57) return false
  }
  return true
}

function reject(status: 400 | 503, reason: EndReason, message: string): InboundHboneDecision {
  return { kind: 'reject', status, reason, message }
}
