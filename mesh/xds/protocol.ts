// SPDX-License-Identifier: Apache-2.0
// What both ends of delta discovery agree on.

/** The name that subscribes to all resources of a type. */
export const WILDCARD = '*'

/**
 * Largest discovery message, either way: the first response carries the whole mesh, and the first request of a
 * reconnect names all of it.
 */
export const MAX_MESSAGE_BYTES = 200 * 1024 * 1024
