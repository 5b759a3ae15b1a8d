// SPDX-License-Identifier: Apache-2.0
// Answers: JSON bodies, failures as Status objects, and the form of object the client asked for.

import type { ServerResponse } from 'node:http'
import { statusOf } from '../../../objects/refusals.ts'
import type { Refusal } from '../../../objects/refusals.ts'

/** What the Accept header asks objects to be turned into. */
export type Form =
  | { readonly kind: 'plain' }
  | { readonly kind: 'table'; readonly version: string }
  | { readonly kind: 'metadata'; readonly version: string }

/** Picks the first form of the Accept header that the server can give. */
export function acceptedForm(accept: string | undefined): Form {
  for (const range of (accept ?? '').split(',')) {
    const [mediaType = '', ...parameters] = range.split(';').map((part) => part.trim())
    if (mediaType !== 'application/json' && mediaType !== '*/*') continue
    const values = new Map(
      parameters.map((parameter) => parameter.split('=') as [string, string | undefined]),
    )
    const version = values.get('v') ?? 'v1'
    if (values.get('g') !== 'meta.k8s.io') return { kind: 'plain' }
    if (values.get('as') === 'Table') return { kind: 'table', version }
    if (values.get('as')?.startsWith('PartialObjectMetadata') === true)
      return { kind: 'metadata', version }
  }
  return { kind: 'plain' }
}

export function sendText(
  response: ServerResponse,
  code: number,
  body: string,
  contentType = 'application/json',
  headers: { readonly [name: string]: string | readonly string[] } = {},
): void {
  if (response.headersSent || response.destroyed) return
  response.writeHead(code, {
    'content-type': contentType,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-cache, private',
    ...headers,
  })
  response.end(body)
}

export function sendJson(response: ServerResponse, code: number, body: unknown): void {
  sendText(response, code, JSON.stringify(body))
}

/** Answers a refused request with its Status. */
export function sendFailure(response: ServerResponse, failure: Refusal): void {
  const headers: { [name: string]: string } =
    failure.status === 401 ? { 'www-authenticate': 'Bearer realm="ambit-lab"' } : {}
  sendText(response, failure.status, JSON.stringify(statusOf(failure)), 'application/json', headers)
}
