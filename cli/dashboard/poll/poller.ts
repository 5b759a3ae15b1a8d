// SPDX-License-Identifier: Apache-2.0
// Asks all agents round by round, a few at once, each by itself: one that hangs holds up no other. Tells its listeners when something new
// is known.

import { setTimeout as wait } from 'node:timers/promises'
import { errorMessage } from '../../../mesh/errors.ts'
import type { AgentPod } from '../../cluster/agents.ts'
import { mergeAudit } from '../model/audit.ts'
import { type MeshFacts, NO_MESH } from '../model/mesh-facts.ts'
import type { Snapshot } from '../model/snapshot.ts'
import type { AuditView } from '../view.ts'
import type { AgentClient } from './agent-client.ts'
import { AgentPoll, type PollOptions } from './agent-poll.ts'

/** Agents asked at the same time: port-forwards cost the API server. */
const MOST_AT_ONCE = 8
const MOST_AUDIT = 1_000
/** Agents that are out of step would have it taken at every turn. */
const MESH_INTERVAL_MS = 5_000

export interface PollerOptions extends PollOptions {
  /** The agents there are; throws when the cluster cannot be asked. */
  readonly findAgents: () => Promise<readonly AgentPod[]>
  readonly client: (pod: string) => AgentClient
}

export class Poller {
  readonly #options: PollerOptions
  readonly #agents = new Map<string, AgentPoll>()
  readonly #listeners = new Set<() => void>()
  #problem: string | undefined
  #mesh: MeshFacts = NO_MESH
  #meshDigest: string | undefined
  #isMeshAsked = false
  #meshDueAt = 0
  #audit: readonly AuditView[] = []
  #atOnce = 0

  constructor(options: PollerOptions) {
    this.#options = options
  }

  /** Until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#listAgents()
      this.#askDue()
      await wait(this.#options.intervalMs, undefined, { signal }).catch(() => undefined) // told to end
    }
    for (const agent of this.#agents.values()) agent.close()
  }

  /** Calls back when something new is known; gives what ends that. */
  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  snapshot(): Snapshot {
    const { now, windowMs } = this.#options
    return {
      at: now(),
      windowSeconds: windowMs / 1_000,
      problem: this.#problem,
      agents: [...this.#agents.values()]
        .map((agent) => agent.snapshot())
        .toSorted((one, other) => one.node.localeCompare(other.node)),
      mesh: this.#mesh,
      audit: this.#audit,
    }
  }

  async #listAgents(): Promise<void> {
    try {
      const pods = await this.#options.findAgents()
      const names = new Set(pods.map(({ pod }) => pod))
      for (const [name, agent] of this.#agents) {
        if (names.has(name)) continue
        agent.close()
        this.#agents.delete(name)
      }
      for (const pod of pods) {
        const known = this.#agents.get(pod.pod)
        if (known !== undefined) known.pod = pod
        else
          this.#agents.set(
            pod.pod,
            new AgentPoll(pod, this.#options.client(pod.pod), this.#options),
          )
      }
      this.#problem = undefined
    } catch (thrown) {
      this.#problem = errorMessage(thrown)
    }
    this.#tell()
  }

  #askDue(): void {
    for (const agent of this.#agents.values()) {
      if (this.#atOnce >= MOST_AT_ONCE) return
      if (!agent.isDue) continue
      // To the end of the line, so that those behind have their turn when there are more than may be asked at once.
      this.#agents.delete(agent.pod.pod)
      this.#agents.set(agent.pod.pod, agent)
      this.#atOnce += 1
      void this.#ask(agent)
    }
  }

  async #ask(agent: AgentPoll): Promise<void> {
    const audit = await agent.poll()
    this.#audit = mergeAudit(this.#audit, audit, MOST_AUDIT)
    this.#tell()
    await this.#askMesh(agent)
    this.#atOnce -= 1
    this.#tell()
    this.#askDue()
  }

  /** Of what all agents know alike, the dump is taken when it has changed, and of one of them. */
  async #askMesh(agent: AgentPoll): Promise<void> {
    const digest = agent.meshDigest
    if (digest === undefined || digest === this.#meshDigest || this.#isMeshAsked) return
    const now = this.#options.now()
    if (now < this.#meshDueAt) return
    this.#meshDueAt = now + MESH_INTERVAL_MS
    this.#isMeshAsked = true
    try {
      const mesh = await agent.askMesh()
      if (!mesh.ok) return
      this.#mesh = mesh.value
      this.#meshDigest = digest
    } finally {
      this.#isMeshAsked = false
    }
  }

  #tell(): void {
    for (const listener of this.#listeners) listener()
  }
}
