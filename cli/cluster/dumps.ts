// SPDX-License-Identifier: Apache-2.0
// Where a command has its dumps from: a file, one agent, or all of them.

import { readFileSync } from 'node:fs'
import { AmbitError, errorMessage } from '../../mesh/errors.ts'
import { parseJson } from '../../mesh/json.ts'
import { type ConfigDump, readConfigDump } from '../dump/config-dump.ts'
import type { DumpFlags } from '../flags.ts'
import { type AgentPod, agentDump, askAgents, findAgents } from './agents.ts'
import { type ClusterTarget, openTarget } from './target.ts'

/** The dump of one node's agent. */
export interface NodeDump {
  readonly node: string
  readonly dump: ConfigDump
}

export interface Dumps {
  readonly dumps: readonly NodeDump[]
  /** Of agents that could not be asked. */
  readonly failures: readonly AmbitError[]
}

type Source = Pick<
  DumpFlags,
  'file' | 'node' | 'name' | 'kubeconfig' | 'context' | 'systemNamespace'
>

/** Those of all agents, or of the named node's. */
export async function allDumps(flags: Source): Promise<Dumps> {
  if (flags.file !== undefined) return fromFile(flags.file)
  const target = await openTarget(flags)
  const agents = await findAgents(target, flags.node)
  const answers = await askAgents(agents, (agent) => agentDump(target, agent))
  return {
    dumps: answers.flatMap(({ node, answer }) => (answer.ok ? [{ node, dump: answer.value }] : [])),
    failures: answers.flatMap(({ answer, ...agent }) =>
      answer.ok ? [] : [unreachable(agent, answer.error)],
    ),
  }
}

/**
 * That of the named node's agent, else of the first that answers: of what the control plane tells, all have the same. Throws when
 * none answers.
 */
export async function oneDump(
  flags: Source,
): Promise<{ readonly dump: ConfigDump; readonly failures: readonly AmbitError[] }> {
  if (flags.file !== undefined) {
    const [read] = fromFile(flags.file).dumps
    if (read !== undefined) return { dump: read.dump, failures: [] }
  }
  const target = await openTarget(flags)
  const agents = await findAgents(target, flags.node)
  return await firstDump(target, agents)
}

async function firstDump(target: ClusterTarget, agents: readonly AgentPod[]) {
  const failures: AmbitError[] = []
  for (const agent of agents.toSorted(
    (one, other) => Number(other.isReady) - Number(one.isReady),
  )) {
    const answer = await agentDump(target, agent)
    if (answer.ok) return { dump: answer.value, failures }
    failures.push(unreachable(agent, answer.error))
  }
  const [first] = failures
  throw first ?? new AmbitError('AMB_AGENT_MISSING', 'Cannot find an agent')
}

/** The error of an agent that cannot be asked. */
export function unreachable({ node, pod }: AgentPod, reason: string): AmbitError {
  return new AmbitError(
    'AMB_AGENT_UNREACHABLE',
    `Cannot ask the agent on ${node} (${pod}): ${reason}`,
  )
}

/** Reads a saved dump; throws AMB_DUMP naming the file and what is wrong. */
export function fromFile(file: string): Dumps {
  const fail = (reason: string): AmbitError =>
    new AmbitError('AMB_DUMP', `Cannot read a config dump from ${file}: ${reason}`)
  let text: string
  try {
    text = readFileSync(file === '-' ? 0 : file, 'utf8')
  } catch (thrown) {
    throw fail(errorMessage(thrown))
  }
  const json = parseJson(text)
  if (!json.ok) throw fail(json.error)
  const read = readConfigDump(json.value)
  if (!read.ok) throw fail(read.error)
  const node = read.value.config?.['nodeName']
  return {
    dumps: [{ node: typeof node === 'string' ? node : '', dump: read.value }],
    failures: [],
  }
}
