// SPDX-License-Identifier: Apache-2.0
// An API server that lists what it is given, tells watches what it is told to, believes every write, and keeps Secrets. It knows nothing
// of resources beyond their paths, and is as fast as JSON is: what is measured is who asks.

import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { KubeObject, Secret, TokenReview } from '../../mesh/kube/index.ts'
import type { TypicalObjects } from './typical-objects.ts'

const FIRST_VERSION = 1_000_000

/** The objects of one kind, made one by one as they are listed. */
export interface Listing {
  readonly count: () => number
  readonly make: (index: number) => KubeObject
}

export interface ListingApiServerOptions {
  /** By path, as `/api/v1/pods`. */
  readonly lists: ReadonlyMap<string, Listing>
  /** The object at a path, where that is neither a list's nor a Secret's. */
  readonly one?: (path: string) => KubeObject | undefined
  /** Says whose a token is; without it no token is anybody's. */
  readonly review?: (token: string) => TokenReview['status']
}

/** What a typical cluster lists. */
export function typicalLists(objects: TypicalObjects): Map<string, Listing> {
  const { size } = objects
  const named =
    (kind: string) =>
    (index: number): KubeObject => ({ metadata: { name: `${kind}-${index}` } })
  return new Map<string, Listing>([
    ['/api/v1/pods', { count: () => objects.pods, make: (index) => objects.pod(index) }],
    ['/api/v1/services', { count: () => size.services, make: (index) => objects.service(index) }],
    ['/api/v1/nodes', { count: () => size.nodes, make: named('node') }],
    ['/api/v1/namespaces', { count: () => size.namespaces, make: named('namespace') }],
    [
      '/apis/discovery.k8s.io/v1/endpointslices',
      { count: () => size.services, make: (index) => objects.slice(index) },
    ],
    [
      '/apis/security.istio.io/v1/authorizationpolicies',
      { count: () => size.policies, make: (index) => objects.policy(index) },
    ],
  ])
}

export class ListingApiServer {
  readonly #options: ListingApiServerOptions
  readonly #watches = new Map<string, Set<ServerResponse>>()
  readonly #unwatched: Set<string>
  readonly #watched = Promise.withResolvers<void>()
  /** Resolves when all lists have been taken in: a watch begins after its list. */
  readonly watched: Promise<void> = this.#watched.promise
  readonly #secrets = new Map<string, Secret>()
  #version = FIRST_VERSION
  readonly #server: Server = createServer((request, response) => {
    this.#handle(request, response).catch((thrown: unknown) => response.destroy(thrown as Error))
  })

  constructor(options: ListingApiServerOptions) {
    this.#options = options
    this.#unwatched = new Set(options.lists.keys())
  }

  async listen(): Promise<number> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    return (this.#server.address() as AddressInfo).port
  }

  close(): void {
    this.#server.closeAllConnections()
    this.#server.close()
  }

  /** How many watches are open, by path. */
  watches(): Readonly<Record<string, number>> {
    return Object.fromEntries([...this.#watches].map(([path, open]) => [path, open.size]))
  }

  /** Tells all watches of a path what became of an object, which thereby has a new version. */
  tell(path: string, type: 'ADDED' | 'MODIFIED' | 'DELETED', object: KubeObject): void {
    this.#version += 1
    const metadata = { ...object.metadata, resourceVersion: String(this.#version) }
    const line = `${JSON.stringify({ type, object: { ...object, metadata } })}\n`
    for (const watch of this.#watches.get(path) ?? []) watch.write(line)
  }

  /** A Secret that was written, by namespace/name. */
  secret(name: string): Secret | undefined {
    return this.#secrets.get(name)
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://cluster')
    const answer = (status: number, body: object): void => {
      response.writeHead(status, { 'content-type': 'application/json' })
      response.end(JSON.stringify(body))
    }
    let text = ''
    for await (const chunk of request) text += String(chunk)
    if (request.method !== 'GET') {
      const body = text === '' ? {} : (JSON.parse(text) as KubeObject)
      answer(request.method === 'POST' ? 201 : 200, this.#write(url.pathname, body))
      return
    }
    if (url.searchParams.has('watch')) {
      this.#watch(url.pathname, response)
      return
    }
    const [, namespace, plural, name] =
      /\/namespaces\/([^/]+)\/(secrets|configmaps|leases)\/([^/]+)$/.exec(url.pathname) ?? []
    if (name !== undefined) {
      const secret = plural === 'secrets' && this.#secrets.get(`${namespace}/${name}`)
      if (secret) answer(200, secret)
      else answer(404, { kind: 'Status', code: 404, reason: 'NotFound' })
      return
    }
    const one = this.#options.one?.(url.pathname)
    if (one !== undefined) {
      answer(200, one)
      return
    }
    const list = this.#options.lists.get(url.pathname)
    const count = list?.count() ?? 0
    const from = Number(url.searchParams.get('continue') ?? 0)
    const to = from + Number(url.searchParams.get('limit') ?? Infinity)
    const items: KubeObject[] = []
    for (let index = from; index < Math.min(to, count); index += 1) {
      const item = list?.make(index)
      if (item !== undefined) items.push(item)
    }
    const rest = to < count ? { continue: String(to) } : {}
    const metadata = { resourceVersion: String(this.#version), ...rest }
    answer(200, { kind: 'List', metadata, items })
  }

  #write(path: string, body: KubeObject): object {
    if (path.endsWith('/tokenreviews')) {
      const { spec } = body as TokenReview
      return { ...body, status: this.#options.review?.(spec.token ?? '') ?? {} }
    }
    if (path.endsWith('/secrets'))
      this.#secrets.set(`${body.metadata?.namespace}/${body.metadata?.name}`, body)
    return body
  }

  #watch(path: string, response: ServerResponse): void {
    response.writeHead(200, { 'content-type': 'application/json' })
    response.flushHeaders()
    const open = this.#watches.get(path) ?? new Set<ServerResponse>()
    this.#watches.set(path, open.add(response))
    response.on('close', () => open.delete(response))
    this.#unwatched.delete(path)
    if (this.#unwatched.size === 0) this.#watched.resolve()
  }
}
