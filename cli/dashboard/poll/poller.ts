// SPDX-License-Identifier: Apache-2.0
// Asks all agents and waypoints round by round, a few at once, each by itself: one that hangs holds up no other. Tells its listeners when something new
// is known.

import { setTimeout as wait } from 'node:timers/promises'
import { errorMessage } from '../../../mesh/errors.ts'
import type { AgentPod } from '../../cluster/agents.ts'
import type { WaypointPod } from '../../cluster/waypoint-pods.ts'
import { mergeAudit } from '../model/audit.ts'
import { type MeshFacts, NO_MESH } from '../model/mesh-facts.ts'
import type { Snapshot } from '../model/snapshot.ts'
import type { AuditView } from '../view.ts'
import type { AgentClient } from './agent-client.ts'
import { AgentPoll } from './agent-poll.ts'
import type { PollOptions } from './pod-poll.ts'
import { podName, WaypointPoll } from './waypoint-poll.ts'

/** Agents asked at the same time: port-forwards cost the API server. */
const MOST_AT_ONCE = 8
const MOST_AUDIT = 1_000
/** Agents that are out of step would have it taken at every turn. */
const MESH_INTERVAL_MS = 5_000
/** Waypoints come and go by hand, and to look for them takes several calls. */
const WAYPOINTS_INTERVAL_MS = 10_000

export interface PollerOptions extends PollOptions {
  /** The agents there are; throws when the cluster cannot be asked. */
  readonly findAgents: () => Promise<readonly AgentPod[]>
  /** The pods of waypoints; throws when it cannot be told which there are. */
  readonly findWaypoints: () => Promise<readonly WaypointPod[]>
  /** `namespace`: the pod's; that of the mesh itself when undefined. */
  readonly client: (pod: string, namespace: string | undefined) => AgentClient
}

export class Poller {
  readonly #options: PollerOptions
  readonly #agents = new Map<string, AgentPoll>()
  readonly #waypoints = new Map<string, WaypointPoll>()
  #waypointsDueAt = 0
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
      await this.#listWaypoints()
      this.#askDue()
      await wait(this.#options.intervalMs, undefined, { signal }).catch(() => undefined) // told to end
    }
    for (const pod of [...this.#agents.values(), ...this.#waypoints.values()]) pod.close()
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
      waypoints: [...this.#waypoints.values()]
        .map((waypoint) => waypoint.snapshot())
        .toSorted((one, other) => one.waypoint.localeCompare(other.waypoint)),
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
            new AgentPoll(pod, this.#options.client(pod.pod, undefined), this.#options),
          )
      }
      this.#problem = undefined
    } catch (thrown) {
      this.#problem = errorMessage(thrown)
    }
    this.#tell()
  }

  async #listWaypoints(): Promise<void> {
    const now = this.#options.now()
    if (now < this.#waypointsDueAt) return
    this.#waypointsDueAt = now + WAYPOINTS_INTERVAL_MS
    try {
      const pods = new Map(
        (await this.#options.findWaypoints()).map((pod) => [podName(pod), pod] as const),
      )
      for (const [name, waypoint] of this.#waypoints) {
        if (pods.has(name)) continue
        waypoint.close()
        this.#waypoints.delete(name)
      }
      for (const [name, pod] of pods) {
        if (this.#waypoints.has(name)) continue
        const client = this.#options.client(pod.pod, pod.namespace)
        this.#waypoints.set(name, new WaypointPoll(pod, client, this.#options))
      }
    } catch (thrown) {
      this.#problem ??= errorMessage(thrown)
    }
    this.#tell()
  }

  #askDue(): void {
    takeTurns(this.#agents, (agent) => this.#begin(() => this.#ask(agent)))
    takeTurns(this.#waypoints, (waypoint) =>
      this.#begin(async () => this.#hear(await waypoint.poll())),
    )
  }

  /** Asks one more, unless as many are asked as may be. */
  #begin(ask: () => Promise<void>): boolean {
    if (this.#atOnce >= MOST_AT_ONCE) return false
    this.#atOnce += 1
    void ask().then(() => {
      this.#atOnce -= 1
      this.#tell()
      this.#askDue()
    })
    return true
  }

  #hear(audit: readonly AuditView[]): void {
    this.#audit = mergeAudit(this.#audit, audit, MOST_AUDIT)
    this.#tell()
  }

  async #ask(agent: AgentPoll): Promise<void> {
    this.#hear(await agent.poll())
    await this.#askMesh(agent)
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

/** Begins those that are due, until one may not; each goes to the end of the line, so that those behind have their turn. */
function takeTurns<P extends { readonly name: string; readonly isDue: boolean }>(
  polls: Map<string, P>,
  begin: (poll: P) => boolean,
): void {
  for (const poll of [...polls.values()]) {
    if (!poll.isDue) continue
    if (!begin(poll)) return
    polls.delete(poll.name)
    polls.set(poll.name, poll)
  }
}
