// SPDX-License-Identifier: Apache-2.0
// The HttpRoutes that a waypoint knows. Fed by MeshState.

import { parseSpiffeId } from '../identity/spiffe.ts'
import type { HttpRoutes } from './http-routes.ts'
import { httpRoutesKey } from './http-routes-wire.ts'
import type { MeshChange, SpiffeId } from './types.ts'

export class HttpRouteIndex {
  readonly #routes = new Map<string, HttpRoutes>()
  /** Services that have routes for clients of some namespace, with the keys of those. */
  readonly #withClients = new Map<string, Set<string>>()

  /**
   * What counts at a port of a Service for this client: the routes of its namespace, else those of all; of both, the port's own, else those
   * of the whole Service. Undefined where it has none. Hot: once a request.
   */
  find(service: string, port: number, client: SpiffeId | undefined): HttpRoutes | undefined {
    const ofClients =
      client !== undefined && this.#withClients.has(service)
        ? this.#at(service, port, parseSpiffeId(client)?.namespace)
        : undefined
    return ofClients ?? this.#at(service, port, undefined)
  }

  #at(service: string, port: number, clients: string | undefined): HttpRoutes | undefined {
    return (
      this.#routes.get(httpRoutesKey(service, port, clients)) ??
      this.#routes.get(httpRoutesKey(service, undefined, clients))
    )
  }

  set(routes: HttpRoutes): void {
    this.#routes.set(routes.key, routes)
    if (routes.clients === undefined) return
    const keys = this.#withClients.get(routes.service) ?? new Set()
    this.#withClients.set(routes.service, keys.add(routes.key))
  }

  remove(key: string): void {
    const routes = this.#routes.get(key)
    this.#routes.delete(key)
    if (routes?.clients === undefined) return
    const keys = this.#withClients.get(routes.service)
    keys?.delete(key)
    if (keys?.size === 0) this.#withClients.delete(routes.service)
  }

  /** Changes that make an empty index equal to this one. */
  snapshot(): MeshChange[] {
    return [...this.#routes.values()].map((routes) => ({ kind: 'httpRoutes', routes }) as const)
  }
}
