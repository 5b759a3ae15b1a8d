// SPDX-License-Identifier: Apache-2.0
// Takes a taint off each node whose agent is ready. Who gives new nodes that taint has no pod there that starts before the mesh can capture
// it. The leader does this and not the agents: the right to change nodes, which RBAC cannot narrow to one, stays with the control plane.

import { Backoff, delay } from '../../mesh/async/backoff.ts'
import type { Collection } from '../../mesh/collections/index.ts'
import { type KubeApi, type KubeFailure, type Node, NODES } from '../../mesh/kube/index.ts'
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

/** The names of nodes that have the taint and an agent that is ready. Pure. */
function openableNodes({
  key,
  nodes,
  pods,
  agents,
  cluster,
}: Omit<AgentTaintOptions, 'log' | 'signal'>): readonly string[] {
  const tainted = new Set<string>()
  for (const node of nodes.values())
    if (node.cluster === cluster && node.taints.includes(key)) tainted.add(node.name)
  // As a rule there is none, and nobody looks through all pods.
  if (tainted.size === 0) return []
  const open = new Set<string>()
  for (const { node, isHealthy, template } of pods.values())
    if (
      isHealthy &&
      template.cluster === cluster &&
      tainted.has(node) &&
      agents.has(`${template.namespace}/${template.serviceAccount}`)
    )
      open.add(node)
  return [...open]
}

/** Takes it off until the signal aborts. */
export async function removeAgentTaint(api: KubeApi, options: AgentTaintOptions): Promise<void> {
  const { key, nodes, pods, log, signal } = options
  const backoff = new Backoff(RETRIES)
  let changed = Promise.withResolvers<void>()
  const wakeUp = (): void => changed.resolve()
  const unsubscribers = [nodes.subscribe(wakeUp), pods.subscribe(wakeUp)]
  signal.addEventListener('abort', wakeUp, { once: true })
  try {
    while (!signal.aborted) {
      changed = Promise.withResolvers()
      const wake = changed.promise
      let hasFailed = false
      for (const name of openableNodes(options)) {
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
