// SPDX-License-Identifier: Apache-2.0
// When a request may be sent once more.

import type { RetryPolicy } from './types.ts'

/** Of a request that was never sent, whatever its route says: other endpoints may be there. */
const MOST_CONNECT_TRIES = 3

/** RFC 9110 9.2.2: sent twice they do what they do sent once. */
const IDEMPOTENT: ReadonlySet<string> = new Set([
  'GET',
  'HEAD',
  'OPTIONS',
  'TRACE',
  'PUT',
  'DELETE',
])

export function isIdempotent(method: string): boolean {
  return IDEMPOTENT.has(method)
}

/** Whether a request that was not sent in so many tries may have another. */
export function mayTryAgain(tries: number, retry: RetryPolicy | undefined): boolean {
  return tries < Math.max(MOST_CONNECT_TRIES, 1 + (retry?.attempts ?? 0))
}
