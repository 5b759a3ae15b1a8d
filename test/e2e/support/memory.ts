// SPDX-License-Identifier: Apache-2.0
// How much memory an agent, or a waypoint, uses, as the kernel sees it.

import { readFileSync, writeFileSync } from 'node:fs'
import type { Lab } from '../../../lab/cluster/index.ts'
import { agentOf } from './mesh-lab.ts'

/** Resident memory of a node's agent. MiB. */
export async function agentMemory(lab: Lab, node: string): Promise<number> {
  return memoryOf(await agentPid(lab, node), 'VmRSS')
}

/** What a process has now, or had at most since forgetPeak(). MiB. */
export function memoryOf(pid: number, what: 'VmRSS' | 'VmHWM'): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Number(new RegExp(`^${what}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]) / 1024
}

/** From now on the most that the process has is counted (proc(5), clear_refs). */
export function forgetPeak(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, '5')
}

/** Process of a node's agent. */
export async function agentPid(lab: Lab, node: string): Promise<number> {
  return podPid(lab, await agentOf(lab, node))
}

/** Process of a pod's first container; `pod` is namespace/name. */
export function podPid(lab: Lab, pod: string): number {
  const pid = lab.pod(pod).containers[0]?.process?.pid
  if (pid === undefined) throw new Error(`${pod} does not run`)
  return pid
}
