// SPDX-License-Identifier: Apache-2.0
// Takes a taint off each node whose agent is ready and has its CNI plugin in place. Who gives new nodes that taint has no pod there that starts before the mesh can capture
// it. The leader does this and not the agents: the right to change nodes, which RBAC cannot narrow to one, stays with the control plane.

import { Backoff, delay } from '../../mesh/async/backoff.ts'
import type { Collection } from '../../mesh/collections/index.ts'
import {
  chainProblem,
  type KubeApi,
  type KubeFailure,
  type Node,
  NODES,
  PODS,
} from '../../mesh/kube/index.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import type { NodeFacts } from '../core/node.ts'
import type { ObjectKey } from '../core/origin.ts'
import type { PodFacts } from '../core/pod.ts'

export interface AgentTaintOptions {
  /** Of the taint. Only this one is ever taken off. */
  readonly key: string
  readonly nodes: Collection<ObjectKey, NodeFacts>
  readonly pods: Collection<ObjectKey, PodFacts>
  /** `namespace/service-account` of agents: nobody else's pod opens a node. */
  readonly agents: ReadonlySet<string>
  /** The cluster of `api`. */
  readonly cluster: string
  readonly log: Logger
  /** Ends it. */
  readonly signal: AbortSignal
}

/** Changes of pods come in crowds; a node waits this long at most after its agent is ready. */
const GATHER_MS = 200
const RETRIES = { firstMs: 1_000, longestMs: 30_000 }

/** A node, and its agent's pod. */
interface Openable {
  readonly node: string
  readonly agent: { readonly namespace: string; readonly name: string }
}

/** The nodes that have the taint and an agent that is ready. Pure. */
function openableNodes({
  key,
  nodes,
  pods,
  agents,
  cluster,
}: Omit<AgentTaintOptions, 'log' | 'signal'>): readonly Openable[] {
  const tainted = new Set<string>()
  for (const node of nodes.values())
    if (node.cluster === cluster && node.taints.includes(key)) tainted.add(node.name)
  // As a rule there is none, and nobody looks through all pods.
  if (tainted.size === 0) return []
  const open = new Map<string, Openable>()
  for (const { name, node, isHealthy, template } of pods.values())
    if (
      isHealthy &&
      template.cluster === cluster &&
      tainted.has(node) &&
      agents.has(`${template.namespace}/${template.serviceAccount}`)
    )
      open.set(node, { node, agent: { namespace: template.namespace, name } })
  return [...open.values()]
}

/** Takes it off until the signal aborts. */
export async function removeAgentTaint(api: KubeApi, options: AgentTaintOptions): Promise<void> {
  const { key, nodes, pods, log, signal } = options
  const backoff = new Backoff(RETRIES)
  const told = new Map<string, string>()
  let changed = Promise.withResolvers<void>()
  const wakeUp = (): void => changed.resolve()
  const unsubscribers = [nodes.subscribe(wakeUp), pods.subscribe(wakeUp)]
  signal.addEventListener('abort', wakeUp, { once: true })
  try {
    while (!signal.aborted) {
      changed = Promise.withResolvers()
      const wake = changed.promise
      let hasFailed = false
      for (const { node: name, agent } of openableNodes(options)) {
        const problem = await whyClosed(api, agent, signal)
        if (problem !== undefined) {
          // The condition is none of the facts that wake us.
          hasFailed = true
          if (told.get(name) !== problem)
            log.warn(
              { node: name, taint: key, reason: problem },
              'the taint stays: pods would start there before the mesh can capture them',
            )
          told.set(name, problem)
          continue
        }
        told.delete(name)
        const failure = await untaint(api, name, key, signal)
        if (failure === undefined) log.info({ node: name, taint: key }, 'the node takes pods now')
        else if (failure.kind !== 'notFound' && failure.kind !== 'aborted') {
          hasFailed = true
          log.warn({ node: name, taint: key, reason: failure.message }, 'cannot take the taint off')
        }
      }
      if (!hasFailed) backoff.reset()
      await Promise.race([wake, ...(hasFailed ? [delay(backoff.next(), signal)] : [])])
      await delay(GATHER_MS, signal)
    }
  } finally {
    for (const unsubscribe of unsubscribers) unsubscribe()
    signal.removeEventListener('abort', wakeUp)
  }
}

/** Why pods of the agent's node would start without the CNI plugin, as the agent says, or why it cannot be asked; undefined where it does not say that. */
async function whyClosed(
  api: KubeApi,
  agent: Openable['agent'],
  signal: AbortSignal,
): Promise<string | undefined> {
  const read = await api.get(PODS, agent, { signal })
  return read.ok ? chainProblem(read.value.status?.conditions) : read.error.message
}

async function untaint(
  api: KubeApi,
  name: string,
  key: string,
  signal: AbortSignal,
): Promise<KubeFailure | undefined> {
  const read = await api.get<Node>(NODES, { name }, { signal })
  if (!read.ok) return read.error
  const { metadata, spec } = read.value
  const kept = (spec?.taints ?? []).filter((taint) => taint.key !== key)
  // A list is replaced as a whole: with the version that was read, a taint that somebody adds meanwhile is not lost.
  const change = {
    metadata: { resourceVersion: metadata?.resourceVersion },
    spec: { taints: kept.length === 0 ? null : kept },
  }
  const patched = await api.patch(NODES, { name }, change, { signal })
  return patched.ok ? undefined : patched.error
}
