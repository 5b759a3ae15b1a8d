// SPDX-License-Identifier: Apache-2.0
// How much of a message is kept in memory at most before it is understood.

/** Request line or status line, and fields: as Envoy has it, and more than any server takes. */
export const LARGEST_HEAD_BYTES = 64 * 1024
/** Trailers are few. */
export const LARGEST_TRAILER_BYTES = 16 * 1024
