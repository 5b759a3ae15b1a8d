// SPDX-License-Identifier: Apache-2.0
// One HTTP exchange with the API server over node:https. Knows nothing of resources; see api.ts for those.

import type { ClientRequest, IncomingMessage } from 'node:http'
import https from 'node:https'
import { http } from '../node-http.ts'
import { errorMessage } from '../errors.ts'
import { parseJson } from '../json.ts'
import type { Result } from '../result.ts'
import { err, ok } from '../result.ts'
import type { ClusterAccess } from './access.ts'
import { failureOfStatus, failureOfTransport, type KubeFailure } from './failure.ts'

export interface KubeRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** Path and query, e.g. /api/v1/pods?limit=1 */
  readonly path: string
  /** For messages: "get Pod shop/web". */
  readonly call: string
  readonly body?: unknown
  readonly contentType?: string
  readonly signal?: AbortSignal
  /** How long until the answer's headers must be here (and, for `exchange`, its whole body). */
  readonly deadlineMs: number
}

/** No object of etcd exceeds 1.5 MiB, but a page of 500 may be large; beyond this something is wrong. */
const LARGEST_BODY_BYTES = 512 * 1024 * 1024
/** An error's text is for people: no need to take more than this. */
const LARGEST_ERROR_BYTES = 64 * 1024

/** Opens an exchange: resolves when the headers of a 2xx answer are here. The caller owns the body stream. */
export async function openExchange(
  access: ClusterAccess,
  request: KubeRequest,
): Promise<Result<IncomingMessage, KubeFailure>> {
  const first = await attempt(access, request, false)
  // Tokens rotate on disk: a 401 is worth one more try with what is there now.
  if (!first.ok && first.error.kind === 'unauthorized') return attempt(access, request, true)
  return first
}

/** A whole exchange: the parsed JSON body of a 2xx answer. */
export async function exchange<T>(
  access: ClusterAccess,
  request: KubeRequest,
): Promise<Result<T, KubeFailure>> {
  const deadline = AbortSignal.timeout(request.deadlineMs)
  const signal =
    request.signal === undefined ? deadline : AbortSignal.any([request.signal, deadline])
  const opened = await openExchange(access, { ...request, signal })
  if (!opened.ok) return err(relabel(opened.error, request, deadline))
  try {
    const parsed = parseJson(await readAll(opened.value, LARGEST_BODY_BYTES, signal))
    if (parsed.ok) return ok(parsed.value as T)
    const reason = `the answer cannot be read: ${parsed.error}`
    return err(relabel(failureOfTransport(request.call, reason), request, deadline))
  } catch (thrown) {
    return err(relabel(failureOfTransport(request.call, thrown), request, deadline))
  }
}

function relabel(failure: KubeFailure, request: KubeRequest, deadline: AbortSignal): KubeFailure {
  if (request.signal?.aborted === true)
    return failureOfTransport(request.call, 'the call was aborted', 'aborted')
  if (deadline.aborted)
    return failureOfTransport(request.call, `no answer within ${request.deadlineMs} ms`, 'timeout')
  return failure
}

async function attempt(
  access: ClusterAccess,
  request: KubeRequest,
  refresh: boolean,
): Promise<Result<IncomingMessage, KubeFailure>> {
  let credentials
  try {
    credentials = await access.credentials({ refresh })
  } catch (thrown) {
    return err(failureOfTransport(request.call, thrown))
  }
  if (request.signal?.aborted === true)
    return err(failureOfTransport(request.call, 'the call was aborted', 'aborted'))
  const payload = request.body === undefined ? undefined : Buffer.from(JSON.stringify(request.body))
  const prefix = access.server.pathname.replace(/\/$/, '')
  const url = new URL(`${prefix}${request.path}`, access.server)
  const options: https.RequestOptions = {
    method: request.method,
    agent: credentials.agent,
    headers: {
      accept: 'application/json',
      'user-agent': 'ambit',
      ...credentials.headers,
      ...(payload === undefined
        ? {}
        : {
            'content-type': request.contentType ?? 'application/json',
            'content-length': String(payload.length),
          }),
    },
    ...(request.signal === undefined ? {} : { signal: request.signal }),
  }

  return new Promise((resolve) => {
    let timedOut = false
    let isAnswered = false
    let outgoing: ClientRequest
    try {
      outgoing = (url.protocol === 'https:' ? https : http).request(url, options)
    } catch (thrown) {
      // Thrown before anything is sent, by what rotates on disk and was read half-written: a token with a line break, a
      // certificate without its key. So it is worth the second try of a 401.
      const reason = `its credentials cannot be used: ${errorMessage(thrown)}`
      resolve(err(failureOfTransport(request.call, reason, 'unauthorized')))
      return
    }
    const timer = setTimeout(() => {
      timedOut = true
      outgoing.destroy(new Error(`no answer within ${request.deadlineMs} ms`))
    }, request.deadlineMs)
    outgoing.on('error', (thrown) => {
      clearTimeout(timer)
      if (isAnswered) return // it is the answer's reader that is told
      const isAborted = request.signal?.aborted === true
      // A kept connection that the server, or a balancer before it, closed just when it was taken. What only reads is asked again (RFC 9110
      // 9.2.2); that ends, for a connection of one's own is no kept one.
      if (outgoing.reusedSocket && request.method === 'GET' && !timedOut && !isAborted) {
        resolve(attempt(access, request, refresh))
        return
      }
      const kind = isAborted ? 'aborted' : timedOut ? 'timeout' : 'unavailable'
      resolve(err(failureOfTransport(request.call, thrown, kind)))
    })
    outgoing.on('response', (response) => {
      isAnswered = true
      clearTimeout(timer)
      const status = response.statusCode ?? 0
      if (status >= 200 && status < 300) {
        resolve(ok(response))
        return
      }
      const deadline = AbortSignal.timeout(request.deadlineMs)
      readAll(response, LARGEST_ERROR_BYTES, deadline).then(
        (body) => {
          const retryAfter = response.headers['retry-after']
          resolve(err(failureOfStatus(request.call, status, body, retryAfter)))
        },
        (thrown: unknown) => {
          // The status came, its text did not: classify by the status all the same.
          resolve(err(failureOfStatus(request.call, status, String(thrown))))
        },
      )
    })
    outgoing.end(payload)
  })
}

async function readAll(
  response: IncomingMessage,
  largestBytes: number,
  signal: AbortSignal,
): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  const abort = (): void => {
    response.destroy(new Error('the deadline for the answer passed'))
  }
  signal.addEventListener('abort', abort, { once: true })
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      size += chunk.length
      if (size > largestBytes) throw new Error(`the answer exceeds ${largestBytes} bytes`)
      chunks.push(chunk)
    }
  } finally {
    signal.removeEventListener('abort', abort)
  }
  return Buffer.concat(chunks).toString('utf8')
}
