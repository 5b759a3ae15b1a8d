// SPDX-License-Identifier: Apache-2.0
// For how many workloads a policy is in force: those that it concerns, node by node, and what the agents there have acknowledged.

import type { Workload } from '../../mesh/model/types.ts'
import type { PolicyKey } from '../../mesh/model/policy.ts'
import type { FollowingClient } from '../../mesh/xds/server.ts'

/** Whom a policy concerns: those that name it, those of a namespace, or all. */
export type Concern = string & { readonly __brand: 'Concern' }

export const namers = (key: PolicyKey): Concern => `by ${key}` as Concern
export const inNamespace = (namespace: string): Concern => `in ${namespace}` as Concern
export const EVERYBODY = 'all' as Concern

export interface Enforcement {
  /** Workloads of the mesh that it concerns. */
  readonly concerned: number
  /** Of these, those whose agents have acknowledged it. */
  readonly inForce: number
  /** Nodes whose agents have not acknowledged it, a few of them. */
  readonly lagging: readonly string[]
  /** Nodes of which no agent is connected here; where there are replicas, one may be connected to another. */
  readonly unseen: readonly string[]
}

/** Nodes that a message can name. */
const MOST_NAMED = 5

/** Workloads by whom they concern and where they are, counted as they come and go. */
export class WorkloadCounts {
  readonly #byConcern = new Map<Concern, Map<string, number>>()

  /** Takes a change of a workload. Only those whose connections an agent judges are counted. */
  update(previous: Workload | undefined, current: Workload | undefined): void {
    this.#count(previous, -1)
    this.#count(current, 1)
  }

  /** How many workloads each node has. */
  at(concern: Concern): ReadonlyMap<string, number> {
    return this.#byConcern.get(concern) ?? NOWHERE
  }

  #count(workload: Workload | undefined, step: 1 | -1): void {
    if (workload?.tunnelProtocol !== 'hbone' || workload.nativeTunnel) return
    const { node, namespace, authorizationPolicies } = workload
    this.#add(EVERYBODY, node, step)
    this.#add(inNamespace(namespace), node, step)
    for (const key of authorizationPolicies) this.#add(namers(key as PolicyKey), node, step)
  }

  #add(concern: Concern, node: string, step: 1 | -1): void {
    const nodes = this.#byConcern.get(concern) ?? new Map<string, number>()
    const count = (nodes.get(node) ?? 0) + step
    if (count > 0) nodes.set(node, count)
    else nodes.delete(node)
    if (nodes.size > 0) this.#byConcern.set(concern, nodes)
    else this.#byConcern.delete(concern)
  }
}

const NOWHERE: ReadonlyMap<string, number> = new Map()

/** The agents by their nodes. While one takes over from another a node has two, and both have to have a policy. */
export type AgentsByNode = ReadonlyMap<
  string,
  readonly Pick<FollowingClient<unknown>, 'isInStep'>[]
>

/** Groups those who follow policies by the node they run on. */
export function agentsByNode(
  clients: Iterable<FollowingClient<{ readonly node: string }>>,
): AgentsByNode {
  return Map.groupBy(clients, ({ caller }) => caller.node)
}

function few(nodes: string[]): readonly string[] {
  return nodes.sort().slice(0, MOST_NAMED)
}

/** Counts for one policy. */
export function enforcementOf(
  key: PolicyKey,
  workloads: ReadonlyMap<string, number>,
  agents: AgentsByNode,
): Enforcement {
  let concerned = 0
  let inForce = 0
  const lagging: string[] = []
  const unseen: string[] = []
  for (const [node, count] of workloads) {
    concerned += count
    const there = agents.get(node) ?? []
    const isInForce = there.length > 0 && there.every((agent) => agent.isInStep(key))
    if (isInForce) inForce += count
    else (there.length === 0 ? unseen : lagging).push(node)
  }
  return { concerned, inForce, lagging: few(lagging), unseen: few(unseen) }
}
