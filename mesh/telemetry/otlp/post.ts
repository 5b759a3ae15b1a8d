// SPDX-License-Identifier: Apache-2.0
// One request to a collector, bounded in time and in what it may answer.

import type { Agent } from 'node:http'
import https from 'node:https'
import { promisify } from 'node:util'
import { constants, gzip } from 'node:zlib'
import { http } from '../../node-http.ts'
import { errorMessage } from '../../errors.ts'
import { outcomeOf, type Outcome } from './answer.ts'
import type { OtlpTarget } from './target.ts'

/** What is exported; also the last part of the collector's path. */
export type Signal = 'metrics' | 'logs' | 'traces'

const REQUEST_TIMEOUT_MS = 10_000
const LARGEST_ANSWER_BYTES = 64 * 1024

/** Labels say the same again and again: the fastest level makes a thirtieth of them already. */
const pack = promisify(gzip)
const LEVEL = { level: constants.Z_BEST_SPEED }

export class Collector {
  readonly #target: OtlpTarget
  readonly #agent: Agent | https.Agent

  constructor(target: OtlpTarget) {
    this.#target = target
    const { endpoint, ca } = target
    // One connection a signal: logs do not wait for a large export of metrics.
    const kept = { keepAlive: true, maxSockets: 3 }
    this.#agent =
      endpoint.protocol === 'https:'
        ? new https.Agent({ ...kept, ...(ca !== undefined && { ca }) })
        : new http.Agent(kept)
  }

  /** As it may be told: some have their key in the path. */
  get name(): string {
    return this.#target.endpoint.origin
  }

  /** Posts a request. Never rejects. */
  async post(signal: Signal, body: Uint8Array, abort: AbortSignal): Promise<Outcome> {
    try {
      const headers = await this.#target.headers()
      return await this.#request(signal, await pack(body, LEVEL), headers, abort)
    } catch (thrown) {
      return { kind: 'again', reason: errorMessage(thrown) }
    }
  }

  close(): void {
    this.#agent.destroy()
  }

  #request(
    signal: Signal,
    packed: Uint8Array,
    headers: Readonly<Record<string, string>>,
    abort: AbortSignal,
  ): Promise<Outcome> {
    const url = new URL(this.#target.endpoint)
    // Not by resolving a path: one that begins with two slashes would be another host, which would get the headers.
    url.pathname = `${url.pathname.replace(/\/+$/, '')}/v1/${signal}`
    const { request } = url.protocol === 'https:' ? https : http
    const { promise, resolve, reject } = Promise.withResolvers<Outcome>()
    const sent = request(url, {
      method: 'POST',
      agent: this.#agent,
      headers: {
        ...headers,
        'content-type': 'application/x-protobuf',
        'content-encoding': 'gzip',
        'content-length': packed.length,
      },
      signal: AbortSignal.any([abort, AbortSignal.timeout(REQUEST_TIMEOUT_MS)]),
    })
    sent.on('response', (response) => {
      const chunks: Buffer[] = []
      let size = 0
      response.on('data', (chunk: Buffer) => {
        size += chunk.length
        chunks.push(chunk)
        // An answer is a few bytes; whoever sends more is no collector.
        if (size > LARGEST_ANSWER_BYTES) response.destroy(new Error('the answer is too long'))
      })
      response.on('error', reject)
      response.on('end', () => resolve(outcomeOf(response, Buffer.concat(chunks), Date.now())))
    })
    sent.on('error', reject)
    sent.on('close', () => reject(new Error('the connection has ended before the answer')))
    sent.end(packed)
    return promise
  }
}
