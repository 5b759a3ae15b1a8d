// SPDX-License-Identifier: Apache-2.0
// How to run one more command in a running container: its cgroup, namespaces, working directory, user and
// environment. Says what to spawn; the caller spawns it as it needs.

import { enterCgroup } from '../machine/enter-cgroup.ts'
import { isRunning } from '../machine/process-record.ts'
import type { ContainerRecord } from './pod-record.ts'
import { userSwitch } from './start-script.ts'

export interface ContainerCommand {
  readonly argv: readonly string[]
  /** For the spawned process itself, never as words of its command line: those, every user of the machine can read. */
  readonly environment: Readonly<Record<string, string>>
}

/** What to spawn, or undefined when the container does not run. */
export function containerCommand(
  container: ContainerRecord,
  command: readonly string[],
): ContainerCommand | undefined {
  const { process: running, cgroup, environment } = container
  if (running === undefined || !isRunning(running)) return undefined
  const enter = ['nsenter', `--target=${running.pid}`, '--mount', '--uts', '--net', '--wd']
  return {
    argv: [...enterCgroup(cgroup), ...enter, ...userSwitch(container), ...command],
    // What the container was started with. /proc/PID/environ would be what its processes have made of it since, and a
    // PATH of theirs must not choose the programs that root runs here.
    environment,
  }
}
