// SPDX-License-Identifier: Apache-2.0
// Who is the pod of this sandbox? Answered from the informers when they know, else by asking the API server: at
// CNI ADD the informer is often some milliseconds behind.

import type { CniPod } from '../cni/index.ts'
import { Backoff, delay } from '../../mesh/async/backoff.ts'
import {
  NAMESPACES,
  PODS,
  type KubeApi,
  type Namespace,
  type Pod,
  type ResourceWatch,
} from '../../mesh/kube/index.ts'
import type { Result } from '../../mesh/result.ts'
import { err, ok } from '../../mesh/result.ts'
import type { Labels } from './eligibility.ts'

/** How often to ask for a pod that the API server says it does not have: its cache may lag, but not for long. */
const MISSING_ATTEMPTS = 6
const FIRST_RETRY_MS = 20
/** The kubelet's name for a static pod, whose UID at the runtime is not that of its mirror in the API. */
const STATIC_POD_ANNOTATIONS = ['kubernetes.io/config.hash', 'kubernetes.io/config.mirror']

export class PodLookup {
  readonly #api: KubeApi
  #pods: ResourceWatch<Pod> | undefined
  #namespaces: ResourceWatch<Namespace> | undefined
  /** Read for CNI before the informer had them; the informer outdoes them. */
  readonly #readNamespaces = new Map<string, Namespace>()

  constructor(api: KubeApi) {
    this.#api = api
  }

  use(pods: ResourceWatch<Pod>, namespaces: ResourceWatch<Namespace>): void {
    this.#pods = pods
    this.#namespaces = namespaces
  }

  /** The namespace's labels as far as they are known. */
  namespaceLabels(name: string): Labels | undefined {
    const watched = this.#namespaces?.get(name)
    if (watched !== undefined) this.#readNamespaces.delete(name)
    const namespace = watched ?? this.#readNamespaces.get(name)
    return namespace === undefined ? undefined : (namespace.metadata?.labels ?? {})
  }

  /** The pod of a sandbox, with its namespace known afterwards; or why they cannot be had. */
  async forSandbox(cni: CniPod, signal: AbortSignal): Promise<Result<Pod, string>> {
    const namespace = await this.#ensureNamespace(cni.namespace, signal)
    if (!namespace.ok) return namespace
    const watched = this.#pods?.get(`${cni.namespace}/${cni.name}`)
    // Without a UID to compare, the informer's might be the predecessor of the same name.
    if (watched !== undefined && cni.uid !== undefined && isPodOf(watched, cni.uid))
      return ok(watched)
    return this.#ask(
      `pod ${cni.namespace}/${cni.name}`,
      async () => {
        const read = await this.#api.get(PODS, cni, { signal })
        if (!read.ok) return read
        if (cni.uid === undefined || isPodOf(read.value, cni.uid)) return read
        const message = `its UID is ${read.value.metadata?.uid}, not ${cni.uid}: it was replaced`
        return err({ kind: 'notFound', message })
      },
      signal,
    )
  }

  async #ensureNamespace(name: string, signal: AbortSignal): Promise<Result<void, string>> {
    if (this.namespaceLabels(name) !== undefined) return ok(undefined)
    const read = await this.#ask(
      `namespace ${name}`,
      () => this.#api.get(NAMESPACES, { name }, { signal }),
      signal,
    )
    if (!read.ok) return read
    this.#readNamespaces.set(name, read.value)
    return ok(undefined)
  }

  /** Asks until there is an answer, the object is certainly not there, or the signal aborts. */
  async #ask<T>(
    what: string,
    read: () => Promise<Result<T, { readonly kind: string; readonly message: string }>>,
    signal: AbortSignal,
  ): Promise<Result<T, string>> {
    const backoff = new Backoff({ firstMs: FIRST_RETRY_MS, longestMs: 1000 })
    let missing = 0
    for (;;) {
      const answer = await read()
      if (answer.ok) return answer
      if (answer.error.kind === 'notFound') missing += 1
      if (missing >= MISSING_ATTEMPTS || signal.aborted)
        return err(`${what} cannot be read: ${answer.error.message}`)
      await delay(backoff.next(), signal)
    }
  }
}

function isPodOf(pod: Pod, uid: string): boolean {
  if (pod.metadata?.uid === uid) return true
  const annotations = pod.metadata?.annotations ?? {}
  return STATIC_POD_ANNOTATIONS.some((name) => annotations[name] === uid)
}
