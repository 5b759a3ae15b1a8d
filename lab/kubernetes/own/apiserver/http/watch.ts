// SPDX-License-Identifier: Apache-2.0
// Watches over HTTP: from a resourceVersion or from the present state on, with bookmarks, until the
// client leaves, the time is up, or the client reads too slowly.

import type { ServerResponse } from 'node:http'
import { badRequest, expired, statusOf } from '../../../objects/refusals.ts'
import { apiVersionOf } from '../../../objects/resource-types.ts'
import { type Matcher, parseSelectors } from '../../../objects/selectors.ts'
import type { Store, StoredEvent } from '../store.ts'
import type { StoredObject } from '../../../objects/stored-object.ts'
import type { ListOptions, ResourceId, WatchEventType } from '../../../objects/cluster-api.ts'
import { type View, objectText } from './objects.ts'
import { sendFailure } from './respond.ts'

/** A client this far behind is cut off; it lists again and resumes. */
const MAX_BUFFERED_BYTES = 32 * 1024 * 1024
const MS_PER_SECOND = 1000
const INITIAL_EVENTS_END = 'k8s.io/initial-events-end'

export interface WatchRequest {
  readonly view: View
  readonly selectors: ListOptions
  readonly resourceVersion: string
  readonly allowBookmarks: boolean
  readonly sendInitialEvents: boolean
  readonly timeoutSeconds: number | undefined
}

/** What a watch with a selector is told: objects come into its sight and leave it. */
export function visibleChange(event: StoredEvent, matches: Matcher): WatchEventType | undefined {
  const wasVisible = event.previous !== undefined && matches(event.previous)
  const isVisible = event.type !== 'DELETED' && matches(event.object)
  if (isVisible) return wasVisible ? 'MODIFIED' : 'ADDED'
  return wasVisible ? 'DELETED' : undefined
}

/** All open watches, so that they can be ended together. */
export class WatchHub {
  readonly #open = new Map<ServerResponse, { readonly resource: ResourceId; end: () => void }>()
  readonly #store: Store
  readonly #bookmarkIntervalMs: number

  constructor(store: Store, bookmarkIntervalMs: number) {
    this.#store = store
    this.#bookmarkIntervalMs = bookmarkIntervalMs
  }

  /** Cuts connections of watches, as a broken network would. */
  breakAll(resource?: ResourceId): number {
    const broken = [...this.#open].filter(
      ([, watch]) => resource === undefined || watch.resource === resource,
    )
    for (const [response, watch] of broken) {
      watch.end()
      response.destroy()
    }
    return broken.length
  }

  serve(response: ServerResponse, request: WatchRequest): void {
    const matches = parseSelectors(request.selectors)
    if (!matches.ok) return sendFailure(response, badRequest(matches.error).error)
    const { type } = request.view
    const asked = request.resourceVersion
    const from = asked === '' || asked === '0' ? undefined : Number(asked)
    if (from !== undefined && !Number.isSafeInteger(from))
      return sendFailure(
        response,
        badRequest(`Invalid value: ${JSON.stringify(asked)}: resourceVersion must be a number`)
          .error,
      )
    response.writeHead(200, {
      'content-type': 'application/json',
      'cache-control': 'no-cache, private',
    })
    response.flushHeaders()

    const write = (kind: string, json: string): void => {
      if (response.writableLength > MAX_BUFFERED_BYTES) {
        end()
        response.destroy()
        return
      }
      response.write(`{"type":"${kind}","object":${json}}\n`)
    }
    const writeChange = (event: StoredEvent): void => {
      const change = visibleChange(event, matches.value)
      if (change === undefined) return
      // An object that leaves the sight of a selector is shown as it last was, at this revision.
      const object =
        change === 'DELETED' && event.type !== 'DELETED' && event.previous !== undefined
          ? atRevision(event.previous, event.revision)
          : event.object
      write(change, objectText(object, request.view))
    }
    const bookmark = (isInitialEnd = false): void => {
      write('BOOKMARK', bookmarkText(request.view, this.#store.revision, isInitialEnd))
    }

    let unsubscribe = (): void => undefined
    let bookmarks: NodeJS.Timeout | undefined
    let deadline: NodeJS.Timeout | undefined
    const end = (): void => {
      unsubscribe()
      clearInterval(bookmarks)
      clearTimeout(deadline)
      this.#open.delete(response)
    }
    response.on('close', end)
    response.on('error', end)

    if (from === undefined || request.sendInitialEvents) {
      unsubscribe = this.#store.subscribe(type.id, writeChange)
      for (const object of this.#store.list(type.id, request.selectors.namespace))
        if (matches.value(object)) write('ADDED', objectText(object, request.view))
      if (request.sendInitialEvents && request.allowBookmarks) bookmark(true)
    } else {
      const missed = this.#store.eventsSince(type.id, from)
      if (missed === 'expired') {
        const failure = expired(from, this.#store.oldestResumable(type.id)).error
        write('ERROR', JSON.stringify(statusOf(failure)))
        response.end()
        return
      }
      unsubscribe = this.#store.subscribe(type.id, writeChange)
      for (const event of missed) writeChange(event)
    }
    this.#open.set(response, { resource: type.id, end })
    if (request.allowBookmarks)
      bookmarks = setInterval(() => bookmark(), this.#bookmarkIntervalMs).unref()
    if (request.timeoutSeconds !== undefined && request.timeoutSeconds > 0)
      deadline = setTimeout(() => {
        end()
        response.end()
      }, request.timeoutSeconds * MS_PER_SECOND)
  }
}

function atRevision(object: StoredObject, revision: number): StoredObject {
  return { ...object, metadata: { ...object.metadata, resourceVersion: String(revision) } }
}

function bookmarkText(view: View, revision: number, isInitialEnd: boolean): string {
  return JSON.stringify({
    kind: view.type.kind,
    apiVersion: apiVersionOf(view.type, view.version),
    metadata: {
      resourceVersion: String(revision),
      creationTimestamp: null,
      ...(isInitialEnd ? { annotations: { [INITIAL_EVENTS_END]: 'true' } } : {}),
    },
  })
}
