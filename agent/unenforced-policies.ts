// SPDX-License-Identifier: Apache-2.0
// Says loudly which pods of this node policies concern that are not enforced: in the log, by an event of the pod, and as a
// metric. The workers decide what becomes of their calls (proxy/decision/unenforced.ts).

import { AmbitError } from '../mesh/errors.ts'
import type { MeshState } from '../mesh/model/mesh-state.ts'
import type { Logger } from '../mesh/telemetry/log.ts'
import type { PodEvents } from './enrolment/index.ts'
import { unenforcedPolicies, type UnenforcedPolicies } from './proxy/decision/unenforced.ts'
import type { LocalPod } from './proxy/local-pod.ts'

export interface PolicyWarningsOptions {
  readonly mesh: MeshState
  /** The pods that are served now. */
  readonly pods: () => readonly LocalPod[]
  readonly mode: UnenforcedPolicies
  readonly events: Pick<PodEvents, 'warn'>
  readonly log: Logger
}

/** Changes of the mesh come in crowds, and a pod is served a moment before its workload is known. */
const LOOK_AFTER_MS = 100
/** The rest is counted. */
const POLICIES_NAMED = 5

export class PolicyWarnings {
  readonly #options: PolicyWarningsOptions
  readonly #unsubscribe: () => void
  /** What was said last of each pod that policies concern. */
  readonly #said = new Map<string, string>()
  #timer: NodeJS.Timeout | undefined

  constructor(options: PolicyWarningsOptions) {
    this.#options = options
    this.#unsubscribe = options.mesh.subscribe(() => {
      this.#timer ??= setTimeout(() => this.#look(), LOOK_AFTER_MS).unref()
    })
  }

  /** How many pods policies concern that are not enforced. */
  get pods(): number {
    return this.#said.size
  }

  close(): void {
    this.#unsubscribe()
    clearTimeout(this.#timer)
  }

  #look(): void {
    this.#timer = undefined
    const { mesh, pods } = this.#options
    const gone = new Set(this.#said.keys())
    for (const pod of pods()) {
      const policies = unenforcedPolicies(mesh, pod)
      if (policies.length === 0) continue
      gone.delete(pod.uid)
      this.#say(pod, policies)
    }
    for (const uid of gone) this.#said.delete(uid)
  }

  #say(pod: LocalPod, policies: readonly string[]): void {
    const { mode, events, log } = this.#options
    const key = policies.join()
    if (this.#said.get(pod.uid) === key) return
    this.#said.set(pod.uid, key)
    const more = policies.length - POLICIES_NAMED
    const names =
      policies.slice(0, POLICIES_NAMED).join(', ') + (more > 0 ? ` and ${more} more` : '')
    const outcome =
      mode === 'refuse'
        ? 'all calls into it are refused'
        : 'calls into it are served as if there were none (--unenforced-policies serve)'
    const error = new AmbitError(
      'AMB_POLICY_UNENFORCED',
      `Cannot enforce policies of pod ${pod.namespace}/${pod.name} (${names}): ${outcome}`,
    )
    log.error(
      { uid: pod.uid, code: error.code, policies: names },
      `${error.message}. ${error.hint}`,
    )
    events.warn(pod, 'PolicyNotEnforced', `${error.message} (${error.code}: ${error.hint})`)
  }
}
