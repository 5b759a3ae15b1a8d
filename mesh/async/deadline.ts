// SPDX-License-Identifier: Apache-2.0
// Waiting for something no longer than so long.

/** What came instead of the value. */
export const LATE = Symbol('late')

/**
 * The promise's value, or LATE after so many milliseconds; rejects as the promise does. What is late goes on by itself: give it
 * an AbortSignal of its own where it should not, and mind that its later failure is then nobody's.
 */
export async function inTime<T>(
  promise: Promise<T>,
  milliseconds: number,
): Promise<T | typeof LATE> {
  const { promise: late, resolve } = Promise.withResolvers<typeof LATE>()
  const timer = setTimeout(() => resolve(LATE), milliseconds)
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}
