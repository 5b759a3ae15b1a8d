// SPDX-License-Identifier: Apache-2.0
// Where a cgroup is in this process's file system. /proc names cgroups from the reader's cgroup namespace, with `..` for what
// lies outside of it; mounts have roots that are named likewise. Pure.

export interface CgroupMount {
  /** The directory. */
  readonly at: string
  /** Which cgroup is mounted there, as the names that lead to it from the reader's. */
  readonly root: readonly string[]
}

/** Where a cgroup is below a mount: so many levels of unknown names, then these. */
export interface PathBelow {
  readonly unknown: number
  readonly names: readonly string[]
}

/** The cgroup v2 mounts that can be reached, the one with the most below it first. `text` is that of /proc/self/mountinfo. */
export function cgroupMounts(text: string): readonly CgroupMount[] {
  const found = new Map<string, CgroupMount | undefined>()
  for (const line of text.split('\n')) {
    const [before = '', after = ''] = line.split(' - ')
    const fields = before.split(' ')
    const root = fields[3]
    const at = fields[4]
    if (root === undefined || at === undefined) continue
    // What is mounted later at the same place hides what was there.
    const place = unescaped(at)
    const isCgroup = after.startsWith('cgroup2 ')
    found.set(place, isCgroup ? { at: place, root: namesOf(unescaped(root)) } : undefined)
  }
  return [...found.values()].filter((mount) => mount !== undefined).sort(byReach)
}

/** The path of cgroup v2 in a /proc/<pid>/cgroup; undefined where there is none. */
export function unifiedCgroup(text: string): readonly string[] | undefined {
  const line = text.split('\n').find((each) => each.startsWith('0::/'))
  return line === undefined ? undefined : namesOf(line.slice('0::'.length))
}

/** Where the cgroup is below the mount; undefined when it is not. */
export function pathBelow(
  { root }: Pick<CgroupMount, 'root'>,
  cgroup: readonly string[],
): PathBelow | undefined {
  const [rootUps, cgroupUps] = [upsOf(root), upsOf(cgroup)]
  // The kernel goes up only to where two paths part: what lies between there and the mount has names nobody told us.
  if (rootUps > cgroupUps)
    return root.length > rootUps
      ? undefined
      : { unknown: rootUps - cgroupUps, names: cgroup.slice(cgroupUps) }
  const isBelow = rootUps === cgroupUps && root.every((name, index) => cgroup[index] === name)
  return isBelow ? { unknown: 0, names: cgroup.slice(root.length) } : undefined
}

/** Further out, then shorter. */
function byReach(a: CgroupMount, b: CgroupMount): number {
  return upsOf(b.root) - upsOf(a.root) || a.root.length - b.root.length || a.at.length - b.at.length
}

const upsOf = (names: readonly string[]): number => {
  const first = names.findIndex((name) => name !== '..')
  return first < 0 ? names.length : first
}

const namesOf = (path: string): readonly string[] => path.split('/').filter((name) => name !== '')

/** Blanks and the like are octal there (proc(5)). */
const unescaped = (text: string): string =>
  text.replaceAll(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  )
