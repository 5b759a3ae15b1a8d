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

/** What is known of a namespace of which policies were deleted. */
interface Namespace {
  /** Nobody has asked yet whether it is being deleted. */
  asking: readonly Deleted[]
  /** Until it is gone. */
  kept: readonly Deleted[]
  isAsked: boolean
}

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
    const namespace = this.#namespaces.get(name) ?? { asking: [], kept: [], isAsked: false }
    this.#namespaces.set(name, namespace)
    namespace.asking = [...namespace.asking, { kind, key }]
    if (namespace.isAsked) return
    this.#ask(name, namespace).catch((thrown: unknown) =>
      this.#options.logger.error({ error: thrown, namespace: name }, 'removing policies failed'),
    )
  }

  /** The policy is there, again perhaps. */
  isThere(kind: ClosingKind, key: ObjectKey): void {
    const namespace = this.#namespaces.get(namespaceOf(key))
    if (namespace === undefined) return
    const isOther = (each: Deleted): boolean => each.kind !== kind || each.key !== key
    namespace.asking = namespace.asking.filter(isOther)
    namespace.kept = namespace.kept.filter(isOther)
  }

  /** The namespace is gone, and what was in it. */
  namespaceGone(name: string): void {
    const namespace = this.#namespaces.get(name)
    if (namespace === undefined) return
    const { kept } = namespace
    namespace.kept = []
    if (!namespace.isAsked) this.#namespaces.delete(name)
    this.#remove(kept)
  }

  /** Whatever is undecided stays as it is. */
  close(): void {
    this.#closing.abort()
  }

  /** A namespace is marked before anything in it is deleted, so that an answer to a question asked since is the truth. */
  async #ask(name: string, namespace: Namespace): Promise<void> {
    const { isKnown, logger } = this.#options
    namespace.isAsked = true
    const backoff = new Backoff()
    while (namespace.asking.length > 0 && !this.#closing.signal.aborted) {
      const meant = new Set(namespace.asking)
      const isEnding = await this.#isEnding(name)
      if (isEnding === undefined) {
        await delay(backoff.next(), this.#closing.signal)
        continue
      }
      backoff.reset()
      // Those that came, and were made again, meanwhile are another question's.
      const answered = namespace.asking.filter((each) => meant.has(each))
      namespace.asking = namespace.asking.filter((each) => !meant.has(each))
      if (isEnding && isKnown(name)) {
        logger.info(
          { namespace: name, policies: answered.length },
          'a namespace is being deleted: its policies hold until it is gone',
        )
        namespace.kept = [...namespace.kept, ...answered]
      } else this.#remove(answered)
    }
    namespace.isAsked = false
    if (namespace.kept.length === 0) this.#namespaces.delete(name)
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

  #remove(policies: readonly Deleted[]): void {
    for (const { kind, key } of policies) this.#options.remove(kind, key)
  }
}

/** Of `cluster/namespace/name`: neither of the last two has a slash. */
function namespaceOf(key: ObjectKey): string {
  return key.split('/').at(-2) ?? ''
}
