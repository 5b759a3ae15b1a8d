// SPDX-License-Identifier: Apache-2.0
// The cgroups of a cluster's nodes, in every hierarchy of the machine.

import { readdirSync, readFileSync, rmdirSync } from 'node:fs'
import { join } from 'node:path'
import { CGROUP_PREFIX } from './layout.ts'

/** Each node's, or one node's, in each hierarchy; they exist. */
export function nodeCgroups(node = ''): readonly string[] {
  return readFileSync('/proc/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .filter(([, , type]) => type === 'cgroup' || type === 'cgroup2')
    .flatMap(([, place = '']) => foldersOf(place).map((name) => join(place, name)))
    .filter((path) => path.includes(`/${CGROUP_PREFIX}${node}`))
}

/** Removes a cgroup with those below it. False while a process is in one of them. */
export function removeCgroup(path: string): boolean {
  const isEmpty = foldersOf(path).map((name) => removeCgroup(join(path, name)))
  if (isEmpty.includes(false)) return false
  try {
    rmdirSync(path)
    return true
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return true
    if (code === 'EBUSY') return false
    throw error
  }
}

function foldersOf(path: string): readonly string[] {
  try {
    return readdirSync(path, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}
