// SPDX-License-Identifier: Apache-2.0
// One agent: what it says of its own node, its metrics and audit (pod-poll.ts), and, when that has changed, the mesh.

import { parseJson } from '../../../mesh/json.ts'
import { err, type Result } from '../../../mesh/result.ts'
import type { AgentPod } from '../../cluster/agents.ts'
import { type LocalFacts, readLocalFacts } from '../model/local-facts.ts'
import { type MeshFacts, readMeshFacts } from '../model/mesh-facts.ts'
import type { AgentSnapshot } from '../model/snapshot.ts'
import { readTraffic } from '../model/traffic-series.ts'
import type { AuditView } from '../view.ts'
import type { AgentClient } from './agent-client.ts'
import { ADMIN_PORT, PodPoll, type PollOptions } from './pod-poll.ts'

const MEBIBYTE = 1024 * 1024
const MOST_BYTES = { local: 64 * MEBIBYTE, mesh: 512 * MEBIBYTE }

export class AgentPoll {
  pod: AgentPod
  readonly #poll: PodPoll<LocalFacts>

  constructor(pod: AgentPod, client: AgentClient, options: PollOptions) {
    this.pod = pod
    this.#poll = new PodPoll(client, options, {
      dump: { path: '/config_dump?local', mostBytes: MOST_BYTES.local },
      readFacts: readLocalFacts,
      readTraffic,
    })
  }

  get name(): string {
    return this.pod.pod
  }

  /** Whether it is to be asked now. */
  get isDue(): boolean {
    return this.#poll.isDue
  }

  get meshDigest(): string | undefined {
    return this.#poll.isSilent ? undefined : this.#poll.facts?.meshDigest
  }

  /** Asks it; gives what is new in its audit. Never throws. */
  poll(): Promise<readonly AuditView[]> {
    return this.#poll.poll()
  }

  /** What the control plane has told it. */
  async askMesh(): Promise<Result<MeshFacts, string>> {
    const answer = await this.#poll.ask(ADMIN_PORT, '/config_dump', MOST_BYTES.mesh)
    if (!answer.ok) return answer
    const json = parseJson(answer.value)
    return json.ok ? readMeshFacts(json.value) : err(json.error)
  }

  snapshot(): AgentSnapshot {
    return { ...this.pod, ...this.#poll.seen() }
  }

  close(): void {
    this.#poll.close()
  }
}
