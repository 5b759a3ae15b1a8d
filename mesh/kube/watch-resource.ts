// SPDX-License-Identifier: Apache-2.0
// Keeps a local copy of what is read of a resource's objects: lists, then watches, for ever. Broken watches go on from
// the last version seen; when the server has forgotten that (410 Gone) everything is listed anew and the difference is
// told, so that deletions that happened unseen are told, too.

import type { Logger } from '../telemetry/log.ts'
import { errorMessage } from '../errors.ts'
import { selectorQuery, type KubeApi, type Selectors } from './api.ts'
import { Backoff, delay, type BackoffOptions } from '../async/backoff.ts'
import { failureOfStatus, failureOfTransport, type KubeFailure } from './failure.ts'
import {
  objectKey,
  resourcePath,
  type KubeObject,
  type KubeResource,
  type ObjectMeta,
} from './resources.ts'
import { openExchange } from './transport.ts'
import { MalformedWatchEvent, readWatchEvents } from './watch-stream.ts'

/** Called one at a time, in the server's order. What they throw is logged and goes no further. */
export interface WatchHandlers<V> {
  readonly added?: (value: V, key: string) => void
  readonly updated?: (previous: V, current: V, key: string) => void
  readonly deleted?: (last: V, key: string) => void
  /** After every full list, once its differences have been told. */
  readonly listed?: () => void
  /** A list or watch failed and is going to be tried again. */
  readonly failed?: (failure: KubeFailure) => void
  /** A list was had, or a watch stands. */
  readonly answered?: () => void
}

export interface WatchOptions<V> extends Selectors, WatchHandlers<V> {
  readonly logger: Logger
  /** Ends the watch, as close() does. */
  readonly signal?: AbortSignal
  readonly backoff?: BackoffOptions
  /**
   * The server may not have the kind (yet): that is a list of nothing, and it is looked for again. What was there before stays
   * as it was known, for a kind goes after its objects, which is told of each.
   */
  readonly isOptional?: boolean
  /** How often such a kind is looked for; tests pass their own. */
  readonly absentRetryMs?: number
  /** How long the server is asked to keep one watch open; jittered up to twice that. Default 5 minutes. */
  readonly watchTimeoutSeconds?: number
}

/** What a watch is to keep of each object, and tell its handlers. */
export interface Keep<T, V> {
  /**
   * Takes out of an object what is read of it; called once for each state of it. Pure: the object itself is let go, so
   * that a watch costs what its owner reads and not what the server sends (a Pod is some 10 KB, most of it managedFields
   * and container statuses).
   */
  readonly keep: (object: T) => V
  /**
   * The key it is kept under, where its owner has one of its own; else `namespace/name` (or name). There is a key for each
   * object, and it need not be there twice.
   */
  readonly keyOf?: (object: T) => string
}

export interface ResourceWatch<V> {
  /** Resolves after the first list was told; rejects only if the watch is closed before that. */
  readonly synced: Promise<void>
  readonly isSynced: boolean
  /** How many objects there are. */
  readonly size: number
  /** What was kept of the object of this key. Do not change it. */
  get(key: string): V | undefined
  values(): Iterable<V>
  /** Ends it; resolves when nothing will be told any more. */
  close(): Promise<void>
}

const LIST_DEADLINE_MS = 60_000
const WATCH_HEADERS_DEADLINE_MS = 30_000
const WATCH_TIMEOUT_SECONDS = 300
/** A watch silent this long past its own timeout is dead, whatever TCP says. */
const WATCH_OVERDUE_MS = 30_000
/** How often a kind is looked for that the server may never have: soon enough for whoever installs it, no load. */
const ABSENT_KIND_RETRY_MS = 5_000
/** No object has it. */
const FORGOTTEN_VERSION = ''
/** A watch that lived this long was healthy: the next failure starts at the shortest delay again. */
const HEALTHY_WATCH_MS = 5_000

/**
 * Starts keeping a copy of the selected objects of a resource, or of what `keep` takes of each.
 *
 * @example watchResource(api, PODS, { logger, keep: podFacts, added: (facts) => pods.set(facts) })
 */
export function watchResource<T extends KubeObject, V>(
  api: KubeApi,
  resource: KubeResource<T>,
  options: WatchOptions<V> & Keep<T, V>,
): ResourceWatch<V>
export function watchResource<T extends KubeObject>(
  api: KubeApi,
  resource: KubeResource<T>,
  options: WatchOptions<T>,
): ResourceWatch<T>
export function watchResource<T extends KubeObject, V>(
  api: KubeApi,
  resource: KubeResource<T>,
  options: WatchOptions<V> & Partial<Keep<T, V>>,
): ResourceWatch<V> {
  const closing = new AbortController()
  const signal =
    options.signal === undefined
      ? closing.signal
      : AbortSignal.any([closing.signal, options.signal])
  const { promise: synced, resolve: markSynced, reject: failSynced } = Promise.withResolvers<void>()
  // Not everybody awaits it.
  synced.catch(() => undefined)
  // Without `keep` V is T: so says the overload that has none.
  const keep = options.keep ?? ((object: T) => object as unknown as V)
  const reflector = new Reflector(api, resource, { ...options, keep }, signal, markSynced)
  const finished = reflector.run().finally(() => {
    failSynced(new Error(`the watch of ${resource.plural} was closed before its first list`))
  })
  return {
    synced,
    get isSynced() {
      return reflector.isSynced
    },
    get size() {
      return reflector.kept.size
    },
    get: (key) => reflector.kept.get(key)?.value,
    *values() {
      for (const { value } of reflector.kept.values()) yield value
    },
    close: () => {
      closing.abort()
      return finished
    },
  }
}

/** What the reflector itself needs of an object, beside what its owner reads. */
interface Kept<V> {
  readonly uid: string | undefined
  readonly resourceVersion: string | undefined
  readonly value: V
}

/** How one watch request ended. Without a failure it ended as watches do: the server's time was up. */
interface WatchOutcome {
  readonly failure?: KubeFailure
  /** What we know can no longer be built upon: list anew. */
  readonly relist: boolean
  /** It told something or lived long: the API server is well. */
  readonly wasHealthy: boolean
}

/** What the server has, as far as it is read. */
interface ApiGroupList {
  readonly kind?: string
  readonly groups?: readonly {
    readonly name: string
    readonly versions: readonly { readonly version: string }[]
  }[]
}

interface ApiResourceList {
  readonly resources?: readonly { readonly name: string }[]
}

class Reflector<T extends KubeObject, V> {
  readonly #api: KubeApi
  readonly #resource: KubeResource<T>
  readonly #options: WatchOptions<V> & Keep<T, V>
  readonly #signal: AbortSignal
  readonly kept = new Map<string, Kept<V>>()
  readonly #markSynced: () => void
  readonly #logger: Logger
  /** Where to go on watching from; undefined when a list is due. */
  #resourceVersion: string | undefined
  /** The server may have gone back to a backup since that version: see #look(). */
  #isDoubtful = false
  isSynced = false
  #isKindAbsent = false
  /** Why we are refused, once told; undefined while we are not. */
  #refusal: string | undefined

  constructor(
    api: KubeApi,
    resource: KubeResource<T>,
    options: WatchOptions<V> & Keep<T, V>,
    signal: AbortSignal,
    markSynced: () => void,
  ) {
    this.#api = api
    this.#resource = resource
    this.#options = options
    this.#signal = signal
    this.#markSynced = markSynced
    this.#logger = options.logger.child({ watch: resource.plural })
  }

  async run(): Promise<void> {
    const backoff = new Backoff(this.#options.backoff)
    while (!this.#signal.aborted) {
      const isDoubtful = this.#isDoubtful && this.#resourceVersion !== undefined
      let failure = isDoubtful ? await this.#look() : undefined
      if (failure === undefined && this.#resourceVersion === undefined) failure = await this.#list()
      if (failure === undefined && this.#resourceVersion !== undefined && !this.#signal.aborted) {
        const outcome = await this.#watch(this.#resourceVersion)
        if (outcome.relist) this.#resourceVersion = undefined
        if (outcome.wasHealthy) backoff.reset()
        failure = outcome.failure
      }
      if (this.#signal.aborted) return
      if (failure?.kind === 'notFound' && this.#options.isOptional === true) {
        failure = this.#isKindAbsent ? undefined : await this.#whyKindMayBeThere(failure)
        if (this.#signal.aborted) return
        if (failure === undefined) {
          this.#noteAbsentKind()
          await delay(this.#options.absentRetryMs ?? ABSENT_KIND_RETRY_MS, this.#signal)
          continue
        }
      }
      const waitMs = Math.max(backoff.next(), failure?.retryAfterMs ?? 0)
      if (failure !== undefined) this.#report(failure, waitMs)
      await delay(waitMs, this.#signal)
    }
  }

  /**
   * Asks where the server is. One that was restored from a backup is at an earlier version than we are, and tells a watch from ours on nothing until
   * it has come so far again (kube-apiserver leaves out what is not newer): for hours nobody would hear of a change.
   */
  async #look(): Promise<KubeFailure | undefined> {
    const { fieldSelector } = this.#options
    // Where it is, it says with any list; of what is selected, that it has one it may have to look for among all that there is. By its name an object is found at once,
    // and rights may be to that alone.
    const isNamed = fieldSelector?.startsWith('metadata.name=') === true
    const query = selectorQuery(isNamed ? { fieldSelector } : {})
    query.set('limit', '1')
    const answer = await this.#api.raw<{ readonly metadata?: ObjectMeta }>({
      method: 'GET',
      path: `${resourcePath(this.#resource, this.#options)}?${query.toString()}`,
      call: `list one of ${this.#resource.plural}`,
      signal: this.#signal,
    })
    if (!answer.ok && answer.error.kind !== 'forbidden') return answer.error
    this.#isDoubtful = false
    if (!answer.ok) return undefined
    const { resourceVersion } = answer.value.metadata ?? {}
    if (isBefore(resourceVersion, this.#resourceVersion)) this.#goBack(resourceVersion)
    return undefined
  }

  #goBack(to: string | undefined): void {
    this.#logger.warn(
      { from: this.#resourceVersion, to },
      'the server has gone back to an earlier state, as from a backup: all is listed anew',
    )
    this.#resourceVersion = undefined
    // What it has changed since may bear a version that we know of something else.
    for (const [key, { uid, value }] of this.kept)
      this.kept.set(key, { uid, value, resourceVersion: FORGOTTEN_VERSION })
  }

  async #list(): Promise<KubeFailure | undefined> {
    const { namespace, labelSelector, fieldSelector } = this.#options
    const listed = await this.#api.list(this.#resource, {
      ...(namespace === undefined ? {} : { namespace }),
      ...(labelSelector === undefined ? {} : { labelSelector }),
      ...(fieldSelector === undefined ? {} : { fieldSelector }),
      signal: this.#signal,
      deadlineMs: LIST_DEADLINE_MS,
      // Page by page, so that never more than one page of whole objects is held.
      keep: (object: T) => this.#read(object),
    })
    if (!listed.ok) return listed.error
    if (listed.value.resourceVersion === '')
      // Nothing could be watched from there.
      return failureOfTransport(`list ${this.#resource.plural}`, 'the list has no resourceVersion')
    const gone = new Set(this.kept.keys())
    for (const { key } of listed.value.items) gone.delete(key)
    for (const key of gone) this.#remove(key)
    for (const { key, kept } of listed.value.items) if (kept !== undefined) this.#put(key, kept)
    this.#resourceVersion = listed.value.resourceVersion
    this.#isDoubtful = false
    if (this.#isKindAbsent) this.#logger.info('the server has the kind now')
    this.#isKindAbsent = false
    this.isSynced = true
    this.#tell(() => this.#options.listed?.())
    this.#tell(() => this.#options.answered?.())
    this.#markSynced()
    return undefined
  }

  /**
   * A 404 is what anything answers that stands in the server's place for a moment; that there are no policies because it said so would open every pod. Undefined where the
   * server's own list of what it has does not have the kind.
   */
  async #whyKindMayBeThere(notFound: KubeFailure): Promise<KubeFailure | undefined> {
    const { group, version, plural } = this.#resource
    const signal = this.#signal
    const call = `look for the kind of ${plural}`
    const groups = await this.#api.raw<ApiGroupList>({ method: 'GET', path: '/apis', call, signal })
    if (!groups.ok) return unlessForbidden(groups.error)
    if (groups.value.kind !== 'APIGroupList')
      return failureOfTransport(call, 'what answers is no API server')
    const served = groups.value.groups?.find(({ name }) => name === group)?.versions ?? []
    if (group !== '' && !served.some((each) => each.version === version)) return undefined
    const path = group === '' ? `/api/${version}` : `/apis/${group}/${version}`
    const kinds = await this.#api.raw<ApiResourceList>({ method: 'GET', path, call, signal })
    if (!kinds.ok) return unlessForbidden(kinds.error)
    const isThere = kinds.value.resources?.some(({ name }) => name === plural) === true
    return isThere
      ? { ...notFound, kind: 'unavailable', message: `${notFound.message}, though it has the kind` }
      : undefined
  }

  #noteAbsentKind(): void {
    // What was watched before is to be listed once it is there again.
    this.#resourceVersion = undefined
    if (!this.#isKindAbsent)
      this.#logger.info({ known: this.kept.size }, 'the server does not have the kind')
    this.#isKindAbsent = true
    this.isSynced = true
    this.#markSynced()
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
      this.#isDoubtful = opened.error.status === 0
      // 410: compacted. 400 and 504 are what servers say to a version they have not reached (restored backups).
      const relist =
        opened.error.kind === 'gone' || opened.error.status === 400 || opened.error.status === 504
      return { failure: opened.error, relist, wasHealthy: false }
    }

    this.#noteGranted()
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
        // Not of what is deleted, of which there are servers that tell its last version.
        if (event.type !== 'DELETED' && isBefore(version, this.#resourceVersion)) {
          this.#goBack(version)
          // A server whose versions go up and down would have us list without a pause.
          return { relist: true, wasHealthy: false }
        }
        if (event.type !== 'BOOKMARK') this.#take(event.object, event.type === 'DELETED')
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
      // Not even a bookmark, which servers send once a minute.
      if (!hasTold && performance.now() - openedAt >= timeoutSeconds * 500) this.#isDoubtful = true
    }
  }

  #take(object: T, isDeleted: boolean): void {
    const { key, kept } = this.#read(object)
    if (isDeleted) this.#remove(key, kept)
    else if (kept !== undefined) this.#put(key, kept)
  }

  /** Nothing is kept where the reading fails: that is a bug, is logged, and leaves the object as it was known. */
  #read(object: T): { readonly key: string; readonly kept: Kept<V> | undefined } {
    const { uid, resourceVersion } = object.metadata ?? {}
    let key = ''
    try {
      key = (this.#options.keyOf ?? objectKey)(object)
      return { key, kept: { uid, resourceVersion, value: this.#options.keep(object) } }
    } catch (thrown) {
      this.#logger.error({ error: thrown, key }, `cannot read an object: ${errorMessage(thrown)}`)
      return { key, kept: undefined }
    }
  }

  #put(key: string, next: Kept<V>): void {
    const previous = this.kept.get(key)
    const isSame = previous !== undefined && previous.uid === next.uid
    // A relist brings everything again. What was told stays: its owner may hold it, too.
    if (isSame && previous.resourceVersion === next.resourceVersion) return
    this.kept.set(key, next)
    if (isSame) {
      this.#tell(() => this.#options.updated?.(previous.value, next.value, key))
      return
    }
    // Deleted and made again under the same name while we were not looking.
    if (previous !== undefined) this.#tell(() => this.#options.deleted?.(previous.value, key))
    this.#tell(() => this.#options.added?.(next.value, key))
  }

  #remove(key: string, last?: Kept<V>): void {
    const previous = this.kept.get(key)
    if (previous === undefined) return
    this.kept.delete(key)
    this.#tell(() => this.#options.deleted?.((last ?? previous).value, key))
  }

  /** A handler's bug must neither end the watch nor pass unseen. */
  #tell(handler: () => void): void {
    if (this.#signal.aborted) return
    try {
      handler()
    } catch (thrown) {
      this.#logger.error({ error: thrown }, `a handler of the watch threw: ${errorMessage(thrown)}`)
    }
  }

  #report(failure: KubeFailure, waitMs: number): void {
    // What RBAC forbids it forbids until somebody changes it, and one line a retry would drown the others.
    const isNews = failure.kind !== 'forbidden' || failure.message !== this.#refusal
    if (failure.kind === 'forbidden') this.#refusal = failure.message
    // Losing one's place is routine for a quiet watch; everything else is news.
    const level = failure.kind === 'gone' ? 'info' : 'warn'
    if (isNews)
      this.#logger[level](
        { kind: failure.kind, status: failure.status, retryInMs: Math.round(waitMs) },
        failure.message,
      )
    this.#tell(() => this.#options.failed?.(failure))
  }

  #noteGranted(): void {
    this.#tell(() => this.#options.answered?.())
    if (this.#refusal !== undefined) this.#logger.info('the server lets us watch again')
    this.#refusal = undefined
  }
}

/** Whoever may not ask has to believe the 404. */
function unlessForbidden(failure: KubeFailure): KubeFailure | undefined {
  return failure.kind === 'forbidden' ? undefined : { ...failure, kind: 'unavailable' }
}

/** Whether one version is earlier than another. They are numbers, of any length (KEP-5504); of what is none nothing can be said. */
function isBefore(version: string | undefined, other: string | undefined): boolean {
  if (version === undefined || other === undefined) return false
  if (!/^[1-9]\d*$/.test(version) || !/^[1-9]\d*$/.test(other)) return false
  return version.length === other.length ? version < other : version.length < other.length
}
