// SPDX-License-Identifier: Apache-2.0
// The BackendTls that a waypoint knows. Fed by MeshState.

import { type BackendTls, backendTlsKey } from './backend-tls.ts'
import type { MeshChange } from './types.ts'

export class BackendTlsIndex {
  readonly #all = new Map<string, BackendTls>()

  /** What counts at a port of a Service: the port's own, else the Service's. Hot: once a request; most meshes have none. */
  find(service: string, port: number): BackendTls | undefined {
    if (this.#all.size === 0) return undefined
    return this.#all.get(backendTlsKey(service, port)) ?? this.#all.get(service)
  }

  [Symbol.iterator](): IterableIterator<BackendTls> {
    return this.#all.values()
  }

  set(tls: BackendTls): void {
    this.#all.set(tls.key, tls)
  }

  remove(key: string): void {
    this.#all.delete(key)
  }

  /** Changes that make an empty index equal to this one. */
  snapshot(): MeshChange[] {
    return [...this.#all.values()].map((tls) => ({ kind: 'backendTls', tls }) as const)
  }
}
