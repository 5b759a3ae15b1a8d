// SPDX-License-Identifier: Apache-2.0
// Policy in a worker: what it says of calls into pods, who waits for it, and which open connections are asked again when it changes.

import type { CutSignal } from '../../mesh/async/cut.ts'
import type { MeshState } from '../../mesh/model/mesh-state.ts'
import type { PodUid, Workload } from '../../mesh/model/types.ts'
import type { DecidedBy, PolicyReports } from '../../mesh/telemetry/connection-record.ts'
import type { InboundCall, NewsOfPolicies, Refusal } from './admission.ts'
import { egressRefusal, ingressRefusal, type OutboundCall } from './decision/network-judge.ts'
import { type LastSaid, PoliciesOfPods, type PolicyNews } from './decision/pod-policies.ts'
import {
  allowedBy,
  type MissingPolicies,
  policyRefusal,
  policyReports,
} from './decision/policy-judge.ts'
import type { LocalPod } from './local-pod.ts'

export interface PolicyGateOptions {
  readonly mesh: MeshState
  readonly mode: MissingPolicies
  /** Told whose policies may say something else now. */
  readonly onChange: (news: PolicyNews) => void
  /** The monotonic clock; for tests. */
  readonly now?: () => number
}

export class PolicyGate implements NewsOfPolicies {
  readonly #mesh: MeshState
  readonly #policies: PoliciesOfPods
  readonly #mode: MissingPolicies
  readonly #now: () => number
  /** Who waits for news of a pod. */
  readonly #waiting = new Map<PodUid, Set<() => void>>()

  constructor({ mesh, mode, onChange, now = () => performance.now() }: PolicyGateOptions) {
    this.#mode = mode
    this.#now = now
    this.#mesh = mesh
    this.#policies = new PoliciesOfPods(mesh, (news) => {
      for (const uid of news.pods) this.#policies.prepare(uid)
      for (const uid of news.pods) for (const wake of this.#waiting.get(uid) ?? []) wake()
      onChange(news)
    })
  }

  close(): void {
    this.#policies.close()
  }

  /** Hears of the pod's policies from now on, also before anybody calls it. */
  follow(pod: LocalPod, before?: LastSaid): void {
    this.#policies.follow(pod, before)
    this.#policies.prepare(pod.uid)
  }

  forget(uid: PodUid): void {
    this.#policies.forget(uid)
  }

  lastSaid(pod: LocalPod): Workload | undefined {
    return this.#policies.lastSaid(pod)
  }

  judge(call: InboundCall, pod: LocalPod): Refusal | undefined {
    const policies = this.#policies.of(pod)
    const refused = ingressRefusal(policies, call, pod, this.#mesh)
    // What is missing may allow what the others do not: it is waited for.
    if (refused !== undefined && policies.network.gap === undefined) return refused
    return policyRefusal(policies, call, this.#mode, this.#now()) ?? refused
  }

  /** What the pod's own NetworkPolicies say of a call that it makes. */
  judgeOutbound(call: OutboundCall, pod: LocalPod): Refusal | undefined {
    return egressRefusal(this.#policies.of(pod), call, pod, this.#mesh, this.#mode, this.#now())
  }

  reports(call: InboundCall, pod: LocalPod): PolicyReports | undefined {
    return policyReports(this.#policies.of(pod), call)
  }

  /** The rule by which an open connection is there; undefined where it takes none. */
  allowedBy(call: InboundCall, pod: LocalPod): DecidedBy | undefined {
    return allowedBy(this.#policies.of(pod), call)
  }

  changed(uid: PodUid, untilMs: number, signals: readonly CutSignal[]): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const waiting = this.#waiting.get(uid) ?? new Set()
    this.#waiting.set(uid, waiting)
    const timer = setTimeout(() => wake(), Math.max(0, untilMs - this.#now()))
    const wake = (): void => {
      clearTimeout(timer)
      for (const signal of signals) signal.removeEventListener('abort', wake)
      waiting.delete(wake)
      if (waiting.size === 0 && this.#waiting.get(uid) === waiting) this.#waiting.delete(uid)
      resolve()
    }
    waiting.add(wake)
    for (const signal of signals) signal.addEventListener('abort', wake)
    // An AbortSignal that has aborted calls nobody any more.
    if (signals.some(({ aborted }) => aborted)) wake()
    return promise
  }
}
