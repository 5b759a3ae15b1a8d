// SPDX-License-Identifier: Apache-2.0
// A Kubernetes API small enough to misbehave on command: objects in memory, list, watch, get, merge patch, create.
// It serves the tests of the client and of enrolment; the lab has a real one.

import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { randomUUID } from 'node:crypto'
import {
  objectKey,
  resourcePath,
  type ClusterAccess,
  type KubeObject,
  type KubeResource,
  type ObjectMeta,
} from '../../mesh/kube/index.ts'
import { Waiter } from '../support/waiter.ts'

interface StoredEvent {
  readonly version: number
  readonly line: string
  readonly collection: string
  readonly object: KubeObject
}

interface OpenWatch {
  readonly response: http.ServerResponse
  readonly collection: string
  readonly query: URLSearchParams
}

/** What to answer instead of doing what was asked. `times` counts down; Infinity never ends. */
interface Fault {
  readonly method: string
  readonly path: RegExp
  times: number
  readonly answer: (request: http.IncomingMessage, response: http.ServerResponse) => void
}

export interface SeenRequest {
  readonly method: string
  readonly url: URL
  readonly headers: http.IncomingHttpHeaders
  readonly body: string
}

export class ApiStub {
  readonly requests: SeenRequest[] = []
  readonly watches = new Set<OpenWatch>()
  readonly #server: http.Server
  readonly #objects = new Map<string, Map<string, KubeObject>>()
  readonly #events: StoredEvent[] = []
  readonly #faults: Fault[] = []
  readonly #waiter = new Waiter()
  #version = 100
  #oldestVersion = 0
  #port = 0

  constructor() {
    this.#server = http.createServer((request, response) => {
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
      source: 'stub',
      credentials: () =>
        Promise.resolve({
          agent,
          headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
        }),
    }
  }

  get<T extends KubeObject>(resource: KubeResource<T>, key: string): T | undefined {
    return this.#objects.get(resourcePath(resource))?.get(key) as T | undefined
  }

  /** Creates or replaces, as another client would. Returns what is stored. */
  put<T extends KubeObject>(resource: KubeResource<T>, object: T, silent = false): T {
    const collection = resourcePath(resource)
    const key = objectKey(object)
    const previous = this.#objects.get(collection)?.get(key)
    const metadata: ObjectMeta = {
      ...object.metadata,
      uid: object.metadata?.uid ?? previous?.metadata?.uid ?? randomUUID(),
      resourceVersion: String((this.#version += 1)),
    }
    const stored = {
      ...object,
      apiVersion: resource.group === '' ? 'v1' : `${resource.group}/${resource.version}`,
      kind: resource.kind,
      metadata,
    }
    const objects = this.#objects.get(collection) ?? new Map<string, KubeObject>()
    this.#objects.set(collection, objects.set(key, stored))
    if (!silent)
      this.#publish(collection, previous === undefined ? 'ADDED' : 'MODIFIED', stored, previous)
    return stored
  }

  remove(resource: KubeResource, key: string, silent = false): void {
    const collection = resourcePath(resource)
    const previous = this.#objects.get(collection)?.get(key)
    if (previous === undefined) throw new Error(`the stub has no ${key}`)
    this.#objects.get(collection)?.delete(key)
    this.#version += 1
    const last = {
      ...previous,
      metadata: { ...previous.metadata, resourceVersion: String(this.#version) },
    }
    if (!silent) this.#publish(collection, 'DELETED', last, previous)
  }

  /** Forgets history: watches from an older version get 410, as HTTP status. */
  compact(): void {
    this.#version += 1
    this.#oldestVersion = this.#version
  }

  /** Sends a bookmark to every watch of the resource. */
  bookmark(resource: KubeResource): void {
    const version = String((this.#version += 1))
    this.writeToWatches(
      resource,
      `${JSON.stringify({ type: 'BOOKMARK', object: { kind: resource.kind, metadata: { resourceVersion: version } } })}\n`,
    )
  }

  writeToWatches(resource: KubeResource, text: string | Buffer): void {
    for (const watch of this.watches)
      if (watch.collection === resourcePath(resource)) watch.response.write(text)
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

  fail(
    method: string,
    path: RegExp,
    times: number,
    answer: number | Fault['answer'],
    reason = 'Test',
  ): void {
    this.#faults.push({
      method,
      path,
      times,
      answer:
        typeof answer === 'function' ? answer : (_, response) => status(response, answer, reason),
    })
  }

  heal(): void {
    this.#faults.length = 0
  }

  /** Waits for a condition that a request or a watch brings about. */
  until(condition: () => boolean, what: string): Promise<void> {
    return this.#waiter.until(condition, what)
  }

  #publish(
    collection: string,
    type: string,
    object: KubeObject,
    previous: KubeObject | undefined,
  ): void {
    const line = `${JSON.stringify({ type, object })}\n`
    this.#events.push({ version: this.#version, line, collection, object })
    for (const watch of this.watches) {
      if (watch.collection !== collection) continue
      const matches = selected(object, watch.query)
      const matched = previous !== undefined && selected(previous, watch.query)
      if (matches && matched === (type !== 'ADDED')) watch.response.write(line)
      else if (matches) watch.response.write(`${JSON.stringify({ type: 'ADDED', object })}\n`)
      else if (matched) watch.response.write(`${JSON.stringify({ type: 'DELETED', object })}\n`)
    }
    this.#waiter.poke()
  }

  async #handle(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const chunks: Buffer[] = []
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk)
    const body = Buffer.concat(chunks).toString('utf8')
    const url = new URL(request.url ?? '/', 'http://stub')
    const method = request.method ?? 'GET'
    this.requests.push({ method, url, headers: request.headers, body })
    response.on('close', () => this.#waiter.poke())
    const fault = this.#faults.find((f) => f.method === method && f.path.test(request.url ?? ''))
    if (fault !== undefined) {
      fault.times -= 1
      if (fault.times <= 0) this.#faults.splice(this.#faults.indexOf(fault), 1)
      fault.answer(request, response)
      this.#waiter.poke()
      return
    }
    if (url.searchParams.get('watch') === 'true') this.#watch(url, response)
    else if (method === 'GET') this.#read(url, response)
    else this.#write(method, url, body, response)
    this.#waiter.poke()
  }

  #watch(url: URL, response: http.ServerResponse): void {
    const from = Number(url.searchParams.get('resourceVersion'))
    if (from < this.#oldestVersion) {
      status(response, 410, 'Expired')
      return
    }
    response.writeHead(200, { 'content-type': 'application/json' })
    response.flushHeaders()
    const watch: OpenWatch = {
      response,
      collection: collectionOf(url.pathname).collection,
      query: url.searchParams,
    }
    for (const event of this.#events)
      if (
        event.version > from &&
        event.collection === watch.collection &&
        selected(event.object, watch.query)
      )
        response.write(event.line)
    this.watches.add(watch)
    response.on('close', () => {
      this.watches.delete(watch)
      this.#waiter.poke()
    })
  }

  #read(url: URL, response: http.ServerResponse): void {
    const { collection, key } = collectionOf(url.pathname)
    const objects = this.#objects.get(collection)
    if (key === undefined) {
      const all = [...(objects?.values() ?? [])].filter((object) =>
        selected(object, url.searchParams),
      )
      const limit = Number(url.searchParams.get('limit') ?? all.length)
      const offset = Number(url.searchParams.get('continue') ?? 0)
      const next = offset + limit < all.length ? String(offset + limit) : undefined
      json(response, 200, {
        kind: 'List',
        apiVersion: 'v1',
        metadata: { resourceVersion: String(this.#version), continue: next },
        items: all
          .slice(offset, offset + limit)
          .map((object) => ({ ...object, kind: undefined, apiVersion: undefined })),
      })
      return
    }
    const object = objects?.get(key)
    if (object === undefined) status(response, 404, 'NotFound')
    else json(response, 200, object)
  }

  #write(method: string, url: URL, body: string, response: http.ServerResponse): void {
    const { collection, key, resource, namespace } = collectionOf(url.pathname)
    const sent = JSON.parse(body) as KubeObject
    if (method === 'POST') {
      const name = sent.metadata?.name ?? `${sent.metadata?.generateName ?? ''}${randomUUID()}`
      const object = {
        ...sent,
        metadata: { ...sent.metadata, name, ...(namespace === undefined ? {} : { namespace }) },
      }
      if (this.#objects.get(collection)?.has(objectKey(object)) === true)
        status(response, 409, 'AlreadyExists')
      else json(response, 201, this.put(resource, object))
      return
    }
    const current = key === undefined ? undefined : this.#objects.get(collection)?.get(key)
    if (current === undefined) status(response, 404, 'NotFound')
    else if (method === 'PATCH') {
      const uid = sent.metadata?.uid
      if (uid !== undefined && uid !== current.metadata?.uid) status(response, 409, 'Conflict')
      else json(response, 200, this.put(resource, mergePatch(current, sent) as KubeObject))
    } else if (method === 'PUT') {
      const version = sent.metadata?.resourceVersion
      if (version !== undefined && version !== current.metadata?.resourceVersion)
        status(response, 409, 'Conflict')
      else json(response, 200, this.put(resource, sent))
    } else if (method === 'DELETE') {
      this.remove(resource, key ?? '')
      json(response, 200, { kind: 'Status', status: 'Success' })
    } else status(response, 405, 'MethodNotAllowed')
  }
}

function collectionOf(pathname: string): {
  collection: string
  key?: string
  namespace?: string
  resource: KubeResource
} {
  const match =
    /^\/(?:api|apis\/([^/]+))\/([^/]+)(?:\/namespaces\/([^/]+)(?=\/))?\/([^/]+)(?:\/([^/]+))?/.exec(
      pathname,
    )
  const [, group = '', version = 'v1', namespace, plural = '', name] = match ?? []
  const resource: KubeResource = {
    group,
    version,
    plural,
    kind: plural,
    namespaced: namespace !== undefined,
  }
  return {
    collection: resourcePath(resource),
    resource,
    ...(name === undefined ? {} : { key: namespace === undefined ? name : `${namespace}/${name}` }),
    ...(namespace === undefined ? {} : { namespace }),
  }
}

function selected(object: KubeObject, query: URLSearchParams): boolean {
  const labels = query.get('labelSelector')
  for (const requirement of labels?.split(',') ?? []) {
    const [key = '', value] = requirement.split('=')
    if (object.metadata?.labels?.[key] !== value) return false
  }
  const fields = query.get('fieldSelector')
  for (const requirement of fields?.split(',') ?? []) {
    const [path = '', value] = requirement.split('=')
    let found: unknown = object
    for (const step of path.split('.'))
      found = (found as Record<string, unknown> | undefined)?.[step]
    if (found !== value) return false
  }
  return true
}

/** RFC 7396 */
function mergePatch(target: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch
  const merged: Record<string, unknown> =
    typeof target === 'object' && target !== null ? { ...target } : {}
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete merged[key]
    else merged[key] = mergePatch(merged[key], value)
  }
  return merged
}

function json(response: http.ServerResponse, code: number, body: unknown): void {
  response.writeHead(code, { 'content-type': 'application/json' })
  response.end(JSON.stringify(body))
}

function status(response: http.ServerResponse, code: number, reason: string): void {
  json(response, code, {
    kind: 'Status',
    status: 'Failure',
    code,
    reason,
    message: `stub: ${reason}`,
  })
}
