// SPDX-License-Identifier: Apache-2.0
// Whether a connection that could not be opened says something about its endpoint. Pure.

import type { HboneFailure } from '../../../mesh/hbone/types.ts'

/**
 * What the far end or the way to it answers. Other codes are our own: no port or descriptor left, no memory, forbidden here.
 * (A pod that uses up its own must not take all endpoints for ill.)
 */
const ANSWERS = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTDOWN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ETIMEDOUT',
])

/** A peer says by this status that it could not reach the app, or has no room; by 401 and 403 that we may not. */
const UNAVAILABLE = 503

/** Whether others are better tried while this endpoint recovers: it refused, or did not answer. */
export function isEndpointsFault({ reason, status, code }: HboneFailure): boolean {
  switch (reason) {
    case 'connectFailed':
      return code !== undefined && ANSWERS.has(code)
    case 'connectTimeout':
    case 'h2HandshakeFailure':
    // Of a pod of this node; a peer says the same by 503.
    case 'tooManyConnections':
      return true
    case 'hboneRefused':
      return status === UNAVAILABLE
    default:
      return false
  }
}
