// SPDX-License-Identifier: Apache-2.0
// The agents of a cluster and what they answer. One that cannot be asked is told of, and holds up no other.

import { AmbitError } from '../../mesh/errors.ts'
import { chainProblem, type Pod, PODS } from '../../mesh/kube/index.ts'
import type { Result } from '../../mesh/result.ts'
import { type ConfigDump, readConfigDump } from '../dump/config-dump.ts'
import { askAdmin } from './admin.ts'
import type { ClusterTarget } from './target.ts'
import { kubeError } from './kube-reads.ts'

/** Of the DaemonSet. */
const AGENT_LABEL = 'app=ambit-agent'

/** The pod of an agent. */
export interface AgentPod {
  readonly pod: string
  readonly node: string
  readonly isReady: boolean
  /** Containers' restarts until now. */
  readonly restarts: number
  /** Why new pods of its node start without the CNI plugin, as it says; undefined where they do not, or nothing is said. */
  readonly chainProblem?: string | undefined
}

export interface AgentAnswer<T> extends AgentPod {
  readonly answer: Result<T, string>
}

/** The agents, by node; of one node alone when it is named. Throws AMB_AGENT_MISSING when there is none. */
export async function findAgents(
  target: ClusterTarget,
  node: string | undefined,
): Promise<readonly AgentPod[]> {
  const { systemNamespace: namespace } = target
  const pods = await target.api.list(PODS, { namespace, labelSelector: AGENT_LABEL })
  if (!pods.ok) throw kubeError(pods.error)
  const agents = pods.value.items
    .filter(({ metadata }) => metadata?.deletionTimestamp === undefined)
    .map(agentPod)
    .toSorted((one, other) => one.node.localeCompare(other.node))
  const found = node === undefined ? agents : agents.filter((agent) => agent.node === node)
  if (found.length > 0) return found
  const where = agents.map((agent) => agent.node).join(', ')
  throw new AmbitError(
    'AMB_AGENT_MISSING',
    node === undefined || agents.length === 0
      ? `Cannot find an agent: no pod in namespace ${namespace} has the label ${AGENT_LABEL}`
      : `Cannot find an agent on node "${node}": there are agents on ${where}`,
  )
}

/** Asks each agent at once. */
export async function askAgents<T>(
  agents: readonly AgentPod[],
  ask: (agent: AgentPod) => Promise<Result<T, string>>,
): Promise<readonly AgentAnswer<T>[]> {
  return await Promise.all(agents.map(async (agent) => ({ ...agent, answer: await ask(agent) })))
}

/** The dump of one agent, with the mesh state in its own encoding if it is wanted. */
export async function agentDump(
  target: ClusterTarget,
  { pod }: AgentPod,
  { withResources = false }: { readonly withResources?: boolean } = {},
): Promise<Result<ConfigDump, string>> {
  const path = withResources ? '/config_dump?resources' : '/config_dump'
  const answer = await askAdmin(target, { pod, path })
  return answer.ok ? readConfigDump(answer.value) : answer
}

function agentPod({ metadata, spec, status }: Pod): AgentPod {
  return {
    pod: metadata?.name ?? '',
    node: spec?.nodeName ?? '',
    isReady:
      status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ===
      true,
    restarts: (status?.containerStatuses ?? []).reduce(
      (sum, { restartCount }) => sum + restartCount,
      0,
    ),
    chainProblem: chainProblem(status?.conditions),
  }
}
