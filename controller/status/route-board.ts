// SPDX-License-Identifier: Apache-2.0
// What the statuses of all routes are to say at this moment. Kept by every replica, written by the one that leads.

import type { Collection } from '../../mesh/collections/index.ts'
import type { ObjectKey } from '../core/origin.ts'
import { type RouteStatus, wantedParents } from './route-status.ts'
import type { StatusSource, WantedStatus } from './wanted-status.ts'

export class RouteBoard implements StatusSource {
  readonly #statuses: readonly Collection<ObjectKey, RouteStatus>[]
  readonly #listeners = new Set<() => void>()

  constructor(statuses: readonly Collection<ObjectKey, RouteStatus>[]) {
    this.#statuses = statuses
    for (const each of statuses)
      each.subscribe(() => {
        for (const listener of this.#listeners) listener()
      })
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  get size(): number {
    return this.#statuses.reduce((sum, { size }) => sum + size, 0)
  }

  *differing(now: Date): Iterable<WantedStatus> {
    for (const statuses of this.#statuses)
      for (const status of statuses.values()) {
        const parents = wantedParents(status, now)
        if (parents !== undefined) yield { status, body: { parents } }
      }
  }
}
