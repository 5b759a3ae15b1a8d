// SPDX-License-Identifier: Apache-2.0
// The delta discovery server: offers typed resources to any number of clients over streams. It knows nothing of what the
// resources mean; who owns them sets and removes them, says who may see them, and says when a type is complete.

import { Metadata, type Server, type ServerDuplexStream, status } from '@grpc/grpc-js'
import { errorMessage } from '../errors.ts'
import { AggregatedDiscoveryService } from '../proto/gen/discovery_pb.js'
import { err, type Result } from '../result.ts'
import type { Logger } from '../telemetry/log.ts'
import { LogBudget } from '../telemetry/log-budget.ts'
import { Bucket, type BucketSize } from '../async/bucket.ts'
import { excerpt } from '../telemetry/excerpt.ts'
import { BulkPlaces } from './bulk-places.ts'
import { ClientView } from './client-view.ts'
import { Debounce } from './debounce.ts'
import { type HeldResources, heldResources } from './digest.ts'
import { grpcMethod } from '../grpc/method.ts'
import { type DeltaRequest, readRequest } from './request.ts'
import { aliasesOf, ResourceStore } from './resource-store.ts'
import type { ResourceType } from './resource-type.ts'
import { ResponseEncoder } from './response.ts'
import { MAX_MESSAGE_BYTES } from './protocol.ts'

/** Checking a token asks the Kubernetes API; beyond this the client should try again. */
const AUTHENTICATION_TIMEOUT_MS = 10_000

/** A response of more resources is bulk: some 400 KB. All clients at once may be sent smaller ones, for those are what changes are. */
const BULK_RESOURCES = 1_000
/**
 * Set aside for clients that are told much, each of whom may take what all resources take: twice, for gRPC copies a message to frame it, and what is not the
 * same for all is encoded for each.
 */
const BULK_BYTES = 512 * 1024 * 1024
const COPIES = 2
/** However large the mesh is; and while nobody knows how large it is. */
const LEAST_BULK_PLACES = 4
const MOST_BULK_PLACES = 256
/** A client that has not taken in and acknowledged what it was told makes room: 100,000 pods in that time are 6 Mbit/s. */
const BULK_DEADLINE_MS = 60_000
/** What was encoded for many is kept for so long after the last of them. */
const ENCODED_IDLE_MS = 10_000

/** Lines about callers that are refused: any pod can cause them. */
const STRANGERS_LINES = { burst: 100, perSecond: 10 }
/** Lines about clients that refuse what they are sent: one that lies can do so without an end. */
const REFUSAL_LINES = { burst: 100, perSecond: 10 }

/**
 * Streams of one caller: it has one, and for a moment two, where the one before is not known to be dead. Each may make us keep what it has asked for; over the bound
 * the oldest goes.
 */
const STREAMS_OF_CALLER = 4
/**
 * Requests that are read of one stream: a few at its beginning, of whatever size they may have, and one for each response. Whoever sends more waits at its
 * end of the wire, so that it has no more of our one thread than others.
 */
const REQUESTS: BucketSize = { burst: 4_000, perSecond: 400 }
/** So many bytes of a request cost as much as a request. */
const BYTES_PER_TOKEN = 16 * 1024
/** How soon it is looked whether such a stream is to be read again. */
const PACE_MS = 100

/** Options the grpc.Server that carries discovery needs. */
export const XDS_SERVER_OPTIONS = {
  'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
  'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
  // Finds clients that vanished without a FIN.
  'grpc.keepalive_time_ms': 30_000,
  'grpc.keepalive_timeout_ms': 10_000,
} as const

/** Who opened a stream. What else a caller is, the owner of an offer reads in visibleTo(). */
export interface XdsCaller {
  /** For the log. */
  readonly name: string
}

/** Why a stream is refused, as gRPC says it: what the caller can do about it depends on the code. */
export interface XdsRefusal {
  readonly code: Exclude<status, status.OK>
  readonly message: string
}

export interface XdsServerOptions<C extends XdsCaller> {
  readonly logger: Logger
  /** Decides from the call's metadata (bearer token) who the caller is, and whether anything is offered to them at all. */
  readonly authenticate: (
    metadata: Metadata,
    signal: AbortSignal,
    /** The caller's address, ip:port. */
    peer: string,
  ) => Promise<Result<C, XdsRefusal>>
  /**
   * Who is behind a caller: where many are to be told much, one owner's callers have two turns at a time at most. Each is its own if left
   * out.
   */
  readonly ownerOf?: (caller: C) => string
  /** How many resources a caller may ask for one by one; see MAX_EXPLICIT_NAMES. */
  readonly maxNamesOf?: (caller: C) => number
  /** Whose stream it is, where one caller is to have no more than a few: the name of the caller if left out. */
  readonly streamsOf?: (caller: C) => string
  /** How long `authenticate` may take. */
  readonly authenticationTimeoutMs?: number
  /** What is set aside for clients that are told much, and how long each may take; tests pass their own. */
  readonly bulk?: {
    readonly places?: number
    readonly resources?: number
    readonly deadlineMs?: number
  }
  /** How many requests are read of one stream; tests pass their own. */
  readonly requests?: BucketSize
  /** A client came or went. */
  readonly onClientCount?: (count: number) => void
  /** A client refused a response in part or whole. */
  readonly onRefusal?: (refusal: {
    readonly caller: string
    readonly node: string
    readonly typeUrl: string
    readonly message: string
  }) => void
}

/** What an operator may know of a connected client. */
export interface ClientReport {
  readonly caller: string
  /** The id that the client gives itself; empty until it has asked for something. */
  readonly node: string
  /** Names that wait to be sent, of all types. */
  readonly waiting: number
  /** Whether everything that was sent has been answered. */
  readonly isAnswered: boolean
}

export interface OfferOptions<C = XdsCaller, T = unknown> {
  /**
   * Of a type that a caller does not see whole, whether he sees this one; to him the others are not there. Asked anew whenever something is
   * to be sent, and for all names that look() is told of.
   */
  readonly sees?: (caller: C, name: string) => boolean
  /**
   * The type whose resources name these, where that matters: no client is told of a resource before it has been sent what
   * that names, nor loses what is named before it has been told that it is not named any more.
   */
  readonly namedBy?: Pick<ResourceType<unknown>, 'typeUrl'>
  /**
   * Of such a type, whether a resource concerns everybody, named or not. One that comes to concern those alone that name it is sent after
   * them, as if it were taken away: before them it would concern nobody.
   */
  readonly concernsAll?: (value: T) => boolean
  /** Some client's answer came, or a client came or went: clients() may say something else than before. */
  readonly onProgress?: () => void
}

/** A client that has asked for a type, as far as its owner may know. */
export interface FollowingClient<C> {
  readonly caller: C
  /** Whether it has acknowledged the present state of this resource. Told only of types with `onProgress`. */
  readonly isInStep: (name: string) => boolean
  /** Names whose present state it has not acknowledged; undefined: it does not follow all, or has acknowledged nothing yet. */
  readonly behind: () => Iterable<string> | undefined
}

/** One type that is offered, in the hands of its owner. */
export interface Offer<T, C = XdsCaller> {
  /** Changes what is offered; clients learn of it after a short quiet time. The last word on a name counts. */
  update(upserts: readonly T[], removed: readonly string[]): void
  /** Says that others than before may see these. */
  look(names: Iterable<string>): void
  /**
   * Says that the resources are all there. Until then nobody is answered: a half-filled answer to a reconnecting client
   * would take away what it rightly holds.
   */
  complete(): void
  /** Who has asked for the type. */
  clients(): Iterable<FollowingClient<C>>
  /** Name and version of each that is offered; equal contents have equal versions, whoever offers them. */
  versions(): Iterable<readonly [string, string]>
}

interface OfferedType<C> {
  readonly options: Omit<OfferOptions<C>, 'concernsAll'>
  /** Those that concern everybody; undefined where nobody says. */
  readonly wide: Set<string> | undefined
  readonly store: ResourceStore
  readonly encoder: ResponseEncoder
  readonly visibleTo: (caller: C) => boolean
  isComplete: boolean
  /** Changed since the last push, with the aliases each has or had. */
  readonly changed: Map<string, readonly string[]>
  /** Those among them that do not concern everybody any more. */
  readonly narrowed: Set<string>
}

interface ConnectedClient<C> {
  readonly call: DeltaCall
  readonly views: Map<string, ClientView>
  readonly caller: C
  /** Whose stream it is. */
  readonly owner: string
  node: string
  /** Its requests are read. Until then they wait where they come from. */
  isRead: boolean
  readonly requests: Bucket
  /** It has sent too many: it is looked at again then. */
  pace: NodeJS.Timeout | undefined
  /** The transport took all we wrote. */
  isWritable: boolean
}

// Responses are encoded by us, so that a resource is encoded once and not once per client.
type DeltaCall = ServerDuplexStream<DeltaRequest, Uint8Array>

/** Offers resources by type; add it to a grpc.Server with addXdsService(). */
export class XdsServer<C extends XdsCaller = XdsCaller> {
  readonly #options: XdsServerOptions<C>
  readonly #offers = new Map<string, OfferedType<C>>()
  readonly #clients = new Set<ConnectedClient<C>>()
  /** Of each caller the oldest first. */
  readonly #streams = new Map<string, Set<ConnectedClient<C>>>()
  readonly #strangers = new LogBudget(STRANGERS_LINES)
  readonly #refusals = new LogBudget(REFUSAL_LINES)
  readonly #debounce = new Debounce(() => this.#pushChanges())
  readonly #bulk: BulkPlaces<ConnectedClient<C>>
  #encodedIdle: NodeJS.Timeout | undefined

  constructor(options: XdsServerOptions<C>) {
    this.#options = options
    this.#bulk = new BulkPlaces({
      places: () => options.bulk?.places ?? this.#bulkPlaces(),
      ownerOf: (client) => options.ownerOf?.(client.caller) ?? client,
      begin: (client) => this.#beginBulk(client),
      isOverdue: (client) => this.#endOverdue(client),
      deadlineMs: options.bulk?.deadlineMs ?? BULK_DEADLINE_MS,
    })
  }

  /**
   * Says that there will be resources of this type, so that clients who ask early wait for them, and who may see them. To
   * anybody else the type does not exist.
   */
  offer<T>(
    type: ResourceType<T>,
    visibleTo: (caller: C) => boolean,
    { concernsAll, ...options }: OfferOptions<C, T> = {},
  ): Offer<T, C> {
    const { typeUrl } = type
    if (this.#offers.has(typeUrl)) throw new Error(`Cannot offer ${typeUrl} twice`)
    const offered: OfferedType<C> = {
      options,
      wide: concernsAll && new Set(),
      store: new ResourceStore(),
      encoder: new ResponseEncoder(typeUrl),
      visibleTo,
      isComplete: false,
      changed: new Map(),
      narrowed: new Set(),
    }
    this.#offers.set(typeUrl, offered)
    return {
      update: (upserts, removed) => {
        if (offered.wide !== undefined && concernsAll !== undefined)
          noteWide(offered.wide, offered.narrowed, {
            wide: upserts.filter(concernsAll).map(type.name),
            others: upserts.filter((value) => !concernsAll(value)).map(type.name),
            removed,
          })
        this.#update(type, offered, upserts, removed)
      },
      look: (names) => this.#look(offered, names),
      complete: () => {
        offered.isComplete = true
        this.#debounce.flush()
        this.#bulk.fill()
        for (const client of this.#clients) this.#sendPending(client)
      },
      clients: () => this.#following(typeUrl),
      versions: () => offered.store.versions(),
    }
  }

  *#following(typeUrl: string): Iterable<FollowingClient<C>> {
    // What is not pushed yet, no view knows of.
    const isPushed = (name: string): boolean => !this.#offers.get(typeUrl)?.changed.has(name)
    for (const { caller, views } of this.#clients) {
      const view = views.get(typeUrl)
      if (view === undefined) continue
      yield {
        caller,
        isInStep: (name) => isPushed(name) && view.isInStep(name),
        behind: () => {
          const behind = view.behind()
          return behind && behind.union(new Set(this.#offers.get(typeUrl)?.changed.keys()))
        },
      }
    }
  }

  #update<T>(
    type: ResourceType<T>,
    { store, changed }: OfferedType<C>,
    upserts: readonly T[],
    removed: readonly string[],
  ): void {
    for (const name of removed) {
      const previous = store.delete(name)
      if (previous !== undefined) note(changed, name, aliasesOf(previous))
    }
    for (const value of upserts) {
      const name = type.name(value)
      const aliases = type.aliases(value)
      const previous = store.get(name)
      const previousAliases = previous === undefined ? [] : aliasesOf(previous)
      if (!store.set({ name, aliases, payload: type.encode(value) })) continue
      note(changed, name, [...previousAliases, ...aliases])
    }
    if (changed.size > 0) this.#debounce.trigger()
  }

  #look({ store, changed }: OfferedType<C>, names: Iterable<string>): void {
    for (const name of names) {
      const resource = store.get(name)
      if (resource !== undefined) note(changed, name, aliasesOf(resource))
    }
    if (changed.size > 0) this.#debounce.trigger()
  }

  /** What is offered of each type, by type URL. */
  offered(): Readonly<Record<string, HeldResources>> {
    return Object.fromEntries(
      [...this.#offers].map(([typeUrl, { store }]) => [typeUrl, heldResources(store.versions())]),
    )
  }

  /** Who is connected, and how far each is. */
  clients(): readonly ClientReport[] {
    return [...this.#clients].map(({ caller, node, views }) => ({
      caller: caller.name,
      node,
      waiting: [...views.values()].reduce((sum, { pendingNames }) => sum + pendingNames, 0),
      isAnswered: [...views.values()].every((view) => view.isAnswered),
    }))
  }

  get clientCount(): number {
    return this.#clients.size
  }

  /** Ends all streams; clients will look for another replica. */
  stop(): void {
    this.#debounce.stop()
    this.#bulk.stop()
    clearTimeout(this.#encodedIdle)
    for (const { call } of this.#clients)
      call.emit('error', { code: status.UNAVAILABLE, details: 'the control plane is stopping' })
    for (const { pace } of this.#clients) clearTimeout(pace)
    this.#clients.clear()
    this.#streams.clear()
  }

  /** Serves one stream; addXdsService() calls it. */
  async serve(call: DeltaCall): Promise<void> {
    let caller = ''
    call.on('error', (error: Error) => {
      this.#options.logger.debug({ caller, reason: error.message }, 'stream error')
    })
    const verdict = await this.#authenticate(call)
    if (!verdict.ok) {
      const keptBack = this.#strangers.take()
      if (keptBack !== undefined)
        this.#options.logger.warn(
          { peer: call.getPeer(), reason: verdict.error.message, keptBack },
          'caller refused',
        )
      fail(call, verdict.error.code, verdict.error.message)
      return
    }
    if (call.cancelled) return
    caller = verdict.value.name
    const client: ConnectedClient<C> = {
      call,
      views: new Map(),
      caller: verdict.value,
      owner: this.#options.streamsOf?.(verdict.value) ?? caller,
      node: '',
      isRead: false,
      requests: new Bucket(this.#options.requests ?? REQUESTS),
      pace: undefined,
      isWritable: true,
    }
    const leave = (): void => this.#drop(client)
    this.#clients.add(client)
    this.#countStream(client)
    this.#options.onClientCount?.(this.#clients.size)
    call.on('cancelled', leave)
    call.on('close', leave)
    call.on('drain', () => {
      client.isWritable = true
      this.#sendPending(client)
    })
    // Tells the client at once that it is connected and let in.
    call.sendMetadata(new Metadata())
    this.#bulk.enter(client)
  }

  #countStream(client: ConnectedClient<C>): void {
    const { owner } = client
    const own = this.#streams.get(owner) ?? new Set()
    this.#streams.set(owner, own.add(client))
    const [oldest] = own
    if (own.size <= STREAMS_OF_CALLER || oldest === undefined) return
    const keptBack = this.#strangers.take()
    if (keptBack !== undefined)
      this.#options.logger.warn(
        { caller: client.caller.name, keptBack },
        'a caller has too many streams: the oldest is ended',
      )
    this.#drop(oldest)
    fail(oldest.call, status.RESOURCE_EXHAUSTED, 'its caller has too many streams')
  }

  /** As many as there is memory for, were each sent everything. */
  #bulkPlaces(): number {
    let bytes = 0
    for (const { isComplete, store } of this.#offers.values()) {
      if (!isComplete) return LEAST_BULK_PLACES
      bytes += store.bytes
    }
    const places = Math.floor(BULK_BYTES / Math.max(1, COPIES * bytes))
    return Math.min(MOST_BULK_PLACES, Math.max(LEAST_BULK_PLACES, places))
  }

  #beginBulk(client: ConnectedClient<C>): void {
    if (client.isRead) {
      this.#sendPending(client)
      return
    }
    client.isRead = true
    const { call } = client
    call.on('end', () => {
      this.#drop(client)
      call.end()
    })
    call.on('data', (request: DeltaRequest) => {
      this.#onRequest(client, request)
      client.requests.charge(1 + request.bytes / BYTES_PER_TOKEN)
      if (!client.requests.hasToken) this.#paceLater(client)
    })
  }

  #paceLater(client: ConnectedClient<C>): void {
    client.call.pause()
    clearTimeout(client.pace)
    client.pace = setTimeout(() => {
      if (client.requests.hasToken) client.call.resume()
      else this.#paceLater(client)
    }, PACE_MS)
    client.pace.unref()
  }

  get #bulkResources(): number {
    return this.#options.bulk?.resources ?? BULK_RESOURCES
  }

  /** Whether it has still to take in what it asked for first, or a large change. */
  #takesBulk({ views }: ConnectedClient<C>): boolean {
    for (const view of views.values()) if (view.takesMoreThan(this.#bulkResources)) return true
    return false
  }

  /** Whether the client loses its place; and if it has not taken what it was sent, its stream, too, for that takes memory. */
  #endOverdue(client: ConnectedClient<C>): boolean {
    const isOurs = [...client.views.keys()].some(
      (typeUrl) => this.#offers.get(typeUrl)?.isComplete !== true,
    )
    if (isOurs) return false
    if (!this.#takesBulk(client)) return true
    const { logger } = this.#options
    logger.warn({ caller: client.caller.name, node: client.node }, 'client does not keep up')
    this.#drop(client)
    fail(client.call, status.DEADLINE_EXCEEDED, 'what was sent is not acknowledged in time')
    return true
  }

  #drop(client: ConnectedClient<C>): void {
    if (!this.#clients.delete(client)) return
    clearTimeout(client.pace)
    const own = this.#streams.get(client.owner)
    own?.delete(client)
    if (own?.size === 0) this.#streams.delete(client.owner)
    this.#bulk.leave(client)
    this.#options.onClientCount?.(this.#clients.size)
    for (const typeUrl of client.views.keys()) this.#offers.get(typeUrl)?.options.onProgress?.()
  }

  async #authenticate(call: DeltaCall): Promise<Result<C, XdsRefusal>> {
    const { authenticate, authenticationTimeoutMs = AUTHENTICATION_TIMEOUT_MS } = this.#options
    const signal = AbortSignal.timeout(authenticationTimeoutMs)
    const { promise: expired, resolve } = Promise.withResolvers<Result<never, XdsRefusal>>()
    const late = `Cannot check the caller: no answer in ${authenticationTimeoutMs} ms`
    const onExpired = (): void => resolve(err({ code: status.UNAVAILABLE, message: late }))
    signal.addEventListener('abort', onExpired, { once: true })
    try {
      return await Promise.race([authenticate(call.metadata, signal, call.getPeer()), expired])
    } catch (thrown) {
      // A fault in the check is no permission.
      const message = `Cannot check the caller: ${errorMessage(thrown)}`
      return err({ code: status.INTERNAL, message })
    } finally {
      signal.removeEventListener('abort', onExpired)
    }
  }

  #onRequest(client: ConnectedClient<C>, { message: request, held }: DeltaRequest): void {
    const { logger, onRefusal } = this.#options
    const { typeUrl } = request
    // It is kept, and told in lines and reports.
    if (request.node !== undefined) client.node = excerpt(request.node.id)
    const view = this.#view(client, typeUrl)
    if (view === undefined) {
      const keptBack = this.#strangers.take()
      const { name: caller } = client.caller
      if (keptBack !== undefined)
        logger.info(
          { caller, typeUrl: excerpt(typeUrl), keptBack },
          'nothing of this type is offered to the caller',
        )
      return
    }
    const { refusal, violation, isAnswer } = view.onRequest(request, held)
    if (violation !== undefined) {
      const { caller, node } = client
      logger.warn({ caller: caller.name, node, violation }, 'client cut off')
      this.#drop(client)
      fail(client.call, status.RESOURCE_EXHAUSTED, violation)
      return
    }
    if (refusal !== undefined) {
      const { node } = client
      const caller = client.caller.name
      const message = excerpt(refusal)
      const keptBack = this.#refusals.take()
      if (keptBack !== undefined)
        logger.error(
          { caller, node, typeUrl, refusal: message, keptBack },
          'client refused resources',
        )
      onRefusal?.({ caller, node, typeUrl, message })
    }
    // First, so that who is to be told more of that kind waits behind the others.
    if (isAnswer && this.#bulk.has(client) && !this.#takesBulk(client)) this.#bulk.leave(client)
    this.#sendPending(client)
    if (isAnswer) this.#offers.get(typeUrl)?.options.onProgress?.()
  }

  #view(client: ConnectedClient<C>, typeUrl: string): ClientView | undefined {
    const known = client.views.get(typeUrl)
    if (known !== undefined) return known
    const offer = this.#offers.get(typeUrl)
    // Whether a type is hidden or unknown is the same to the caller.
    if (offer?.visibleTo(client.caller) !== true) return undefined
    const { caller } = client
    const { wide } = offer
    const { sees, onProgress } = offer.options
    const view = new ClientView(
      offer.store,
      onProgress !== undefined,
      sees && ((name) => sees(caller, name)),
      this.#options.maxNamesOf?.(caller),
      wide && ((name) => wide.has(name)),
    )
    client.views.set(typeUrl, view)
    return view
  }

  #pushChanges(): void {
    for (const [typeUrl, { changed, narrowed }] of this.#offers) {
      for (const client of this.#clients) {
        const view = client.views.get(typeUrl)
        if (view === undefined) continue
        for (const [name, aliases] of changed) view.onChange(name, aliases, narrowed.has(name))
      }
      changed.clear()
      narrowed.clear()
    }
    for (const client of this.#clients) this.#sendPending(client)
  }

  #sendPending(client: ConnectedClient<C>): void {
    const offers = [...this.#offers]
    const named = offers.filter(([, { options }]) => options.namedBy !== undefined)
    // What is named comes before what names it; what is named no more, after.
    for (const [typeUrl, offered] of named) this.#sendBatch(client, typeUrl, offered)
    for (const [typeUrl, offered] of offers)
      if (offered.options.namedBy === undefined && !this.#lacksNamed(client, typeUrl))
        this.#sendBatch(client, typeUrl, offered)
    for (const [typeUrl, offered] of named) this.#sendBatch(client, typeUrl, offered)
  }

  /** Whether the client has still to be sent something that resources of this type may name. */
  #lacksNamed({ views }: ConnectedClient<C>, typeUrl: string): boolean {
    for (const [named, { options, changed }] of this.#offers) {
      if (options.namedBy?.typeUrl !== typeUrl) continue
      const view = views.get(named)
      // What has changed and is not pushed yet, no view knows of: the resource that names it would go before it.
      if (view !== undefined && (changed.size > 0 || view.lacksResources)) return true
    }
    return false
  }

  #sendBatch(client: ConnectedClient<C>, typeUrl: string, offered: OfferedType<C>): void {
    const view = client.views.get(typeUrl)
    if (view === undefined || !client.isWritable || !offered.isComplete) return
    if (view.isAnswered && view.nextCount > this.#bulkResources && !this.#bulk.has(client)) {
      this.#bulk.enter(client)
      return
    }
    const { namedBy } = offered.options
    const naming = namedBy && client.views.get(namedBy.typeUrl)
    // Who has not asked yet for what names them will.
    const holdsNarrowed = namedBy !== undefined && naming?.isBehind !== false
    const batch = view.takeBatch(naming?.isBehind === true, holdsNarrowed)
    if (batch === undefined) return
    const { nonce, bytes } = offered.encoder.encode(batch, view.lastNonce)
    view.sentAs(nonce)
    client.isWritable = client.call.write(bytes)
    this.#forgetEncodedLater()
  }

  #forgetEncodedLater(): void {
    if (this.#encodedIdle !== undefined) {
      this.#encodedIdle.refresh()
      return
    }
    this.#encodedIdle = setTimeout(() => {
      this.#encodedIdle = undefined
      for (const { encoder } of this.#offers.values()) encoder.forget()
    }, ENCODED_IDLE_MS)
    this.#encodedIdle.unref()
  }
}

/** Serves delta discovery on this server, beside whatever else it serves. */
export function addXdsService<C extends XdsCaller>(server: Server, xds: XdsServer<C>): void {
  const method = grpcMethod(AggregatedDiscoveryService.method.deltaAggregatedResources)
  const definition = {
    deltaAggregatedResources: {
      ...method,
      requestDeserialize: readRequest,
      responseSerialize: (bytes: Uint8Array) =>
        Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength),
    },
  }
  server.addService(definition, {
    deltaAggregatedResources: (call: DeltaCall) => void xds.serve(call),
  })
}

/** Keeps who concerns everybody, and those that do so no more. */
function noteWide(
  known: Set<string>,
  narrowed: Set<string>,
  now: Readonly<Record<'wide' | 'others' | 'removed', readonly string[]>>,
): void {
  // One that goes may come back before anybody has heard of it, and not for everybody.
  for (const name of [...now.removed, ...now.others]) if (known.delete(name)) narrowed.add(name)
  for (const name of now.wide) known.add(name)
}

/** Notes a change beside those that are not pushed yet: whoever asked by any alias since must hear of it. */
function note(
  changed: Map<string, readonly string[]>,
  name: string,
  aliases: readonly string[],
): void {
  const earlier = changed.get(name) ?? []
  changed.set(name, [...new Set([...earlier, ...aliases])])
}

function fail(call: DeltaCall, code: status, details: string): void {
  call.emit('error', { code, details })
}
