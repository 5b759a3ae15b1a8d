// SPDX-License-Identifier: Apache-2.0
// What the hooks are told of a pod's addresses: those that its namespace has now, of which some were named by whoever
// enrolled it; and whether its routes lead further than their networks. Pure.

import type { OwnAddress } from '../../native/own-addresses.ts'
import type { RoutedNetwork, RoutedNetworks } from '../../native/routed-networks.ts'
import { ADDRESS_SIZE, toMapAddress, toMapBytes } from './addresses.ts'
import { MAX_POD_ADDRESSES, type PodAddressEntry, type PodEntry } from './layout.ts'
import type { CapturePod } from './types.ts'

/** Loopback is the first device of every namespace. */
const LOOPBACK_INDEX = 1
const MAPPED_BITS = 96

/**
 * The pod's entry. What a family calls from is the first named address that the namespace has, or else the first that it
 * has at all; without one there is no way out, and a call of that family fails as it would without a mesh. Nor is there in a
 * family that is not listened on (`families`). Likewise beyond the networks of its addresses, where `networks` knows of routes to
 * no other; but where further routes lead elsewhere, or an address is left out, the call is captured, and its failure told by a reset.
 */
export function podEntry(
  { addresses, failOpen }: Pick<CapturePod, 'addresses' | 'failOpen'>,
  found: readonly OwnAddress[],
  families: readonly (4 | 6)[] = [4, 6],
  networks: RoutedNetworks = {},
): PodEntry {
  const named = addresses.map(toMapAddress)
  const nameOf = (entry: Candidate): number => {
    const at = named.findIndex((each) => each.equals(entry.address))
    return at < 0 ? named.length : at
  }
  const candidates = found.map(toCandidate).filter(({ family }) => families.includes(family))
  // The sort is stable: the kernel's order stands among equals.
  const byRank = candidates.toSorted((a, b) => nameOf(a) - nameOf(b) || a.rank - b.rank)
  const known = byRank.slice(0, MAX_POD_ADDRESSES)
  return {
    failOpen,
    confined: families.filter((family) => isConfined(networks[family], known)),
    primary4: byRank.find(({ family }) => family === 4)?.address,
    primary6: byRank.find(({ family }) => family === 6)?.address,
    addresses: known.toSorted((a, b) => b.maskBits - a.maskBits),
  }
}

interface Candidate extends PodAddressEntry {
  readonly family: 4 | 6
  readonly maskBits: number
  /** Lower is better to call from. */
  readonly rank: number
}

function toCandidate({
  bytes,
  prefixLength,
  interface: index,
  isDeprecated,
}: OwnAddress): Candidate {
  const family = bytes.length === 4 ? 4 : 6
  const maskBits = (family === 4 ? MAPPED_BITS : 0) + prefixLength
  return {
    address: toMapBytes(bytes),
    mask: maskOf(maskBits),
    interface: index,
    family,
    maskBits,
    rank: (isDeprecated ? 1 : 0) + (index === LOOPBACK_INDEX ? 2 : 0),
  }
}

/** Whether all that can be reached is on the networks of these addresses, or on a link alone, which is not captured. */
function isConfined(
  networks: readonly RoutedNetwork[] | undefined,
  known: readonly Candidate[],
): boolean {
  return (
    networks?.every(
      (network) =>
        isLinkLocal(network) ||
        known.some(({ address, mask, maskBits, family }) => {
          const offset = family === 4 ? MAPPED_BITS : 0
          if ((network.bytes.length === 4) !== (family === 4)) return false
          const there = toMapBytes(network.bytes)
          return (
            network.prefixLength + offset >= maskBits &&
            there.every((byte, at) => ((byte ^ (address[at] ?? 0)) & (mask[at] ?? 0)) === 0)
          )
        }),
    ) ?? false
  )
}

/** 169.254.0.0/16, fe80::/10, ff00::/8. */
function isLinkLocal({ bytes, prefixLength }: RoutedNetwork): boolean {
  const [first = 0, second = 0] = bytes
  if (bytes.length === 4) return prefixLength >= 16 && first === 169 && second === 254
  if (first === 0xff) return prefixLength >= 8
  return prefixLength >= 10 && first === 0xfe && (second & 0xc0) === 0x80
}

function maskOf(bits: number): Buffer {
  const mask = Buffer.alloc(ADDRESS_SIZE)
  for (let at = 0; at < ADDRESS_SIZE; at += 1) {
    const ones = Math.min(8, Math.max(0, bits - at * 8))
    mask[at] = 0xff & (0xff << (8 - ones))
  }
  return mask
}
