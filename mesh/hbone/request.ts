// SPDX-License-Identifier: Apache-2.0
// Reads the headers of a request on 15008: is it a well-formed CONNECT (RFC 9113 8.2, 8.3, 8.5), and for whom.

import type { HeaderList } from '../http2/hpack.ts'
import { type Result, err, ok } from '../result.ts'
import { ORIGINAL_CLIENT } from '../telemetry/original-client.ts'
import type { TunnelHeaders } from './types.ts'

export interface ConnectRequest {
  readonly authority: string
  readonly headers: TunnelHeaders
}

export interface BadRequest {
  readonly kind: 'malformed' | 'not-connect' | 'no-authority'
  readonly message: string
}

/** Of a field name: far above any that is in use, and short enough to be logged. */
const LONGEST_NAME = 256
const NAME = /^:?[!#$%&'*+\-.^_`|~0-9a-z]+$/
/** No controls, no blank at either end (RFC 9113 8.2.1). */
const VALUE = /^(?:[^\x00-\x20\x7f](?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?)?$/ // biome-ignore lint: controls are the point
/** RFC 9113 8.2.2: fields that speak of a connection have no place in HTTP/2. */
const CONNECTION_FIELDS = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
])
const REQUEST_PSEUDO = new Set([':method', ':authority', ':scheme', ':path', ':protocol'])

const malformed = (message: string): Result<never, BadRequest> =>
  err({ kind: 'malformed', message })

/** Reads a request's header list. */
export function readConnect(list: HeaderList): Result<ConnectRequest, BadRequest> {
  const fields = new Map<string, string>()
  let isPastPseudo = false
  for (const [name, value] of list) {
    if (name.length > LONGEST_NAME) return malformed('a field name is too long')
    if (!NAME.test(name)) return malformed(`bad field name ${JSON.stringify(name)}`)
    if (!VALUE.test(value)) return malformed(`bad value of ${name}`)
    if (name.startsWith(':')) {
      if (isPastPseudo) return malformed(`${name} after the regular fields`)
      if (!REQUEST_PSEUDO.has(name)) return malformed(`unknown pseudo-header ${name}`)
      if (fields.has(name)) return malformed(`${name} twice`)
    } else {
      isPastPseudo = true
      if (CONNECTION_FIELDS.has(name)) return malformed(`field ${name} is not allowed in HTTP/2`)
      if (name === 'te' && value !== 'trailers') return malformed('field te is not "trailers"')
    }
    if (!fields.has(name)) fields.set(name, value)
  }
  const method = fields.get(':method')
  if (method === undefined) return malformed('no :method')
  if (method !== 'CONNECT')
    return err({ kind: 'not-connect', message: `method ${method.slice(0, 32)} is not CONNECT` })
  for (const name of [':scheme', ':path', ':protocol'])
    if (fields.has(name)) return malformed(`${name} in a CONNECT request`)
  const authority = fields.get(':authority')
  if (authority === undefined || authority === '')
    return err({ kind: 'no-authority', message: 'CONNECT without :authority' })
  return ok({ authority, headers: tunnelHeaders(fields) })
}

function tunnelHeaders(fields: ReadonlyMap<string, string>): TunnelHeaders {
  const baggage = fields.get('baggage')
  const forwarded = fields.get('forwarded')
  const traceparent = fields.get('traceparent')
  const originalClient = fields.get(ORIGINAL_CLIENT)
  return {
    ...(baggage !== undefined && { baggage }),
    ...(forwarded !== undefined && { forwarded }),
    ...(traceparent !== undefined && { traceparent }),
    ...(originalClient !== undefined && { originalClient }),
  }
}
