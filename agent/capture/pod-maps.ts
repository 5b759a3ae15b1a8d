// SPDX-License-Identifier: Apache-2.0
// What the maps hold of a pod, written and taken back in an order that leaves no gap. All of it is kept under the cookie of
// the pod's namespace, which is never another's: addresses may pass from pod to pod, or be those of two at once.

import { encodeListenerKey, encodePod, encodeU64, LISTENER_KIND, type PodEntry } from './layout.ts'
import type { CapturePrograms } from './programs.ts'
import type { PodNetwork } from './pod-network.ts'

type Maps = CapturePrograms['maps']
const KINDS = Object.keys(LISTENER_KIND) as (keyof typeof LISTENER_KIND)[]

/** Points the namespace at its listeners. Nothing is captured by this yet. */
export function writeListeners(maps: Maps, netnsCookie: bigint, network: PodNetwork): void {
  for (const [family, { inbound, hbone, outbound }] of network.byFamily) {
    const slot = (kind: keyof typeof LISTENER_KIND, fd: number): void =>
      maps.listeners.update(encodeListenerKey(netnsCookie, family, kind), encodeU64(BigInt(fd)))
    slot('plaintext', inbound)
    slot('hbone', hbone)
    slot('outbound', outbound)
  }
}

/** Makes outbound capture live, or tells it of other addresses, with one map update. */
export function writePod(maps: Maps, netnsCookie: bigint, entry: PodEntry): void {
  maps.pods.update(encodeU64(netnsCookie), encodePod(entry))
}

/** Whether the pod of this namespace is captured, by this process or an earlier one. */
export function isCaptured(maps: Maps, netnsCookie: bigint): boolean {
  return maps.pods.lookup(encodeU64(netnsCookie)) !== undefined
}

/** Ends outbound capture, takes the listeners out, and leaves nothing of the pod but the handshakes that are under way. */
export function deletePod(maps: Maps, netnsCookie: bigint): void {
  const key = encodeU64(netnsCookie)
  maps.pods.delete(key)
  deleteListeners(maps, netnsCookie)
  // Made anew by the next handshake of a captured pod: of one that is gone there is none.
  maps.pending_counts.delete(key)
}

/** Lets no new connection of a captured pod come to the listeners: it is as if no agent were there. */
export function deleteListeners(maps: Maps, netnsCookie: bigint): void {
  for (const family of [4, 6] as const)
    for (const kind of KINDS) maps.listeners.delete(encodeListenerKey(netnsCookie, family, kind))
}

/** Cookies of all pods in the map. */
export function listPodCookies(maps: Maps): readonly bigint[] {
  return maps.pods.keys().map((key) => key.readBigUInt64LE())
}
