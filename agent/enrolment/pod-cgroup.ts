// SPDX-License-Identifier: Apache-2.0
// Whose pod is a process, by its cgroup? A process may be moved to cgroups below its own, whatever they are called, so
// only the outermost name counts that the kubelet itself gave: right below the root of its cgroups. Pure.

/** Where the kubelet's cgroups begin, by hierarchy (the text before the path in /proc/<pid>/cgroup). */
export type KubeletRoots = ReadonlyMap<string, readonly string[]>

const UID = '([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})'
/**
 * The names the kubelet gives, by the cgroupfs driver and by the systemd driver, whose slices repeat their parents'
 * names and write `_` for `-`: `kubepods/burstable/pod<uid>`, `kubepods.slice/.../kubepods-burstable-pod<uid>.slice`.
 */
const ALL_PODS = /^(?:[^/]+-)?kubepods(?:\.slice)?$/
const QOS_CLASS = /^(?:(?:[^/]+-)?kubepods-)?(?:burstable|besteffort)(?:\.slice)?$/
const ONE_POD = new RegExp(
  // A runtime that does not speak systemd where the kubelet does takes the slice for a part of the container's name.
  `^(?:(?:[^/]+-)?kubepods-(?:burstable-|besteffort-)?)?pod${UID}(?:\\.slice(?::[^/]+)?)?$`,
)
/** The root of hierarchies about which nothing is known. */
const TOP: readonly string[] = []

/**
 * The kubelet's roots, told by where this process is: the agent is a pod of that kubelet, or runs in the cgroup that is
 * the node's (`nodeCgroup`, a path of the file system). `own` is the text of /proc/self/cgroup.
 */
export function kubeletRoots(own: string, nodeCgroup: string): KubeletRoots {
  const roots = new Map<string, readonly string[]>()
  const node = nodeCgroup.split('/').filter((name) => name !== '')
  for (const [hierarchy, names] of linesOf(own)) {
    const pod = names.findLastIndex((name) => ONE_POD.test(name))
    roots.set(hierarchy, pod < 0 ? overlap(node, names) : aboveKubelet(names.slice(0, pod)))
  }
  return roots
}

/**
 * The uid of the pod whose cgroup the process is in, with dashes (static pods: their 32 digit hash). Undefined for
 * processes of no pod, and where the hierarchies of cgroup v1 do not agree.
 */
export function podUidOfCgroup(text: string, roots: KubeletRoots): string | undefined {
  const found = new Set<string>()
  for (const [hierarchy, names] of linesOf(text)) {
    const uid = podUidBelow(names, roots.get(hierarchy) ?? TOP)
    if (uid !== undefined) found.add(uid)
  }
  const [uid, ...others] = found
  return others.length === 0 ? uid : undefined
}

function podUidBelow(names: readonly string[], root: readonly string[]): string | undefined {
  // Outside of our cgroup namespace the kernel names a path from where they part: the kubelet's cgroups, or below.
  const parting = names.findIndex((name) => name !== '..')
  if (parting < 0) return undefined
  if (parting === 0 && !root.every((name, index) => names[index] === name)) return undefined
  let at = parting === 0 ? root.length : parting
  if (ALL_PODS.test(names[at] ?? '')) at += 1
  if (QOS_CLASS.test(names[at] ?? '')) at += 1
  return ONE_POD.exec(names[at] ?? '')?.[1]?.replaceAll('_', '-')
}

/** The names above those the kubelet adds for all pods and for a class of them. */
function aboveKubelet(names: readonly string[]): readonly string[] {
  const below = names.findLastIndex((name) => !ALL_PODS.test(name) && !QOS_CLASS.test(name))
  return names.slice(0, below + 1)
}

/** The longest end of one path with which the other begins: a path of the file system ends as that of the cgroup does. */
function overlap(end: readonly string[], beginning: readonly string[]): readonly string[] {
  for (let length = Math.min(end.length, beginning.length); length > 0; length -= 1)
    if (end.slice(-length).every((name, index) => beginning[index] === name))
      return beginning.slice(0, length)
  return TOP
}

function* linesOf(text: string): Generator<readonly [string, readonly string[]]> {
  for (const line of text.split('\n')) {
    const path = line.indexOf(':/')
    if (path < 0) continue
    const names = line.slice(path + 2).split('/')
    yield [line.slice(0, path), names.filter((name) => name !== '')]
  }
}
