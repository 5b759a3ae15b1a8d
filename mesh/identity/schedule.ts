// SPDX-License-Identifier: Apache-2.0
// When a certificate begins, and when to ask for the next one: pure arithmetic on times.

import { backoffMs } from '../async/backoff.ts'

/** Share of the half-life by which a refresh may come early, so that a node's certificates do not all renew at once. */
const REFRESH_JITTER = 0.1
/** Never refresh more often than this, whatever the CA hands out: a CA with a one-second TTL must not be stormed. */
const MIN_REFRESH_DELAY_MS = 1000
/** First retry comes after 0.5 to 1 s, each further one after twice as long, at most 150 s. */
const RETRY_BASE_MS = 1000
const RETRY_CAP_MS = 150_000
/** While a connection waits for the certificate, retries come at least this often. */
const WAITED_FOR_RETRY_CAP_MS = 5000

/**
 * Certificates begin so long before they are signed: a node whose clock is behind accepts them at once, for each time a pod's is renewed that node
 * would refuse the pod for as long as it is behind. It costs nothing: how long they last is counted from the signing.
 */
export const BACKDATE_MS = 600_000

/** Delay from now until the refresh: half of what is left of the lifetime, up to a tenth earlier. */
export function refreshDelayMs(notAfterMs: number, nowMs: number, random: number): number {
  const half = Math.max(0, notAfterMs - nowMs) / 2
  return Math.max(MIN_REFRESH_DELAY_MS, Math.round(half * (1 - REFRESH_JITTER * random)))
}

/**
 * Delay before the next attempt after `failures` (1 or more) failed ones in a row. `leftMs`: of the certificate's life, so that it does not
 * expire while nobody asks.
 */
export function retryDelayMs(
  failures: number,
  random: number,
  someoneWaits: boolean,
  leftMs = 0,
): number {
  const longest = leftMs > 0 ? Math.min(RETRY_CAP_MS, leftMs / 2) : RETRY_CAP_MS
  const cap = someoneWaits ? WAITED_FOR_RETRY_CAP_MS : Math.max(WAITED_FOR_RETRY_CAP_MS, longest)
  return Math.round(backoffMs(failures, RETRY_BASE_MS, cap, random))
}
