// SPDX-License-Identifier: Apache-2.0
// Whether a connection that could not be opened says something about its endpoint, and whether another may do better. Pure.

import type { HboneFailure } from '../hbone/types.ts'

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

/** No port left for this very destination: another one has its own. */
const OF_THIS_TUPLE = new Set(['EADDRINUSE', 'EADDRNOTAVAIL'])

/** A peer says by this status that it could not reach the app, or has no room; by 401 and 403 that we may not. */
const UNAVAILABLE = 503

/** Whether others are better tried while this endpoint recovers: it refused, or did not answer. */
export function isEndpointsFault({ reason, status, code }: HboneFailure): boolean {
  switch (reason) {
    case 'connectFailed':
    // Cut or not answered in the middle of the handshake; what either end thinks of the other's certificate has no such code.
    case 'tlsFailure':
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

/**
 * Whether another endpoint may not share the failure, of a connection that has carried nothing. What the pod or the agent lacks
 * itself (descriptors, memory, the right to connect) it would lack there too, and each try costs more of it.
 */
export function isWorthRetrying(failure: HboneFailure): boolean {
  if (isEndpointsFault(failure)) return true
  const { reason, code } = failure
  // Without a code nothing was tried: the endpoint has no address that the pod can call.
  return reason === 'connectFailed' && (code === undefined || OF_THIS_TUPLE.has(code))
}
