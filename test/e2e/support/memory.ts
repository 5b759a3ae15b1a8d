// SPDX-License-Identifier: Apache-2.0
// How much memory an agent uses, as the kernel sees it.

import { readFileSync } from 'node:fs'
import type { Lab } from '../../../lab/cluster/index.ts'
import { agentOf } from './mesh-lab.ts'

/** Resident memory of a node's agent. MiB. */
export async function agentMemory(lab: Lab, node: string): Promise<number> {
  const pid = await agentPid(lab, node)
  const kilobytes = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
  return Number(kilobytes) / 1024
}

/** Process of a node's agent. */
export async function agentPid(lab: Lab, node: string): Promise<number> {
  const pod = await agentOf(lab, node)
  const pid = lab.pod(pod).containers[0]?.process?.pid
  if (pid === undefined) throw new Error(`${pod} does not run`)
  return pid
}
