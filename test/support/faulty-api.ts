// SPDX-License-Identifier: Apache-2.0
// The lab's API server behind a door that misbehaves on command: refusals, silence, half answers, watches that are cut, deaf
// or told nonsense. What is not told to misbehave is the server's own answer. Plain HTTP: whoever asks is let in.

import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import {
  type ClusterAccess,
  type KubeObject,
  type KubeResource,
  resourcePath,
} from '../../mesh/kube/index.ts'
import { TestKube } from './kube.ts'
import { Waiter } from './waiter.ts'

interface OpenWatch {
  readonly response: http.ServerResponse
  readonly write: (text: string | Buffer) => boolean
  readonly collection: string
}

type Answer = (request: http.IncomingMessage, response: http.ServerResponse) => void

/** What to answer instead of doing what was asked. `times` counts down; Infinity never ends. */
interface Fault {
  readonly method: string
  readonly path: RegExp
  times: number
  readonly answer: Answer
}

export interface SeenRequest {
  readonly method: string
  readonly url: URL
  readonly headers: http.IncomingHttpHeaders
  readonly body: string
}

export class FaultyApi extends TestKube {
  readonly requests: SeenRequest[] = []
  readonly watches = new Set<OpenWatch>()
  readonly #server: http.Server
  readonly #faults: Fault[] = []
  readonly #waiter = new Waiter()
  #areWatchesDeaf = false
  #port = 0

  constructor() {
    super()
    // Not the usual 5 s: on a busy machine a pause of a test is as long, and a call would meet a connection that closes just then.
    this.#server = http.createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
      this.#handle(request, response).catch((thrown: unknown) => {
        response.destroy(thrown instanceof Error ? thrown : new Error(String(thrown)))
      })
    })
  }

  async start(port = 0): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(port, '127.0.0.1', resolve))
    this.#port = (this.#server.address() as AddressInfo).port
  }

  /** Ends every connection; the objects stay, so that start(port) is a restart. */
  async stop(): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise<void>((resolve) => this.#server.close(() => resolve()))
  }

  get port(): number {
    return this.#port
  }

  access(token?: string): ClusterAccess {
    const agent = new http.Agent({ keepAlive: true })
    return {
      server: new URL(`http://127.0.0.1:${this.#port}`),
      namespace: 'default',
      source: 'test',
      credentials: () =>
        Promise.resolve({
          agent,
          headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
        }),
    }
  }

  /** Changes things of which the watches that are open now are never told. */
  unheard(change: () => void): void {
    this.#areWatchesDeaf = true
    try {
      change()
    } finally {
      this.#areWatchesDeaf = false
    }
  }

  /** Sends a bookmark to every watch of the resource. */
  bookmark(resource: KubeResource): void {
    const object: KubeObject & { kind: string } = {
      kind: resource.kind,
      metadata: { resourceVersion: String(this.revision) },
    }
    this.writeToWatches(resource, `${JSON.stringify({ type: 'BOOKMARK', object })}\n`)
  }

  writeToWatches(resource: KubeResource, text: string | Buffer): void {
    for (const watch of this.watches)
      if (watch.collection === resourcePath(resource)) watch.write(text)
  }

  /** Ends the watches of a resource: politely, or by cutting the connection. */
  endWatches(resource: KubeResource, how: 'end' | 'cut' = 'cut'): void {
    for (const watch of this.watches) {
      if (watch.collection !== resourcePath(resource)) continue
      this.watches.delete(watch)
      if (how === 'end') watch.response.end()
      else watch.response.destroy()
    }
  }

  /** The next requests of a method whose path and query match are answered so: by a status, or in whatever way. */
  fail(
    method: string,
    path: RegExp,
    times: number,
    answer: number | Answer,
    reason = 'Test',
  ): void {
    this.#faults.push({
      method,
      path,
      times,
      answer:
        typeof answer === 'function' ? answer : (_, response) => refuse(response, answer, reason),
    })
  }

  heal(): void {
    this.#faults.length = 0
  }

  /** Waits for a condition that a request or a watch brings about. */
  until(condition: () => boolean, what: string): Promise<void> {
    return this.#waiter.until(condition, what)
  }

  async #handle(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const chunks: Buffer[] = []
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk)
    const body = Buffer.concat(chunks)
    const url = new URL(request.url ?? '/', 'http://test')
    const method = request.method ?? 'GET'
    this.requests.push({ method, url, headers: request.headers, body: body.toString('utf8') })
    response.on('close', this.#waiter.poke)
    const fault = this.#faults.find((f) => f.method === method && f.path.test(request.url ?? ''))
    if (fault !== undefined) {
      fault.times -= 1
      if (fault.times <= 0) this.#faults.splice(this.#faults.indexOf(fault), 1)
      fault.answer(request, response)
    } else if (url.searchParams.get('watch') === 'true') await this.#watch(url, request, response)
    else await this.serve(this.#letIn(request, body), response)
    this.#waiter.poke()
  }

  async #watch(
    url: URL,
    request: http.IncomingMessage,
    response: http.ServerResponse,
  ): Promise<void> {
    const write = response.write.bind(response) as OpenWatch['write']
    const watch: OpenWatch = { response, write, collection: collectionOf(url.pathname) }
    // What the server writes; what a test writes goes past this.
    response.write = (text: string) =>
      this.#areWatchesDeaf || response.writableEnded ? true : write(text)
    await this.serve(this.#letIn(request, Buffer.alloc(0)), response)
    if (response.writableEnded || response.destroyed) return
    this.watches.add(watch)
    response.on('close', () => {
      this.watches.delete(watch)
      this.#waiter.poke()
    })
  }

  /** The request, whose body has been read, as one of the administrator's. */
  #letIn(request: http.IncomingMessage, body: Buffer): http.IncomingMessage {
    const again = Readable.from(body.length === 0 ? [] : [body])
    return Object.assign(again, {
      method: request.method,
      url: request.url,
      headers: { ...request.headers, authorization: `Bearer ${this.adminToken}` },
    }) as Readable as http.IncomingMessage
  }
}

/** The collection's path over all namespaces. */
function collectionOf(pathname: string): string {
  return pathname.replace(/\/namespaces\/[^/]+(?=\/)/, '')
}

function refuse(response: http.ServerResponse, code: number, reason: string): void {
  response.writeHead(code, { 'content-type': 'application/json' })
  const status = { kind: 'Status', status: 'Failure', code, reason, message: `test: ${reason}` }
  response.end(JSON.stringify(status))
}
