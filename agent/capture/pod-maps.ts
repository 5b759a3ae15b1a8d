// SPDX-License-Identifier: Apache-2.0
// What the maps hold of a pod, written and taken back in an order that leaves no gap. An address may pass from a pod
// that is going to one that is coming: entries are removed only by the pod that owns them (its namespace's cookie).

import {
  decodeAddressOwner,
  decodePodAddresses,
  encodeAddressInfo,
  encodeListenerKey,
  encodePod,
  encodeU64,
  LISTENER_KIND,
  type PodEntry,
} from './layout.ts'
import type { CapturePrograms } from './programs.ts'
import type { PodNetwork } from './pod-network.ts'

type Maps = CapturePrograms['maps']
const KINDS = Object.keys(LISTENER_KIND) as (keyof typeof LISTENER_KIND)[]

/** Points the pod's addresses at its listeners. Nothing is captured by this yet. */
export function writeListeners(
  maps: Maps,
  netnsCookie: bigint,
  entry: PodEntry,
  network: PodNetwork,
): void {
  for (const family of [4, 6] as const) {
    const listeners = network.byFamily.get(family)
    if (listeners === undefined) continue
    for (const address of family === 4 ? entry.ipv4 : entry.ipv6) {
      maps.listeners.update(
        encodeListenerKey(address, 'plaintext'),
        encodeU64(BigInt(listeners.inbound)),
      )
      maps.listeners.update(encodeListenerKey(address, 'hbone'), encodeU64(BigInt(listeners.hbone)))
      maps.addresses.update(address, encodeAddressInfo(entry.failOpen, netnsCookie))
    }
  }
}

/** Makes outbound capture live, with one map update; gives addresses the pod had before and has no more. */
export function writePod(maps: Maps, netnsCookie: bigint, entry: PodEntry): readonly Buffer[] {
  const key = encodeU64(netnsCookie)
  const former = maps.pods.lookup(key)
  maps.pods.update(key, encodePod(entry))
  if (former === undefined) return []
  const kept = [...entry.ipv4, ...entry.ipv6]
  return decodePodAddresses(former).filter((old) => !kept.some((address) => address.equals(old)))
}

/** Whether the pod of this namespace is captured, by this process or an earlier one. */
export function isCaptured(maps: Maps, netnsCookie: bigint): boolean {
  return maps.pods.lookup(encodeU64(netnsCookie)) !== undefined
}

/** Ends outbound capture. Gives the addresses the pod had. */
export function deletePod(maps: Maps, netnsCookie: bigint): readonly Buffer[] {
  const key = encodeU64(netnsCookie)
  const value = maps.pods.lookup(key)
  maps.pods.delete(key)
  return value === undefined ? [] : decodePodAddresses(value)
}

/** Takes the listeners of these addresses out, unless another pod has taken an address over. */
export function deleteListeners(
  maps: Maps,
  netnsCookie: bigint,
  addresses: readonly Buffer[],
): void {
  for (const address of addresses) {
    const info = maps.addresses.lookup(address)
    if (info === undefined || decodeAddressOwner(info) !== netnsCookie) continue
    maps.addresses.delete(address)
    for (const kind of KINDS) maps.listeners.delete(encodeListenerKey(address, kind))
  }
}

/** Cookies of all pods in the map. */
export function listPodCookies(maps: Maps): readonly bigint[] {
  return maps.pods.keys().map((key) => key.readBigUInt64LE())
}
