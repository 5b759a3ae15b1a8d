// SPDX-License-Identifier: Apache-2.0
// The objects of the cluster in memory: one revision counter, immutable objects, and a bounded history
// of changes per resource so that a watch can resume. Knows nothing of what the objects mean.

import type { Draft } from '../../objects/json.ts'
import type { StoredObject } from '../../objects/stored-object.ts'
import type { ResourceId, WatchEventType } from '../../objects/cluster-api.ts'

/** A change: the object after it (before it, for DELETED, under the revision of the deletion). */
export interface StoredEvent {
  readonly revision: number
  readonly type: WatchEventType
  readonly object: StoredObject
  /** The object as it was before, so that watches with selectors see objects come and go. */
  readonly previous: StoredObject | undefined
}

interface Listener {
  readonly since: number
  readonly onEvent: (event: StoredEvent) => void
}

class Shelf {
  readonly namespaces = new Map<string, Map<string, StoredObject>>()
  readonly listeners = new Set<Listener>()
  history: StoredEvent[] = []
  /** Revision of the youngest change that the history no longer holds. */
  floor: number

  constructor(floor: number) {
    this.floor = floor
  }
}

/** Cluster-scoped objects lie under this namespace key. */
const CLUSTER = ''

export class Store {
  readonly #shelves = new Map<ResourceId, Shelf>()
  readonly #historyLimit: number
  readonly #pending: { readonly shelf: Shelf; readonly event: StoredEvent }[] = []
  #isDispatching = false
  #revision = 1
  #compactedAt = 0

  constructor(historyLimit: number) {
    this.#historyLimit = historyLimit
  }

  /** The revision of the last write. */
  get revision(): number {
    return this.#revision
  }

  get(resource: ResourceId, namespace: string | undefined, name: string): StoredObject | undefined {
    return this.#shelves
      .get(resource)
      ?.namespaces.get(namespace ?? CLUSTER)
      ?.get(name)
  }

  /** Objects ordered by namespace and name; of one namespace, if named. */
  list(resource: ResourceId, namespace?: string): readonly StoredObject[] {
    const shelf = this.#shelves.get(resource)
    if (shelf === undefined) return []
    const spaces =
      namespace === undefined
        ? [...shelf.namespaces.keys()].sort()
        : shelf.namespaces.has(namespace)
          ? [namespace]
          : []
    return spaces.flatMap((space) =>
      [...(shelf.namespaces.get(space)?.values() ?? [])].sort((left, right) =>
        left.metadata.name < right.metadata.name ? -1 : 1,
      ),
    )
  }

  /** Whether a namespace holds any object of the resource. */
  hasAny(resource: ResourceId, namespace: string): boolean {
    return (this.#shelves.get(resource)?.namespaces.get(namespace)?.size ?? 0) > 0
  }

  /** Stores a draft (which the store then owns) under the next revision and tells the watchers. */
  put(resource: ResourceId, draft: Draft): StoredObject {
    const object = this.#stamp(draft)
    const shelf = this.#shelf(resource)
    const space = object.metadata.namespace ?? CLUSTER
    let objects = shelf.namespaces.get(space)
    if (objects === undefined) {
      objects = new Map()
      shelf.namespaces.set(space, objects)
    }
    const previous = objects.get(object.metadata.name)
    objects.set(object.metadata.name, object)
    this.#record(shelf, { type: previous === undefined ? 'ADDED' : 'MODIFIED', object, previous })
    return object
  }

  /** Removes an object; watchers see its last state under the revision of the deletion. */
  remove(resource: ResourceId, stored: StoredObject, lastState: Draft): StoredObject {
    const shelf = this.#shelf(resource)
    const space = stored.metadata.namespace ?? CLUSTER
    const objects = shelf.namespaces.get(space)
    objects?.delete(stored.metadata.name)
    if (objects?.size === 0) shelf.namespaces.delete(space)
    const object = this.#stamp(lastState)
    this.#record(shelf, { type: 'DELETED', object, previous: stored })
    return object
  }

  /** The changes after a revision, or 'expired' when the history does not reach back that far. */
  eventsSince(resource: ResourceId, revision: number): readonly StoredEvent[] | 'expired' {
    const shelf = this.#shelf(resource)
    if (revision < shelf.floor) return 'expired'
    // The history is ordered: find the first later change from its young end, where resuming watches are.
    let first = shelf.history.length
    while (first > 0 && (shelf.history[first - 1]?.revision ?? 0) > revision) first -= 1
    return shelf.history.slice(first)
  }

  /** The oldest revision a watch of this resource may resume from. */
  oldestResumable(resource: ResourceId): number {
    return this.#shelf(resource).floor
  }

  /** Calls back on each later change, in order, until the returned function is called. */
  subscribe(resource: ResourceId, onEvent: (event: StoredEvent) => void): () => void {
    const shelf = this.#shelf(resource)
    const listener: Listener = { since: this.#revision, onEvent }
    shelf.listeners.add(listener)
    return () => shelf.listeners.delete(listener)
  }

  /** Forgets all history. */
  compact(): void {
    this.#compactedAt = this.#revision
    for (const shelf of this.#shelves.values()) {
      shelf.history = []
      shelf.floor = this.#revision
    }
  }

  #shelf(resource: ResourceId): Shelf {
    let shelf = this.#shelves.get(resource)
    if (shelf === undefined) {
      shelf = new Shelf(this.#compactedAt)
      this.#shelves.set(resource, shelf)
    }
    return shelf
  }

  #stamp(draft: Draft): StoredObject {
    this.#revision += 1
    const metadata = draft.metadata as Draft
    metadata.resourceVersion = String(this.#revision)
    return draft as unknown as StoredObject
  }

  #record(shelf: Shelf, change: Omit<StoredEvent, 'revision'>): void {
    const event = { revision: this.#revision, ...change }
    shelf.history.push(event)
    // Trimming at twice the limit makes the copy rare.
    if (shelf.history.length > this.#historyLimit * 2) {
      const dropped = shelf.history.length - this.#historyLimit
      shelf.floor = shelf.history[dropped - 1]?.revision ?? shelf.floor
      shelf.history = shelf.history.slice(dropped)
    }
    this.#pending.push({ shelf, event })
    this.#dispatch()
  }

  /** A listener that writes must not make later listeners see its write before the one that caused it. */
  #dispatch(): void {
    if (this.#isDispatching) return
    this.#isDispatching = true
    try {
      for (let next = this.#pending.shift(); next !== undefined; next = this.#pending.shift())
        for (const listener of next.shelf.listeners)
          if (listener.since < next.event.revision) listener.onEvent(next.event)
    } finally {
      this.#isDispatching = false
    }
  }
}
