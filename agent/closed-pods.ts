// SPDX-License-Identifier: Apache-2.0
// Says loudly which pods of this node take no calls because a policy of theirs is missing or cannot be read: in the log, by an event of the
// pod, and as a metric. The workers keep them closed (proxy/decision/policy-judge.ts).

import { AmbitError } from '../mesh/errors.ts'
import type { MeshState } from '../mesh/model/mesh-state.ts'
import type { PodUid, WorkloadUid } from '../mesh/model/types.ts'
import type { Logger } from '../mesh/telemetry/log.ts'
import type { PodEvents } from './enrolment/index.ts'
import { type LastSaid, PoliciesOfPods } from './proxy/decision/pod-policies.ts'
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
/**
 * Pods that start by the hundred, and whose agent is one of a thousand, may be there before discovery tells of them: that is no fault yet. Their calls are
 * refused, and counted, as soon as waiting is over.
 */
const UNKNOWN_TOLD_AFTER_MS = 30_000
/** Pods that a line names; the rest are counted. */
const NAMED = 3

/** A pod that a policy is missing of. */
interface Closed {
  /** Its calls are refused: what is missing came neither in time nor in a form that can be read. */
  isLate: boolean
  /** What was said last of it. */
  told: string | undefined
}

export class ClosedPods {
  readonly #options: ClosedPodsOptions
  readonly #policies: PoliciesOfPods
  readonly #timer: NodeJS.Timeout
  readonly #closed = new Map<PodUid, Closed>()

  constructor(options: ClosedPodsOptions) {
    this.#options = options
    this.#policies = new PoliciesOfPods(options.mesh)
    this.#timer = setInterval(() => this.look(), options.lookEveryMs ?? LOOK_EVERY_MS).unref()
  }

  /** How many pods a policy is missing of. */
  get size(): number {
    let size = 0
    for (const { isLate } of this.#closed.values()) if (isLate) size += 1
    return size
  }

  close(): void {
    clearInterval(this.#timer)
    this.#policies.close()
  }

  look(): void {
    const { pods, lastSaid, now = () => performance.now() } = this.#options
    const gone = new Set(this.#closed.keys())
    const unknown: LocalPod[] = []
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
      const sinceMs = now() - policies.gapMetAtMs
      const closed = this.#closed.get(pod.uid) ?? { isLate: false, told: undefined }
      this.#closed.set(pod.uid, closed)
      closed.isLate = gap.kind === 'unreadable' || sinceMs >= POLICY_WAIT_MS
      const isDue = gap.kind === 'unknown' ? sinceMs >= UNKNOWN_TOLD_AFTER_MS : closed.isLate
      if (!isDue || closed.told === gap.message) continue
      closed.told = gap.message
      const error = this.#errorOf(`pod ${pod.namespace}/${pod.name}: ${gap.message}`)
      if (gap.kind === 'unknown') unknown.push(pod)
      else
        this.#options.log.error(
          { uid: pod.uid, code: error.code, policy: gap.key },
          `${error.message}. ${error.hint}`,
        )
      this.#options.events.warn(
        pod,
        'PolicyMissing',
        `${error.message} (${error.code}: ${error.hint})`,
      )
    }
    for (const uid of gone) {
      this.#closed.delete(uid)
      this.#policies.forget(uid)
    }
    if (unknown.length > 0) this.#logUnknown(unknown)
  }

  /** One line for all of them: whatever keeps discovery from telling of one keeps it from telling of many. */
  #logUnknown(pods: readonly LocalPod[]): void {
    const names = pods.slice(0, NAMED).map(({ namespace, name }) => `${namespace}/${name}`)
    const more = pods.length > NAMED ? ` and ${pods.length - NAMED} more` : ''
    const error = this.#errorOf(
      `${names.join(', ')}${more}: the control plane has told nothing of them for ${UNKNOWN_TOLD_AFTER_MS / 1000} s`,
    )
    this.#options.log.warn(
      { code: error.code, pods: pods.length },
      `${error.message}. ${error.hint}`,
    )
  }

  #errorOf(reason: string): AmbitError {
    const outcome =
      this.#options.mode === 'refuse'
        ? 'all calls into it are refused'
        : 'calls into it are served as its other policies say (--missing-policies serve)'
    return new AmbitError(
      'AMB_POLICY_MISSING',
      `Cannot enforce the policies of ${reason}: ${outcome}`,
    )
  }
}
