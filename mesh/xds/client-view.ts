// SPDX-License-Identifier: Apache-2.0
// What one connected client wants of one resource type and what it still has to be sent. Pure bookkeeping: a client that
// reads slowly costs a set of names, never a queue of responses, because a name that changes ten times while it waits
// is sent once, in its last state.

import type { DeltaDiscoveryRequest } from '../proto/gen/discovery_pb.js'
import type { StoredResource } from './resource-store.ts'
import { WILDCARD } from './protocol.ts'
import { ReachedByAlias } from './reached-by-alias.ts'
import type { HeldVersions } from './request.ts'
import { type Resources, VisibleResources } from './visible-resources.ts'

/** Names one client may ask for one by one; more is no honest client. */
export const MAX_EXPLICIT_NAMES = 200_000
/** What is offered has shorter ones: cluster, namespace and name of an object, or a host name and its namespace. */
const LONGEST_NAME = 1_024

const NOTHING: HeldVersions = new Map()
/** No answer has it. */
const NONCE_TO_COME = ''

/** What to send next. */
export interface PendingBatch {
  readonly resources: readonly StoredResource[]
  readonly removed: readonly string[]
}

/** The server's view of one client and one type. */
export class ClientView {
  readonly #store: Resources
  #isOpened = false
  #isWildcard = false
  readonly #explicit = new Set<string>()
  /** What else the client holds, for it asked by another name that may be lost since. */
  readonly #reached = new ReachedByAlias()
  /** Names to send, in their present state or as removed. */
  readonly #dirty = new Set<string>()
  /** Those of them that the client has as something that may concern everybody, and that do not any more. */
  readonly #narrowed = new Set<string>()
  /** Undefined where none concerns more than what names it. */
  readonly #concernsAll: ((name: string) => boolean) | undefined
  // What was asked for is compared with the store only when it is answered: the store may still be filling, and what it
  // lacks now is not gone.
  /** Versions the client says it holds, while it waits for everything. */
  #awaitsAll: HeldVersions | undefined
  #isAllWithdrawn = false
  readonly #awaitedNames = new Set<string>()
  #hasAnswered = false
  #awaitedNonce: string | undefined
  /** Of the last response. */
  #lastNonce: string | undefined
  #wasAcknowledged = false
  /** Resources in the response that the client has still to answer. */
  #outstanding = 0
  /** What was sent and is not acknowledged; undefined where nobody asks. */
  readonly #unacknowledged: Set<string> | undefined
  /** What was in a response that the client refused, in part or whole. */
  readonly #refused = new Set<string>()
  /** What the client has of a type that it does not see whole; undefined where it sees all. */
  readonly #held: Set<string> | undefined
  readonly #maxNames: number

  /**
   * @param tracks whether isInStep() will be asked
   * @param sees what of the store the client may see; all, where nothing is said. When its answer changes for a name, onChange() is to be
   * told of that.
   * @param maxNames how many it may ask for one by one
   * @param concernsAll whether the present state of one concerns everybody, and not those alone that name it
   */
  constructor(
    store: Resources,
    tracks = false,
    sees?: (name: string) => boolean,
    maxNames = MAX_EXPLICIT_NAMES,
    concernsAll?: (name: string) => boolean,
  ) {
    this.#concernsAll = concernsAll
    this.#maxNames = maxNames
    this.#store = sees === undefined ? store : new VisibleResources(store, sees)
    this.#held = sees && new Set()
    this.#unacknowledged = tracks ? new Set() : undefined
  }

  /**
   * Takes a request in, and what it says the client holds. Gives the refusal when it is one, an error text when the client misbehaves, and whether it was the answer
   * to our last response.
   */
  onRequest(
    request: DeltaDiscoveryRequest,
    held: HeldVersions = new Map(Object.entries(request.initialResourceVersions)),
  ): {
    readonly refusal?: string
    readonly violation?: string
    readonly isAnswer: boolean
  } {
    const isAnswer = request.responseNonce !== '' && request.responseNonce === this.#awaitedNonce
    if (isAnswer) this.#onAnswer(request.errorDetail !== undefined)
    const isFirst = !this.#isOpened
    this.#isOpened = true
    // xDS: a first request that names nothing wants everything.
    const isImplicitWildcard = isFirst && request.resourceNamesSubscribe.length === 0
    if (isImplicitWildcard || request.resourceNamesSubscribe.includes(WILDCARD)) {
      this.#isWildcard = true
      this.#isAllWithdrawn = false
      this.#awaitsAll ??= isFirst ? held : NOTHING
    }
    for (const name of request.resourceNamesSubscribe) {
      if (name === WILDCARD) continue
      // It is kept for as long as the stream lasts, and nothing else bounds what a client makes us keep.
      if (name.length > LONGEST_NAME)
        return { violation: `asks for a name of ${name.length} characters`, isAnswer }
      this.#explicit.add(name)
      this.#awaitedNames.add(name)
    }
    for (const name of request.resourceNamesUnsubscribe) {
      if (name === WILDCARD) {
        this.#isWildcard = false
        // On-demand clients ask for everything and take it back at once: they get an empty answer.
        if (this.#awaitsAll !== undefined) this.#isAllWithdrawn = true
      } else {
        this.#explicit.delete(name)
        this.#awaitedNames.delete(name)
        this.#reached.unsubscribe(name)
      }
    }
    if (isFirst && !this.#isWildcard) this.#followHeld(held)
    if (Math.max(this.#explicit.size, this.#awaitedNames.size) > this.#maxNames)
      return { violation: `asks for more than ${this.#maxNames} names one by one`, isAnswer }
    const refusal = request.errorDetail?.message
    // One that refuses what it was not sent says nothing.
    return refusal === undefined || !isAnswer ? { isAnswer } : { refusal, isAnswer }
  }

  #onAnswer(isRefusal: boolean): void {
    this.#awaitedNonce = undefined
    this.#wasAcknowledged = true
    this.#outstanding = 0
    if (this.#unacknowledged === undefined) return
    // Which of them it refused, a client does not say in a form that one could go by.
    for (const name of this.#unacknowledged)
      if (isRefusal) this.#refused.add(name)
      else this.#refused.delete(name)
    this.#unacknowledged.clear()
  }

  /** Notes that a resource changed or went; `aliases` are those it has or had. `narrows`: it concerned everybody, and does not any more. */
  onChange(name: string, aliases: readonly string[], narrows = false): void {
    if (!this.#isOpened) return
    // Before the first answer the client holds what it said it holds, and will be compared with the store by that.
    if (this.#awaitsAll !== undefined && !this.#hasAnswered) return
    // That something goes which the client never had would tell it that there was something.
    if (this.#held?.has(name) === false && this.#store.get(name) === undefined) {
      this.#dirty.delete(name)
      return
    }
    if (this.#explicit.size > 0)
      for (const alias of aliases) if (this.#explicit.has(alias)) this.#reached.add(alias, name)
    if (this.#isWildcard || this.#explicit.has(name) || this.#reached.has(name)) {
      this.#dirty.add(name)
      if (narrows) this.#narrowed.add(name)
    }
  }

  /**
   * Takes what is to be sent now: nothing while the last response is unanswered. Call it only when the store is
   * complete, and sentAs() then.
   *
   * @param holdsRemovals leaves what is gone for another time
   * @param holdsNarrowed leaves what does not concern everybody any more
   */
  takeBatch(holdsRemovals = false, holdsNarrowed = holdsRemovals): PendingBatch | undefined {
    if (this.#awaitedNonce !== undefined) return undefined
    if (this.#awaitsAllAnew) return this.#takeAll()
    // Even an empty mesh is an answer: the client waits for it.
    const owesResponse = this.#awaitsAll !== undefined
    this.#resolveAwaited()
    if (this.#dirty.size === 0 && !owesResponse) return undefined
    const resources: StoredResource[] = []
    const removed: string[] = []
    for (const name of this.#dirty) {
      const resource = this.#store.get(name)
      if (resource !== undefined) {
        if (holdsNarrowed && this.#narrowed.has(name)) continue
        this.#narrowed.delete(name)
        resources.push(resource)
        this.#held?.add(name)
      } else if (holdsRemovals) continue
      else {
        removed.push(name)
        this.#narrowed.delete(name)
        this.#reached.remove(name)
        this.#held?.delete(name)
      }
      this.#dirty.delete(name)
      this.#unacknowledged?.add(name)
    }
    if (resources.length === 0 && removed.length === 0 && !owesResponse) return undefined
    return this.#taken({ resources, removed })
  }

  /** The batch goes out under this nonce, which is not that of the response before. */
  sentAs(nonce: string): void {
    this.#awaitedNonce = nonce
    this.#lastNonce = nonce
  }

  /** The nonce of the last response. */
  get lastNonce(): string | undefined {
    return this.#lastNonce
  }

  /** Whether the client is to be sent all there is, and nothing else: it holds nothing. */
  get #awaitsAllAnew(): boolean {
    return (
      this.#awaitsAll?.size === 0 &&
      !this.#isAllWithdrawn &&
      this.#dirty.size === 0 &&
      this.#awaitedNames.size === 0
    )
  }

  /** As going through all names would, without that: of a large mesh it is most of what such a client costs. */
  #takeAll(): PendingBatch {
    const resources = this.#store.all()
    this.#awaitsAll = undefined
    if (this.#held !== undefined) for (const { name } of resources) this.#held.add(name)
    if (this.#unacknowledged !== undefined)
      for (const { name } of resources) this.#unacknowledged.add(name)
    return this.#taken({ resources, removed: [] })
  }

  #taken(batch: PendingBatch): PendingBatch {
    this.#hasAnswered = true
    this.#awaitedNonce = NONCE_TO_COME
    this.#outstanding = batch.resources.length
    return batch
  }

  /** Whether the client has answered what it was sent. */
  get isAnswered(): boolean {
    return this.#awaitedNonce === undefined
  }

  /** Whether anything waits to be sent. */
  get isBehind(): boolean {
    return this.#dirty.size > 0 || this.#awaitedNames.size > 0 || this.#awaitsAll !== undefined
  }

  /** Whether something that there is waits to be sent, and not for what names it. */
  get lacksResources(): boolean {
    if (this.#awaitedNames.size > 0 || this.#awaitsAll !== undefined) return true
    for (const name of this.#dirty)
      if (!this.#narrowed.has(name) && this.#store.get(name) !== undefined) return true
    return false
  }

  /** Whether the client has acknowledged the present state of this resource. */
  isInStep(name: string): boolean {
    if (!this.#hasAnswered || this.#awaitsAll !== undefined) return false
    if (!this.#isWildcard && !this.#explicit.has(name)) return false
    const isSent = !this.#dirty.has(name) && !this.#awaitedNames.has(name)
    return isSent && this.#unacknowledged?.has(name) === false && !this.#refused.has(name)
  }

  /** Names whose present state the client has not acknowledged; undefined: it does not follow all, or has acknowledged nothing yet. */
  behind(): ReadonlySet<string> | undefined {
    if (!this.#hasAnswered || this.#awaitsAll !== undefined || !this.#isWildcard) return undefined
    return new Set([
      ...this.#dirty,
      ...this.#awaitedNames,
      ...(this.#unacknowledged ?? []),
      ...this.#refused,
    ])
  }

  /** Whether the client's first response, or one of more resources than this, is still to be sent or acknowledged. */
  takesMoreThan(resources: number): boolean {
    return !this.#wasAcknowledged || this.#outstanding > resources
  }

  /** How many resources the next response may have, at the most. */
  get nextCount(): number {
    const all = this.#awaitsAll === undefined ? 0 : this.#store.count
    return this.#dirty.size + this.#awaitedNames.size + all
  }

  /** Names waiting to be sent; what a slow client costs. */
  get pendingNames(): number {
    return this.#dirty.size
  }

  /** A client that comes again holds what it once asked for by whatever name: it is told what became of it, and what will. */
  #followHeld(held: HeldVersions): void {
    if (held.size === 0) return
    for (const [name] of held) if (name.length <= LONGEST_NAME) this.#explicit.add(name)
    this.#awaitsAll ??= held
    this.#isAllWithdrawn = true
  }

  #resolveAwaited(): void {
    const known = this.#awaitsAll
    this.#awaitsAll = undefined
    if (known !== undefined) {
      const names = new Set<string>()
      for (const [name, version] of known) {
        names.add(name)
        this.#held?.add(name)
        if (this.#store.get(name)?.version === version) continue
        this.#dirty.add(name)
        // It may have concerned everybody in the version that the client has.
        if (this.#concernsAll?.(name) === false) this.#narrowed.add(name)
      }
      const others = this.#isAllWithdrawn ? [] : this.#store.names()
      for (const name of others) if (!names.has(name)) this.#dirty.add(name)
    }
    for (const nameOrAlias of this.#awaitedNames) {
      const names = this.#store.resolve(nameOrAlias)
      // Unknown: its removal is the answer, so that the client need not wait for a timeout.
      if (names.length === 0) this.#dirty.add(nameOrAlias)
      for (const name of names) {
        this.#dirty.add(name)
        if (name !== nameOrAlias) this.#reached.add(nameOrAlias, name)
      }
    }
    this.#awaitedNames.clear()
  }
}
