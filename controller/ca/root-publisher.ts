// SPDX-License-Identifier: Apache-2.0
// Publishes the roots as ConfigMap istio-ca-root-cert in each namespace, and puts it right when they change, or when somebody
// edits or deletes it, or has taken off the label that says whose it is. Runs on the leader only.

import { Backoff, delay } from '../../mesh/async/backoff.ts'
import {
  CONFIG_MAPS,
  type KubeApi,
  type KubeFailure,
  NAMESPACES,
  type ResourceWatch,
  watchResource,
} from '../../mesh/kube/index.ts'
import { hasSameCertificates } from '../../mesh/identity/pem.ts'
import { ROOT_LABEL } from '../../mesh/model/names.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import type { Authority } from './authority-source.ts'

/** Istio's name and key, so that whatever mounts it keeps working. */
const ROOT_CONFIG_MAP = 'istio-ca-root-cert'
const ROOT_KEY = 'root-cert.pem'
/** A namespace that refuses the ConfigMap (a quota, a webhook) is tried for ever, but rarely. */
const WRITE_RETRIES = { firstMs: 1_000, longestMs: 150_000 }
const PUBLISHED = 'published'
const LABELS = { 'istio.io/config': 'true', [ROOT_LABEL]: PUBLISHED }
/** Writes at a time: a new cluster of a thousand namespaces is done in seconds without flooding the API server. */
const MAX_CONCURRENT_WRITES = 4

export interface RootPublisherOptions {
  readonly authority: Authority
  readonly log: Logger
  /** Ends the publishing. */
  readonly signal: AbortSignal
  /** Told of each write. */
  readonly onWrite?: (namespace: string) => void
}

/** Publishes until the signal aborts; resolves when the last write is over. */
export async function publishRoot(api: KubeApi, options: RootPublisherOptions): Promise<void> {
  const publisher = new RootPublisher(api, options)
  await publisher.finished()
}

/** What is read of a Namespace. */
interface SeenNamespace {
  readonly name: string | undefined
  readonly isLeaving: boolean
}

/** What is read of the ConfigMap in one namespace. */
interface SeenConfigMap {
  readonly namespace: string | undefined
  readonly rootsPem: string | undefined
  readonly isMarked: boolean
}

class RootPublisher {
  readonly #api: KubeApi
  readonly #options: RootPublisherOptions
  /** Namespaces to look at, in order. */
  readonly #pending = new Set<string>()
  readonly #busy = new Map<string, Promise<void>>()
  /** Of namespaces whose last write failed, and those whose next attempt is not due yet. */
  readonly #backoffs = new Map<string, Backoff>()
  readonly #waiting = new Set<string>()
  readonly #namespaces: ResourceWatch<SeenNamespace>
  readonly #configMaps: ResourceWatch<SeenConfigMap>

  constructor(api: KubeApi, options: RootPublisherOptions) {
    this.#api = api
    this.#options = options
    const { signal, log: logger, authority } = options
    const ofNamespace = ({ name }: SeenNamespace): void => this.#enqueue(name)
    const ofConfigMap = ({ namespace }: SeenConfigMap): void => this.#enqueue(namespace)
    this.#namespaces = watchResource(api, NAMESPACES, {
      logger,
      signal,
      keep: ({ metadata }) => ({
        name: metadata?.name,
        isLeaving: metadata?.deletionTimestamp !== undefined,
      }),
      added: ofNamespace,
      updated: (_previous, current) => ofNamespace(current),
    })
    this.#configMaps = watchResource(api, CONFIG_MAPS, {
      logger,
      signal,
      fieldSelector: `metadata.name=${ROOT_CONFIG_MAP}`,
      keep: ({ metadata, data }) => ({
        namespace: metadata?.namespace,
        // There is a copy of it in each namespace. Another mesh that shares our roots publishes them under this name, too: in its own words, which
        // are not to be replaced by ours, and ours by its, for ever.
        rootsPem: hasSameCertificates(data?.[ROOT_KEY] ?? '', authority.current.bundlePem)
          ? authority.current.bundlePem
          : data?.[ROOT_KEY],
        isMarked: metadata?.labels?.[ROOT_LABEL] === PUBLISHED,
      }),
      updated: (_previous, current) => ofConfigMap(current),
      deleted: ofConfigMap,
      listed: () => this.#pump(),
    })
    const unsubscribe = authority.onChange(() => {
      for (const { name } of this.#namespaces.values()) this.#enqueue(name)
    })
    signal.addEventListener('abort', unsubscribe, { once: true })
  }

  async finished(): Promise<void> {
    const { signal } = this.#options
    if (!signal.aborted)
      await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
    await Promise.all([this.#namespaces.close(), this.#configMaps.close()])
    await Promise.all(this.#busy.values())
  }

  #enqueue(namespace: string | undefined): void {
    if (namespace === undefined) return
    this.#pending.add(namespace)
    this.#pump()
  }

  #pump(): void {
    // Until the ConfigMaps are listed, every namespace would seem to lack one.
    if (!this.#configMaps.isSynced || this.#options.signal.aborted) return
    for (const namespace of this.#pending) {
      if (this.#busy.size >= MAX_CONCURRENT_WRITES) return
      if (this.#busy.has(namespace)) continue
      this.#pending.delete(namespace)
      if (this.#waiting.has(namespace)) continue
      if (!this.#isWanting(namespace)) {
        this.#backoffs.delete(namespace)
        continue
      }
      const work = this.#write(namespace).finally(() => {
        this.#busy.delete(namespace)
        this.#pump()
      })
      this.#busy.set(namespace, work)
    }
  }

  /** Whether the namespace is alive and its ConfigMap missing, wrong or without our label, as far as the watches know. */
  #isWanting(namespace: string): boolean {
    if (this.#namespaces.get(namespace)?.isLeaving !== false) return false
    const found = this.#configMaps.get(`${namespace}/${ROOT_CONFIG_MAP}`)
    return found?.isMarked !== true || found.rootsPem !== this.#options.authority.current.bundlePem
  }

  async #write(namespace: string): Promise<void> {
    const { signal, log } = this.#options
    const failure = await this.#writeOnce(namespace)
    if (failure === undefined) {
      this.#backoffs.delete(namespace)
      this.#options.onWrite?.(namespace)
      return
    }
    if (failure.kind === 'aborted' || signal.aborted) return
    log.warn({ namespace, reason: failure.message }, `cannot publish ${ROOT_CONFIG_MAP}`)
    // It waits without a place among the writers: whoever makes its own ConfigMap unwritable (by `immutable`, by a webhook) in a
    // few namespaces would otherwise keep the roots from all others.
    const backoff = this.#backoffs.get(namespace) ?? new Backoff(WRITE_RETRIES)
    this.#backoffs.set(namespace, backoff)
    this.#waiting.add(namespace)
    void delay(backoff.next(), signal).then(() => {
      this.#waiting.delete(namespace)
      this.#enqueue(namespace)
    })
  }

  async #writeOnce(namespace: string): Promise<KubeFailure | undefined> {
    const { signal, authority } = this.#options
    const rootsPem = authority.current.bundlePem
    const target = { namespace, name: ROOT_CONFIG_MAP }
    const content = { metadata: { labels: LABELS }, data: { [ROOT_KEY]: rootsPem } }
    const patched = await this.#api.patch(CONFIG_MAPS, target, content, { signal })
    if (patched.ok) return undefined
    if (patched.error.kind !== 'notFound') return patched.error
    const created = await this.#api.create(
      CONFIG_MAPS,
      { ...content, metadata: { ...content.metadata, ...target } },
      { signal },
    )
    return created.ok || created.error.kind === 'notFound' ? undefined : created.error
  }
}
