// SPDX-License-Identifier: Apache-2.0
// One plain HTTPS request to the server under test, for what no client says.

import { request as httpsRequest } from 'node:https'

export interface ServerAccess {
  readonly url: string
  readonly caPem: string
  readonly adminToken: string
}

/** With `adminToken` unless the request brings another; an empty one is none. */
export function sendRequest(
  { url, caPem, adminToken }: ServerAccess,
  path: string,
  init: { method?: string; body?: unknown; headers?: object; token?: string },
): Promise<Response> {
  const body = init.body === undefined ? undefined : JSON.stringify(init.body)
  const token = init.token ?? adminToken
  return new Promise((resolve, reject) => {
    const outgoing = httpsRequest(
      `${url}${path}`,
      {
        method: init.method ?? 'GET',
        ca: caPem,
        agent: false,
        headers: {
          ...(token === '' ? {} : { authorization: `Bearer ${token}` }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...init.headers,
        },
      },
      (incoming) => {
        const chunks: Buffer[] = []
        incoming.on('data', (chunk: Buffer) => chunks.push(chunk))
        incoming.on('end', () =>
          resolve(new Response(Buffer.concat(chunks), { status: incoming.statusCode ?? 0 })),
        )
        incoming.on('error', reject)
      },
    )
    outgoing.on('error', reject)
    outgoing.end(body)
  })
}
