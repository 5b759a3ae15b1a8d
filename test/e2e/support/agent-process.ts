// SPDX-License-Identifier: Apache-2.0
// What an agent's process uses up, as the kernel sees it.

import { readdirSync } from 'node:fs'
import type { Lab } from '../../../lab/cluster/index.ts'
import { agentMemory, agentPid } from './memory.ts'

export interface Usage {
  /** Open file descriptors. */
  readonly descriptors: number
  /** Resident memory, MiB. */
  readonly memory: number
}

export async function usageOf(lab: Lab, node: string): Promise<Usage> {
  const pid = await agentPid(lab, node)
  return {
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    memory: await agentMemory(lab, node),
  }
}
