// SPDX-License-Identifier: Apache-2.0
// How long to wait before the next attempt to connect.

/** First wait: a restarted control plane should be found at once. */
export const INITIAL_BACKOFF_MS = 10
/** Longest wait: an agent that stays blind much longer serves stale endpoints. */
export const MAX_BACKOFF_MS = 15_000

/**
 * The wait before attempt number `attempt` (0 is the first retry): doubling, with jitter over the upper half, so that
 * the agents of a cluster do not all return in the same instant. `random` is in [0, 1).
 */
export function backoffMs(attempt: number, random: number): number {
  const ceiling = Math.min(MAX_BACKOFF_MS, INITIAL_BACKOFF_MS * 2 ** Math.min(attempt, 32))
  return ceiling / 2 + (ceiling / 2) * random
}
