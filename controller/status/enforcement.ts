// SPDX-License-Identifier: Apache-2.0
// For how many workloads or waypoints a policy is in force: those that it concerns, place by place, and what the agents or pods there have
// acknowledged.

import type { Workload } from '../../mesh/model/types.ts'
import type { PolicyKey } from '../../mesh/model/policy.ts'
import type { FollowingClient } from '../../mesh/xds/server.ts'
import type { MeshComponent } from '../auth/component-gate.ts'

/** Whom a policy concerns: those that name it, those of a namespace, or all. */
export type Concern = string & { readonly __brand: 'Concern' }

export const namers = (key: PolicyKey): Concern => `by ${key}` as Concern
export const inNamespace = (namespace: string): Concern => `in ${namespace}` as Concern
export const EVERYBODY = 'all' as Concern

export interface Enforcement {
  /** Workloads of the mesh, or waypoints, that it concerns. */
  readonly concerned: number
  /** Of these, those whose agents, or pods, have acknowledged it. */
  readonly inForce: number
  /** Places where it has not been acknowledged, a few of them. */
  readonly lagging: readonly string[]
  /** Places of which nobody is connected: here or to a replica that is heard of. */
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

/** Those who follow policies, by where they are: agents by their nodes, waypoints by their Gateways. All of a place have to have a policy. */
export type FollowersByPlace = ReadonlyMap<
  string,
  readonly Pick<FollowingClient<unknown>, 'isInStep'>[]
>

/** Groups those who follow policies by the node they run on. */
export function agentsByNode(
  clients: Iterable<Pick<FollowingClient<{ readonly node: string }>, 'caller' | 'isInStep'>>,
): FollowersByPlace {
  return Map.groupBy(clients, ({ caller }) => caller.node)
}

/** Groups them by the waypoint that they are pods of. */
export function waypointsByGateway(
  clients: Iterable<FollowingClient<MeshComponent>>,
): FollowersByPlace {
  return Map.groupBy(clients, ({ caller }) => gatewayOf(caller))
}

/** The Gateway that a waypoint is a pod of. */
export function gatewayOf(caller: MeshComponent): string {
  return caller.role === 'waypoint' ? `${caller.namespace}/${caller.gateway}` : ''
}

function few(nodes: string[]): readonly string[] {
  return nodes.sort().slice(0, MOST_NAMED)
}

/** Counts for one policy. `counts`: how much it concerns at each place. */
export function enforcementOf(
  key: PolicyKey,
  counts: ReadonlyMap<string, number>,
  followers: FollowersByPlace,
): Enforcement {
  let concerned = 0
  let inForce = 0
  const lagging: string[] = []
  const unseen: string[] = []
  for (const [place, count] of counts) {
    concerned += count
    const there = followers.get(place) ?? []
    const isInForce = there.length > 0 && there.every((each) => each.isInStep(key))
    if (isInForce) inForce += count
    else (there.length === 0 ? unseen : lagging).push(place)
  }
  return { concerned, inForce, lagging: few(lagging), unseen: few(unseen) }
}
