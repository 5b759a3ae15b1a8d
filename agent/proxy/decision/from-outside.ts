// SPDX-License-Identifier: Apache-2.0
// Whether a call to a pod's HBONE port came from outside the pod. What comes from inside comes past capture, policy and every
// firewall, straight to the agent that all pods of the node share; no honest caller ever needs that way, for the
// agent joins a pod to itself without HBONE.

import { isLinkLocal, isLoopback } from '../../../mesh/model/address.ts'
import type { SocketAddress } from '../../../mesh/model/types.ts'
import type { LocalPod } from '../local-pod.ts'

/**
 * True only for a call to one of the pod's own addresses from an address that is not its own. A pod that binds 127.0.0.1, or
 * another of its addresses, and dials its own passes sk_lookup, so both ends are looked at.
 */
export function isFromOutside(
  { addresses }: Pick<LocalPod, 'addresses'>,
  peer: SocketAddress,
  local: SocketAddress,
): boolean {
  if (!addresses.includes(local.address) || addresses.includes(peer.address)) return false
  // A pod's own link-local address is as good for it as loopback, and callers of the mesh come from the addresses of pods.
  if (isLinkLocal(peer.address)) return false
  // The kernel drops loopback addresses that come by a wire, so such a peer is in the pod; a pod that lives on loopback is a test's.
  return !isLoopback(peer.address) || isLoopback(local.address)
}
