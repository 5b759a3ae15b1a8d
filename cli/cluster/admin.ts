// SPDX-License-Identifier: Apache-2.0
// Asks the admin API of a component: an answer as it comes, or its whole JSON.

import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { http } from '../../mesh/node-http.ts'
import { errorMessage } from '../../mesh/errors.ts'
import { parseJson } from '../../mesh/json.ts'
import { err, ok, type Result } from '../../mesh/result.ts'
import type { ClusterTarget } from './target.ts'

export interface AdminRequest {
  readonly pod: string
  /** The pod's; that of the mesh itself when left out. */
  readonly namespace?: string
  readonly path: string
  readonly method?: 'GET' | 'POST'
  /** For the answer to begin; of askAdmin and tellAdmin, for all of it. */
  readonly deadlineMs?: number
}

/** An answer that has begun. */
export interface AdminAnswer {
  readonly status: number
  readonly body: IncomingMessage
  /** Ends it, read or not. */
  readonly close: () => void
}

/** On the node's loopback (agents), and on the pod's (controllers, waypoints). */
const ADMIN_PORT = 15_000
const DEADLINE_MS = 15_000
/** 100,000 workloads are some 100 MB. */
const LARGEST_BODY_BYTES = 512 * 1024 * 1024

/** Sends a request and gives its answer as soon as it begins; whoever gets it closes it. The error is for people. */
export async function openAdmin(
  target: ClusterTarget,
  {
    pod,
    namespace = target.systemNamespace,
    path,
    method = 'GET',
    deadlineMs = DEADLINE_MS,
  }: AdminRequest,
  signal?: AbortSignal,
): Promise<Result<AdminAnswer, string>> {
  let connection: Duplex | undefined
  const close = (): void => {
    signal?.removeEventListener('abort', close)
    connection?.destroy()
  }
  const late = new Error(`no answer within ${deadlineMs / 1000} s`)
  let isLate = false
  const timer = setTimeout(() => {
    isLate = true
    connection?.destroy(late)
  }, deadlineMs)
  try {
    const connected = await target.connect({ namespace, pod, port: ADMIN_PORT })
    if (!connected.ok) return connected
    const opened = connected.value
    connection = opened
    // To connect may have taken all of the time: nothing would end what is asked from here on.
    if (isLate) throw late
    signal?.addEventListener('abort', close, { once: true })
    const body = await new Promise<IncomingMessage>((resolve, reject) => {
      const request = http.request({
        method,
        path,
        headers: { host: `localhost:${ADMIN_PORT}`, connection: 'close' },
        createConnection: () => opened,
      })
      request.once('response', resolve)
      request.once('error', reject)
      request.end()
      if (signal?.aborted === true) close()
    })
    return ok({ status: body.statusCode ?? 0, body, close })
  } catch (thrown) {
    close()
    return err(errorMessage(thrown))
  } finally {
    clearTimeout(timer)
  }
}

/** The JSON of the answer; the error is for people. */
export async function askAdmin(
  target: ClusterTarget,
  request: AdminRequest,
): Promise<Result<unknown, string>> {
  const { deadlineMs = DEADLINE_MS } = request
  const untilMs = performance.now() + deadlineMs
  const opened = await openAdmin(target, request)
  if (!opened.ok) return opened
  const { status, body, close } = opened.value
  const late = new Error(`no whole answer within ${deadlineMs / 1000} s`)
  const timer = setTimeout(() => body.destroy(late), Math.max(0, untilMs - performance.now()))
  try {
    const chunks: Buffer[] = []
    let size = 0
    for await (const chunk of body as AsyncIterable<Buffer>) {
      size += chunk.length
      if (size > LARGEST_BODY_BYTES) return err('the answer is too large')
      chunks.push(chunk)
    }
    const json = parseJson(Buffer.concat(chunks).toString('utf8'))
    return status === 200 ? json : err(refusalOf(status, json))
  } catch (thrown) {
    return err(errorMessage(thrown))
  } finally {
    clearTimeout(timer)
    close()
  }
}

function refusalOf(status: number, body: Result<unknown, string>): string {
  const said =
    body.ok && typeof body.value === 'object' && body.value !== null && 'error' in body.value
      ? String(body.value.error)
      : ''
  return said === '' ? `it answers with status ${status}` : said
}

/** As askAdmin, for what is not to be read: what was done is done. */
export async function tellAdmin(
  target: ClusterTarget,
  request: AdminRequest,
): Promise<Result<unknown, string>> {
  const told = await askAdmin(target, { ...request, method: 'POST' })
  return told.ok ? ok(told.value) : told
}
