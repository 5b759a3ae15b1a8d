// SPDX-License-Identifier: Apache-2.0
// Policies that Kubernetes deletes because their namespace is deleted. Before 1.33 it does so in no order to rely on, while pods of the namespace run
// for as long as they are graced: those would be open to everybody at their end. So such a policy goes when its namespace has gone, which is after
// the last pod. What somebody deletes by itself goes at once.

import { Backoff, delay } from '../../mesh/async/backoff.ts'
import { type KubeApi, NAMESPACES } from '../../mesh/kube/index.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import type { InputKind } from '../core/input.ts'
import type { ObjectKey } from '../core/origin.ts'

/** Kinds without whose objects more may be allowed than with them. */
const CLOSING = ['AuthorizationPolicy', 'PeerAuthentication', 'NetworkPolicy'] as const

export type ClosingKind = (typeof CLOSING)[number]

export const isClosing = (kind: InputKind): kind is ClosingKind =>
  (CLOSING as readonly InputKind[]).includes(kind)

interface Deleted {
  readonly kind: ClosingKind
  readonly key: ObjectKey
}

export interface DepartingPoliciesOptions {
  readonly api: Pick<KubeApi, 'list'>
  /** Whether the watch of namespaces has it. */
  readonly isKnown: (namespace: string) => boolean
  readonly remove: (kind: ClosingKind, key: ObjectKey) => void
  readonly logger: Logger
}

/** By kind and key. */
type Policies = Map<string, Deleted>

/** What is known of a namespace of which policies were deleted. */
interface Namespace {
  /** Of which it is to be asked whether they go with their namespace. */
  waiting: Policies
  /** The question that is under way. */
  asked: Policies | undefined
  /** Until it is gone. */
  kept: Policies
  /** It was gone after the question: the answer is about the one before. */
  isGoneSince: boolean
}

const idOf = ({ kind, key }: Deleted): string => `${kind} ${key}`

export class DepartingPolicies {
  readonly #options: DepartingPoliciesOptions
  readonly #closing = new AbortController()
  readonly #namespaces = new Map<string, Namespace>()

  constructor(options: DepartingPoliciesOptions) {
    this.#options = options
  }

  /** The policy is deleted: it is removed at once, or with its namespace. */
  deleted(kind: ClosingKind, key: ObjectKey): void {
    const name = namespaceOf(key)
    let namespace = this.#namespaces.get(name)
    if (namespace === undefined) {
      namespace = { waiting: new Map(), asked: undefined, kept: new Map(), isGoneSince: false }
      this.#namespaces.set(name, namespace)
    }
    const policy = { kind, key }
    namespace.waiting.set(idOf(policy), policy)
    if (namespace.asked !== undefined) return
    this.#ask(name, namespace).catch((thrown: unknown) =>
      this.#options.logger.error({ error: thrown, namespace: name }, 'removing policies failed'),
    )
  }

  /** The policy is there, again perhaps. */
  isThere(kind: ClosingKind, key: ObjectKey): void {
    const namespace = this.#namespaces.get(namespaceOf(key))
    if (namespace === undefined) return
    const id = idOf({ kind, key })
    for (const policies of [namespace.waiting, namespace.asked, namespace.kept])
      policies?.delete(id)
  }

  /** The namespace is gone, and what was in it. */
  namespaceGone(name: string): void {
    const namespace = this.#namespaces.get(name)
    if (namespace === undefined) return
    const { kept } = namespace
    namespace.kept = new Map()
    namespace.isGoneSince = true
    if (namespace.asked === undefined) this.#namespaces.delete(name)
    this.#remove(kept)
  }

  /** Whatever is undecided stays as it is. */
  close(): void {
    this.#closing.abort()
  }

  /** A namespace is marked before anything in it is deleted, so that an answer to a question asked since is the truth. */
  async #ask(name: string, namespace: Namespace): Promise<void> {
    const { isKnown, logger } = this.#options
    const backoff = new Backoff()
    while (namespace.waiting.size > 0 && !this.#closing.signal.aborted) {
      const asked = namespace.waiting
      namespace.asked = asked
      // Those that come meanwhile are another question's.
      namespace.waiting = new Map()
      namespace.isGoneSince = false
      const isEnding = await this.#isEnding(name)
      if (isEnding === undefined) {
        await delay(backoff.next(), this.#closing.signal)
        namespace.waiting = new Map([...asked, ...namespace.waiting])
        continue
      }
      backoff.reset()
      if (isEnding && isKnown(name) && !namespace.isGoneSince) {
        logger.info(
          { namespace: name, policies: asked.size },
          'a namespace is being deleted: its policies hold until it is gone',
        )
        namespace.kept = new Map([...namespace.kept, ...asked])
      } else this.#remove(asked)
    }
    namespace.asked = undefined
    if (namespace.kept.size === 0) this.#namespaces.delete(name)
  }

  /** Undefined where nobody can say: the policy holds until somebody can. */
  async #isEnding(name: string): Promise<boolean | undefined> {
    const { api, logger } = this.#options
    const { signal } = this.#closing
    const fieldSelector = `metadata.name=${name}`
    const found = await api.list(NAMESPACES, { fieldSelector, signal })
    if (found.ok)
      return found.value.items.some(({ metadata }) => metadata?.deletionTimestamp !== undefined)
    if (!signal.aborted)
      logger.warn(
        { namespace: name, reason: found.error.message },
        'cannot see whether a namespace is being deleted: a policy that was deleted in it still holds',
      )
    return undefined
  }

  #remove(policies: Policies): void {
    for (const { kind, key } of policies.values()) this.#options.remove(kind, key)
  }
}

/** Of `cluster/namespace/name`: neither of the last two has a slash. */
function namespaceOf(key: ObjectKey): string {
  return key.split('/').at(-2) ?? ''
}
