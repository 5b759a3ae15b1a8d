// SPDX-License-Identifier: Apache-2.0
// How a process comes into a cgroup before its first instruction.

/** Words that put what follows them into a cgroup before it runs. */
export function enterCgroup(cgroup: string): readonly string[] {
  return ['sh', '-euc', 'echo 0 > "$0/cgroup.procs"; exec "$@"', cgroup]
}
