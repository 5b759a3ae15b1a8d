// SPDX-License-Identifier: Apache-2.0
// How to run one more command in a running container: its cgroup, namespaces, working directory, user and
// environment. Gives the command line; the caller spawns it as it needs.

import { readFileSync } from 'node:fs'
import { type ContainerRecord, isRunning } from './pod-record.ts'

/** The command line, or undefined when the container does not run. */
export function execCommandLine(
  container: ContainerRecord,
  command: readonly string[],
): readonly string[] | undefined {
  const { process: running, cgroup, user, group } = container
  if (running === undefined || !isRunning(running)) return undefined
  const environment = readFileSync(`/proc/${running.pid}/environ`, 'utf8')
    .split('\0')
    .filter((entry) => entry.includes('='))
  const switchUser =
    user === undefined && group === undefined
      ? []
      : [
          'setpriv',
          ...(user === undefined ? [] : [`--reuid=${user}`]),
          `--regid=${group ?? 0}`,
          '--clear-groups',
          '--',
        ]
  return [
    ...enterCgroup(cgroup),
    'nsenter',
    `--target=${running.pid}`,
    '--mount',
    '--uts',
    '--net',
    '--wd',
    ...switchUser,
    'env',
    '-i',
    ...environment,
    ...command,
  ]
}

/** Words that put what follows them into a cgroup before it runs. */
export function enterCgroup(cgroup: string): readonly string[] {
  return ['sh', '-euc', 'echo 0 > "$0/cgroup.procs"; exec "$@"', cgroup]
}
