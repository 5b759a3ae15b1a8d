// SPDX-License-Identifier: Apache-2.0
// Whether two sides hold the same resources, in a few characters: what an operator compares between controller and agents.

/** What somebody holds of one type. */
export interface HeldResources {
  readonly count: number
  /** Equal for equal names in equal versions, in whatever order. Against accidents, not against an adversary: nothing is decided by it. */
  readonly digest: string
}

const PRIME = 0x01000193
const SEEDS = [0x811c9dc5, 0x5bd1e995] as const
const HEX_DIGITS = 8

/** Sums up names with their versions. */
export function heldResources(versions: Iterable<readonly [string, string]>): HeldResources {
  let count = 0
  let first = 0
  let second = 0
  for (const [name, version] of versions) {
    count += 1
    const text = `${name}\n${version}`
    // Added, not chained: order does not matter.
    first = (first + fnv1a(text, SEEDS[0])) >>> 0
    second = (second + fnv1a(text, SEEDS[1])) >>> 0
  }
  const hex = (value: number): string => value.toString(16).padStart(HEX_DIGITS, '0')
  return { count, digest: hex(first) + hex(second) }
}

function fnv1a(text: string, seed: number): number {
  let hash: number = seed
  for (let at = 0; at < text.length; at += 1)
    hash = Math.imul(hash ^ text.charCodeAt(at), PRIME) >>> 0
  return hash
}
