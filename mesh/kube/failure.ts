// SPDX-License-Identifier: Apache-2.0
// Why a call to the Kubernetes API did not succeed, as a value one can switch on.

import { errorMessage } from '../errors.ts'
import { parseJson } from '../json.ts'

export type KubeFailureKind =
  | 'notFound'
  | 'alreadyExists'
  | 'conflict'
  | 'gone'
  | 'unauthorized'
  | 'forbidden'
  | 'invalid'
  | 'throttled'
  /** The server's certificate does not convince us, or it speaks no TLS. */
  | 'untrusted'
  /** The server answered 5xx, could not be reached, cut the answer short or broke the protocol. */
  | 'unavailable'
  /** Our own deadline for the call ran out. */
  | 'timeout'
  /** The caller's signal aborted. */
  | 'aborted'

export interface KubeFailure {
  readonly kind: KubeFailureKind
  /** "Cannot <call>: <reason>" */
  readonly message: string
  /** The HTTP status; 0 when there was no answer. */
  readonly status: number
  /** `reason` of the Status object, e.g. NotFound; empty when there was none. */
  readonly reason: string
  /** The server's Retry-After, when it sent one. */
  readonly retryAfterMs?: number
}

/**
 * Whether it is the API server's own word that there is no such object. A 404 alone is what anything answers that stands in its place, a balancer
 * without a backend say: not enough to make a new root for the mesh, or to take it off a node.
 */
export function isMissing(failure: KubeFailure): boolean {
  return failure.kind === 'notFound' && failure.reason === 'NotFound'
}

interface StatusBody {
  readonly message: string
  readonly reason: string
}

/**
 * The longest a server is obeyed that asks for patience: API servers ask for a second, and what stands before one and asks for an hour, or for more than
 * a timer takes, is not to keep us from it once it is well.
 */
const LONGEST_RETRY_AFTER_MS = 60_000

/** Classifies an HTTP answer other than 2xx. `body` is what the server sent, normally a Status object. */
export function failureOfStatus(
  call: string,
  status: number,
  body: string,
  retryAfter?: string,
): KubeFailure {
  const { message, reason } = readStatusBody(body)
  const seconds = Number(retryAfter)
  return {
    kind: failureKind(status, reason),
    message: `Cannot ${call}: ${message === '' ? `HTTP status ${status}` : message} (HTTP ${status})`,
    status,
    reason,
    ...(retryAfter !== undefined && seconds >= 0
      ? { retryAfterMs: Math.min(seconds * 1000, LONGEST_RETRY_AFTER_MS) }
      : {}),
  }
}

/** Wraps a transport error: nothing or only part of an answer came. */
export function failureOfTransport(
  call: string,
  thrown: unknown,
  kind: 'unavailable' | 'unauthorized' | 'timeout' | 'aborted' = 'unavailable',
): KubeFailure {
  return {
    kind: kind === 'unavailable' && isTlsRefusal(thrown) ? 'untrusted' : kind,
    message: `Cannot ${call}: ${transportReason(thrown)}`,
    status: 0,
    reason: '',
  }
}

/** OpenSSL's verification results as Node names them, host name mismatches, and what is not TLS at all. */
const TLS_REFUSAL =
  /^(?:CERT_|UNABLE_TO_|DEPTH_ZERO_|SELF_SIGNED_|INVALID_CA|ERR_TLS_CERT|ERR_SSL_WRONG_VERSION|ERR_SSL_PACKET_LENGTH)/

const isTlsRefusal = (thrown: unknown): boolean =>
  thrown instanceof Error &&
  'code' in thrown &&
  typeof thrown.code === 'string' &&
  TLS_REFUSAL.test(thrown.code)

/** A host name with several addresses fails with one error for each, and no text of its own. */
function transportReason(thrown: unknown): string {
  if (!(thrown instanceof AggregateError) || thrown.message !== '') return errorMessage(thrown)
  return thrown.errors.map(errorMessage).join('; ')
}

/** What an HTTP status, and the reason beside it, mean. */
export function failureKind(status: number, reason: string): KubeFailureKind {
  if (status === 409) return reason === 'AlreadyExists' ? 'alreadyExists' : 'conflict'
  if (status === 410 || reason === 'Expired') return 'gone'
  if (status === 401) return 'unauthorized'
  if (status === 403) return 'forbidden'
  if (status === 404) return 'notFound'
  if (status === 429) return 'throttled'
  if (status >= 400 && status < 500) return 'invalid'
  return 'unavailable'
}

function readStatusBody(body: string): StatusBody {
  const parsed = parseJson(body)
  if (parsed.ok && typeof parsed.value === 'object' && parsed.value !== null) {
    const { value } = parsed
    const message = 'message' in value && typeof value.message === 'string' ? value.message : ''
    const reason = 'reason' in value && typeof value.reason === 'string' ? value.reason : ''
    return { message, reason }
  }
  // Proxies in front of an API server answer in plain text or HTML: that text is the best reason there is. What begins
  // as an object may be a Secret that was cut off.
  const text = body.trim()
  return { message: /^[{[]/.test(text) ? '' : text.slice(0, 200), reason: '' }
}
