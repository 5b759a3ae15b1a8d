// SPDX-License-Identifier: Apache-2.0
// Which of a rule's backends a request goes to, by their weights.

/** @param random From 0 up to, not including, 1. @returns undefined when no backend has any weight. */
export function chooseByWeight<Backend extends { readonly weight: number }>(
  backends: readonly Backend[],
  random: () => number,
): Backend | undefined {
  let total = 0
  for (const { weight } of backends) total += weight
  if (total === 0) return undefined
  // What cannot be chosen otherwise is not asked about: most rules have one backend.
  const only = backends.length === 1 ? backends[0] : undefined
  if (only !== undefined) return only
  let left = random() * total
  for (const backend of backends) {
    left -= backend.weight
    if (left < 0) return backend
  }
  return undefined
}
