// SPDX-License-Identifier: Apache-2.0
// Says loudly which pods of this node take no calls because a policy of theirs is missing or cannot be read: in the log, by an event of the
// pod, and as a metric. The workers keep them closed (proxy/decision/policy-judge.ts).

import { AmbitError } from '../mesh/errors.ts'
import type { MeshState } from '../mesh/model/mesh-state.ts'
import type { PodUid, WorkloadUid } from '../mesh/model/types.ts'
import type { Logger } from '../mesh/telemetry/log.ts'
import type { PodEvents } from './enrolment/index.ts'
import { type LastSaid, PoliciesOfPods, type PodGap } from './proxy/decision/pod-policies.ts'
import { type MissingPolicies, POLICY_WAIT_MS } from './proxy/decision/policy-judge.ts'
import type { LocalPod } from './proxy/local-pod.ts'

export interface ClosedPodsOptions {
  readonly mesh: MeshState
  /** What was said last of a workload, also if the mesh state does not know it any more. */
  readonly lastSaid: (uid: WorkloadUid) => LastSaid | undefined
  /** The pods that are served now. */
  readonly pods: () => readonly LocalPod[]
  readonly mode: MissingPolicies
  readonly events: Pick<PodEvents, 'warn'>
  readonly log: Logger
  /** For tests. */
  readonly lookEveryMs?: number
  readonly now?: () => number
}

/** Nobody waits for this: calls are refused, and say so, whether it has been told or not. */
const LOOK_EVERY_MS = 1_000

export class ClosedPods {
  readonly #options: ClosedPodsOptions
  readonly #policies: PoliciesOfPods
  readonly #timer: NodeJS.Timeout
  /** What was said last of each pod that is closed; undefined while what is missing may still come. */
  readonly #closed = new Map<PodUid, string | undefined>()

  constructor(options: ClosedPodsOptions) {
    this.#options = options
    this.#policies = new PoliciesOfPods(options.mesh)
    this.#timer = setInterval(() => this.look(), options.lookEveryMs ?? LOOK_EVERY_MS).unref()
  }

  /** How many pods a policy is missing of. */
  get size(): number {
    let size = 0
    for (const said of this.#closed.values()) if (said !== undefined) size += 1
    return size
  }

  close(): void {
    clearInterval(this.#timer)
    this.#policies.close()
  }

  look(): void {
    const { pods, lastSaid, now = () => performance.now() } = this.#options
    const gone = new Set(this.#closed.keys())
    for (const pod of pods()) {
      gone.delete(pod.uid)
      this.#policies.follow(pod, lastSaid(pod.workloadUid))
      const policies = this.#policies.of(pod)
      const { gap } = policies
      if (gap === undefined) {
        this.#closed.delete(pod.uid)
        continue
      }
      policies.gapMetAtMs ??= now()
      const isPending = gap.kind !== 'unreadable' && now() < policies.gapMetAtMs + POLICY_WAIT_MS
      if (isPending) this.#closed.set(pod.uid, this.#closed.get(pod.uid))
      else this.#say(pod, gap)
    }
    for (const uid of gone) {
      this.#closed.delete(uid)
      this.#policies.forget(uid)
    }
  }

  #say(pod: LocalPod, gap: PodGap): void {
    const { mode, events, log } = this.#options
    if (this.#closed.get(pod.uid) === gap.message) return
    this.#closed.set(pod.uid, gap.message)
    const outcome =
      mode === 'refuse'
        ? 'all calls into it are refused'
        : 'calls into it are served as its other policies say (--missing-policies serve)'
    const error = new AmbitError(
      'AMB_POLICY_MISSING',
      `Cannot enforce the policies of pod ${pod.namespace}/${pod.name}: ${gap.message}: ${outcome}`,
    )
    log.error(
      { uid: pod.uid, code: error.code, policy: gap.key },
      `${error.message}. ${error.hint}`,
    )
    events.warn(pod, 'PolicyMissing', `${error.message} (${error.code}: ${error.hint})`)
  }
}
