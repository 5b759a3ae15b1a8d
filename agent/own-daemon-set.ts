// SPDX-License-Identifier: Apache-2.0
// The DaemonSet that runs this agent: an agent that is told to end because it was deleted is the last of its node, and takes
// the mesh with it. Any other end (an upgrade, a restart, a drained node) leaves everything for the next agent.

import { Backoff, delay } from '../mesh/async/backoff.ts'
import {
  DAEMON_SETS,
  type DaemonSet,
  isMissing,
  type KubeApi,
  type Pod,
  PODS,
  type ResourceWatch,
  watchResource,
} from '../mesh/kube/index.ts'
import type { Logger } from '../mesh/telemetry/log.ts'
import { asksToBeTold } from './serving-condition.ts'

type ContainerStatus = NonNullable<NonNullable<Pod['status']>['containerStatuses']>[number]

export interface OwnDaemonSetOptions {
  readonly api: KubeApi
  readonly podNamespace: string
  readonly podName: string
  readonly logger: Logger
}

/** For the last question at the end of the process, for which the kubelet gives seconds. */
const ASK_DEADLINE_MS = 2_000

export class OwnDaemonSet {
  readonly #options: OwnDaemonSetOptions
  readonly #closing = new AbortController()
  #name: string | undefined
  #ownPod: Pod['metadata']
  #watch: ResourceWatch<boolean> | undefined
  /** What the watch said last. */
  #isSeenGone = false
  readonly #following: Promise<void>

  /** Looks up the pod's owner and follows it, in the background. */
  constructor(options: OwnDaemonSetOptions) {
    this.#options = options
    this.#following = this.#follow()
  }

  /**
   * Whether it is deleted or being deleted. The API server is asked; where it does not answer, or no longer lets us ask because
   * our role was deleted as well, the watch's last word counts. False for an agent that no DaemonSet runs.
   */
  async isGone(): Promise<boolean> {
    const { api, podNamespace } = this.#options
    if (this.#name === undefined) return false
    const read = await api.get(
      DAEMON_SETS,
      { namespace: podNamespace, name: this.#name },
      { deadlineMs: ASK_DEADLINE_MS },
    )
    if (read.ok) return isEnding(read.value)
    return isMissing(read.error) || this.#isSeenGone
  }

  /**
   * The name of a younger pod of the same DaemonSet among the node's, which is to take this one's place; undefined while there is none.
   * Its probes are answered here, and would find it ready before it has begun: of one whose pod waits for its own word (serving-condition.ts)
   * nobody thinks so, and it does not count. Neither does one that fails to start, for its image cannot be had, say: it is not probed, and
   * who calls itself unready for long is deleted for the younger one.
   */
  successorAmong(pods: Iterable<Pod>): string | undefined {
    const own = this.#ownPod
    const since = Date.parse(own?.creationTimestamp ?? '')
    if (Number.isNaN(since) || this.#name === undefined) return undefined
    for (const pod of pods) {
      const { metadata, status } = pod
      if (
        metadata?.namespace === own?.namespace &&
        metadata?.deletionTimestamp === undefined &&
        ownerOf(metadata?.ownerReferences) === this.#name &&
        status?.containerStatuses?.some(hasFailedToStart) !== true &&
        !asksToBeTold(pod) &&
        Date.parse(metadata?.creationTimestamp ?? '') > since
      )
        return metadata?.name
    }
    return undefined
  }

  async close(): Promise<void> {
    this.#closing.abort()
    await this.#following
    await this.#watch?.close()
  }

  async #follow(): Promise<void> {
    const { api, podNamespace, podName, logger } = this.#options
    const { signal } = this.#closing
    const backoff = new Backoff()
    for (;;) {
      const pod = await api.get(PODS, { namespace: podNamespace, name: podName }, { signal })
      if (signal.aborted) return
      if (pod.ok) {
        this.#name = ownerOf(pod.value.metadata?.ownerReferences)
        this.#ownPod = pod.value.metadata
        break
      }
      // Not run by Kubernetes.
      if (isMissing(pod.error)) break
      await delay(backoff.next(), signal)
    }
    if (this.#name === undefined) {
      logger.debug('no DaemonSet runs this agent: it leaves the mesh in place when it ends')
      return
    }
    this.#watch = watchResource(api, DAEMON_SETS, {
      logger,
      namespace: podNamespace,
      fieldSelector: `metadata.name=${this.#name}`,
      keep: isEnding,
      added: (isGone) => this.#see(isGone),
      updated: (_, isGone) => this.#see(isGone),
      deleted: () => this.#see(true),
    })
  }

  #see(isGone: boolean): void {
    if (isGone && !this.#isSeenGone)
      this.#options.logger.warn(
        { daemonSet: this.#name },
        'the DaemonSet of the agents is deleted: when this agent is ended, the mesh leaves the node',
      )
    this.#isSeenGone = isGone
  }
}

/** Reasons to wait that are no failure. */
const STARTING: ReadonlySet<string> = new Set(['ContainerCreating', 'PodInitializing'])

function hasFailedToStart({ state }: ContainerStatus): boolean {
  const reason = state?.waiting?.reason
  return reason !== undefined && !STARTING.has(reason)
}

const isEnding = ({ metadata }: DaemonSet): boolean => metadata?.deletionTimestamp !== undefined

function ownerOf(
  references: readonly { readonly kind: string; readonly name: string }[] | undefined,
): string | undefined {
  return references?.find(({ kind }) => kind === 'DaemonSet')?.name
}
