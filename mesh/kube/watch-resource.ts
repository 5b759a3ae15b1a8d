// SPDX-License-Identifier: Apache-2.0
// Keeps a local copy of a resource's objects: lists, then watches, for ever. Broken watches go on from the last
// version seen; when the server has forgotten that (410 Gone) everything is listed anew and the difference is
// told, so that deletions that happened unseen are told, too.

import type { Logger } from '../telemetry/log.ts'
import { errorMessage } from '../errors.ts'
import { selectorQuery, type KubeApi, type Selectors } from './api.ts'
import { Backoff, delay, type BackoffOptions } from '../async/backoff.ts'
import { failureOfStatus, failureOfTransport, type KubeFailure } from './failure.ts'
import { objectKey, resourcePath, type KubeObject, type KubeResource } from './resources.ts'
import { openExchange } from './transport.ts'
import { MalformedWatchEvent, readWatchEvents } from './watch-stream.ts'

/** Called one at a time, in the server's order. What they throw is logged and goes no further. */
export interface WatchHandlers<T> {
  readonly added?: (object: T) => void
  readonly updated?: (previous: T, current: T) => void
  readonly deleted?: (last: T) => void
  /** After every full list, once its differences have been told. */
  readonly listed?: () => void
  /** A list or watch failed and is going to be tried again. */
  readonly failed?: (failure: KubeFailure) => void
}

export interface WatchOptions<T> extends Selectors, WatchHandlers<T> {
  readonly logger: Logger
  /** Ends the watch, as close() does. */
  readonly signal?: AbortSignal
  readonly backoff?: BackoffOptions
  /** How long the server is asked to keep one watch open; jittered up to twice that. Default 5 minutes. */
  readonly watchTimeoutSeconds?: number
}

export interface ResourceWatch<T> {
  /** Resolves after the first list was told; rejects only if the watch is closed before that. */
  readonly synced: Promise<void>
  readonly isSynced: boolean
  /** The copy, by `namespace/name` (or name). Do not change the objects. */
  readonly objects: ReadonlyMap<string, T>
  get(key: string): T | undefined
  /** Ends it; resolves when nothing will be told any more. */
  close(): Promise<void>
}

const LIST_DEADLINE_MS = 60_000
const WATCH_HEADERS_DEADLINE_MS = 30_000
const WATCH_TIMEOUT_SECONDS = 300
/** A watch silent this long past its own timeout is dead, whatever TCP says. */
const WATCH_OVERDUE_MS = 30_000
/** A watch that lived this long was healthy: the next failure starts at the shortest delay again. */
const HEALTHY_WATCH_MS = 5_000

/** Starts keeping a copy of the selected objects of a resource. */
export function watchResource<T extends KubeObject>(
  api: KubeApi,
  resource: KubeResource<T>,
  options: WatchOptions<T>,
): ResourceWatch<T> {
  const closing = new AbortController()
  const signal =
    options.signal === undefined
      ? closing.signal
      : AbortSignal.any([closing.signal, options.signal])
  const objects = new Map<string, T>()
  const { promise: synced, resolve: markSynced, reject: failSynced } = Promise.withResolvers<void>()
  // Not everybody awaits it.
  synced.catch(() => undefined)
  const reflector = new Reflector(api, resource, options, signal, objects, markSynced)
  const finished = reflector.run().finally(() => {
    failSynced(new Error(`the watch of ${resource.plural} was closed before its first list`))
  })
  return {
    synced,
    get isSynced() {
      return reflector.isSynced
    },
    objects,
    get: (key) => objects.get(key),
    close: () => {
      closing.abort()
      return finished
    },
  }
}

/** How one watch request ended. Without a failure it ended as watches do: the server's time was up. */
interface WatchOutcome {
  readonly failure?: KubeFailure
  /** What we know can no longer be built upon: list anew. */
  readonly relist: boolean
  /** It told something or lived long: the API server is well. */
  readonly wasHealthy: boolean
}

class Reflector<T extends KubeObject> {
  readonly #api: KubeApi
  readonly #resource: KubeResource<T>
  readonly #options: WatchOptions<T>
  readonly #signal: AbortSignal
  readonly #objects: Map<string, T>
  readonly #markSynced: () => void
  readonly #logger: Logger
  /** Where to go on watching from; undefined when a list is due. */
  #resourceVersion: string | undefined
  isSynced = false

  constructor(
    api: KubeApi,
    resource: KubeResource<T>,
    options: WatchOptions<T>,
    signal: AbortSignal,
    objects: Map<string, T>,
    markSynced: () => void,
  ) {
    this.#api = api
    this.#resource = resource
    this.#options = options
    this.#signal = signal
    this.#objects = objects
    this.#markSynced = markSynced
    this.#logger = options.logger.child({ watch: resource.plural })
  }

  async run(): Promise<void> {
    const backoff = new Backoff(this.#options.backoff)
    while (!this.#signal.aborted) {
      let failure: KubeFailure | undefined
      if (this.#resourceVersion === undefined) failure = await this.#list()
      if (this.#resourceVersion !== undefined && !this.#signal.aborted) {
        const outcome = await this.#watch(this.#resourceVersion)
        if (outcome.relist) this.#resourceVersion = undefined
        if (outcome.wasHealthy) backoff.reset()
        failure = outcome.failure
      }
      if (this.#signal.aborted) return
      const waitMs = Math.max(backoff.next(), failure?.retryAfterMs ?? 0)
      if (failure !== undefined) this.#report(failure, waitMs)
      await delay(waitMs, this.#signal)
    }
  }

  async #list(): Promise<KubeFailure | undefined> {
    const { namespace, labelSelector, fieldSelector } = this.#options
    const listed = await this.#api.list(this.#resource, {
      ...(namespace === undefined ? {} : { namespace }),
      ...(labelSelector === undefined ? {} : { labelSelector }),
      ...(fieldSelector === undefined ? {} : { fieldSelector }),
      signal: this.#signal,
      deadlineMs: LIST_DEADLINE_MS,
    })
    if (!listed.ok) return listed.error
    const gone = new Set(this.#objects.keys())
    for (const object of listed.value.items) gone.delete(objectKey(object))
    for (const key of gone) this.#remove(key)
    for (const object of listed.value.items) this.#put(object)
    this.#resourceVersion = listed.value.resourceVersion
    this.isSynced = true
    this.#tell(() => this.#options.listed?.())
    this.#markSynced()
    return undefined
  }

  async #watch(resourceVersion: string): Promise<WatchOutcome> {
    const seconds = this.#options.watchTimeoutSeconds ?? WATCH_TIMEOUT_SECONDS
    const timeoutSeconds = Math.round(seconds * (1 + Math.random()))
    const query = selectorQuery(this.#options)
    query.set('watch', 'true')
    query.set('allowWatchBookmarks', 'true')
    query.set('resourceVersion', resourceVersion)
    query.set('timeoutSeconds', String(timeoutSeconds))
    const call = `watch ${this.#resource.plural}`
    const opened = await openExchange(this.#api.access, {
      method: 'GET',
      path: `${resourcePath(this.#resource, this.#options)}?${query.toString()}`,
      call,
      signal: this.#signal,
      deadlineMs: WATCH_HEADERS_DEADLINE_MS,
    })
    if (!opened.ok) {
      // 410: compacted. 400 and 504 are what servers say to a version they have not reached (restored backups).
      const relist =
        opened.error.kind === 'gone' || opened.error.status === 400 || opened.error.status === 504
      return { failure: opened.error, relist, wasHealthy: false }
    }

    const stream = opened.value
    const openedAt = performance.now()
    let hasTold = false
    const wasHealthy = (): boolean => hasTold || performance.now() - openedAt > HEALTHY_WATCH_MS
    const overdue = setTimeout(
      () => stream.destroy(new Error(`silent ${WATCH_OVERDUE_MS} ms past its end`)),
      timeoutSeconds * 1000 + WATCH_OVERDUE_MS,
    )
    try {
      for await (const event of readWatchEvents<T>(stream)) {
        if (this.#signal.aborted) break
        if (event.type === 'ERROR') {
          const code = 'code' in event.object ? Number(event.object.code) : 500
          const failure = failureOfStatus(call, code, JSON.stringify(event.object))
          return { failure, relist: true, wasHealthy: wasHealthy() }
        }
        const version = event.object.metadata?.resourceVersion
        if (event.type === 'DELETED') this.#remove(objectKey(event.object), event.object)
        else if (event.type !== 'BOOKMARK') this.#put(event.object)
        if (version !== undefined && version !== '') this.#resourceVersion = version
        hasTold = true
      }
      return { relist: false, wasHealthy: wasHealthy() }
    } catch (thrown) {
      return {
        failure: failureOfTransport(call, thrown),
        // After a cut the rest comes again from the last version; what is no event might never come right.
        relist: thrown instanceof MalformedWatchEvent,
        wasHealthy: wasHealthy(),
      }
    } finally {
      clearTimeout(overdue)
      stream.destroy()
    }
  }

  #put(object: T): void {
    const key = objectKey(object)
    const previous = this.#objects.get(key)
    this.#objects.set(key, object)
    if (previous === undefined) {
      this.#tell(() => this.#options.added?.(object))
    } else if (previous.metadata?.uid !== object.metadata?.uid) {
      // Deleted and made again under the same name while we were not looking.
      this.#tell(() => this.#options.deleted?.(previous))
      this.#tell(() => this.#options.added?.(object))
    } else if (previous.metadata?.resourceVersion !== object.metadata?.resourceVersion) {
      this.#tell(() => this.#options.updated?.(previous, object))
    }
  }

  #remove(key: string, last?: T): void {
    const previous = this.#objects.get(key)
    if (previous === undefined) return
    this.#objects.delete(key)
    this.#tell(() => this.#options.deleted?.(last ?? previous))
  }

  /** A handler's bug must neither end the watch nor pass unseen. */
  #tell(handler: () => void): void {
    if (this.#signal.aborted) return
    try {
      handler()
    } catch (thrown) {
      this.#logger.error({ err: thrown }, `a handler of the watch threw: ${errorMessage(thrown)}`)
    }
  }

  #report(failure: KubeFailure, waitMs: number): void {
    // Losing one's place is routine for a quiet watch; everything else is news.
    const level = failure.kind === 'gone' ? 'info' : 'warn'
    this.#logger[level](
      { kind: failure.kind, status: failure.status, retryInMs: Math.round(waitMs) },
      failure.message,
    )
    this.#tell(() => this.#options.failed?.(failure))
  }
}
