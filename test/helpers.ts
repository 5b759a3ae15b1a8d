// SPDX-License-Identifier: Apache-2.0
// What tests share: saying what a test needs, and names that cannot clash with another test or a lab.

import { readFileSync } from 'node:fs'

let counter = 0

/** A name for a namespace, cgroup or pin made by a test: starts with ambit, unique in this process and machine. */
export function uniqueName(what: string): string {
  counter += 1
  return `ambit-t${process.pid}-${what}${counter}`
}

/** Where cgroup v2 is mounted, from /proc/mounts (hybrid hosts have it under /sys/fs/cgroup/unified). */
export function cgroup2Mount(): string | undefined {
  const line = readFileSync('/proc/mounts', 'utf8')
    .split('\n')
    .find((entry) => entry.split(' ')[2] === 'cgroup2')
  return line?.split(' ')[1]
}

export type Requirement = 'root' | 'cgroup2'

/** For tap's `skip` option: false when all is there, else a sentence naming what is missing. */
export function missing(...requirements: readonly Requirement[]): string | false {
  for (const requirement of requirements) {
    if (requirement === 'root' && process.getuid?.() !== 0) return 'needs root'
    if (requirement === 'cgroup2' && cgroup2Mount() === undefined) return 'needs cgroup v2 mounted'
  }
  return false
}

/** A test's time limit in ms, stretched where the machine is an emulated one (scripts/test-kernel.sh). */
export function deadline(ms: number): number {
  return ms * Number(process.env['AMBIT_TEST_SLOWNESS'] ?? 1)
}
