// SPDX-License-Identifier: Apache-2.0
// How many file descriptors this process may have: what every bound on connections is counted from.

import { readFileSync } from 'node:fs'

/** What to reckon with where the kernel says "unlimited": the usual ceiling of a service (fs.nr_open). */
const UNLIMITED = 1_048_576

/** RLIMIT_NOFILE; Node has raised the soft limit to the hard one at its start. */
export function descriptorLimit(limits = readFileSync('/proc/self/limits', 'utf8')): number {
  const soft = /^Max open files\s+(\S+)/m.exec(limits)?.[1]
  const limit = Number(soft)
  return Number.isSafeInteger(limit) && limit > 0 ? limit : UNLIMITED
}
