// SPDX-License-Identifier: Apache-2.0
// Where capture attaches and whose connections are probes, where the operator does not say: the outermost cgroup v2 that is
// mounted here, and the kubelet's cgroup below it.

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { AmbitError } from '../../mesh/errors.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import { type CgroupMount, cgroupMounts, pathBelow, unifiedCgroup } from './cgroup-path.ts'
import { type KubeletProcess, kubeletProcesses } from './kubelet-process.ts'

export interface NodeCgroupOptions {
  /** By flag. */
  readonly cgroup?: string
  readonly kubeletCgroups: readonly string[]
  /** The host's /proc as seen from here. */
  readonly procRoot: string
}

export interface NodeCgroups {
  readonly cgroup: string
  readonly kubeletCgroups: readonly string[]
  /** Looks again where the kubelet was found, and not named; undefined while it cannot be found. */
  readonly findKubelet: (() => readonly string[] | undefined) | undefined
}

/** Directories of unknown name are looked for no deeper: a kubelet is a few levels below the node's root. */
const DEEPEST_SEARCH = 4

/** Finds what the flags leave open. Throws AMB_CGROUP2_MISSING, AMB_KUBELET_MISSING. */
export function findNodeCgroups(options: NodeCgroupOptions, log: Logger): NodeCgroups {
  if (process.geteuid?.() !== 0)
    throw new AmbitError(
      'AMB_NOT_ROOT',
      'Cannot find the cgroups of the node: this process does not run as root',
    )
  const mount = options.cgroup === undefined ? outermost() : mountOf(options.cgroup)
  const cgroup = options.cgroup ?? mount?.at ?? ''
  const { kubeletCgroups, procRoot } = options
  if (kubeletCgroups.length > 0) return { cgroup, kubeletCgroups, findKubelet: undefined }
  if (mount === undefined)
    throw missing(`${cgroup} is below no cgroup v2 mount, so that it cannot be told where it is`)
  if (!existsSync(procRoot)) throw missing(`${procRoot} is not there`)
  const found = kubeletCgroup(mount, kubeletProcesses(procRoot))
  if (typeof found === 'string') throw missing(`${found} (in ${procRoot})`)
  log.info({ cgroup, kubelet: found.directory, pid: found.pid }, "found the node's cgroups")
  return {
    cgroup,
    kubeletCgroups: [found.directory],
    findKubelet: () => {
      const again = kubeletCgroup(mount, kubeletProcesses(procRoot))
      return typeof again === 'string' ? undefined : [again.directory]
    },
  }
}

/** The kubelet's directory below the mount; or why there is none. */
export function kubeletCgroup(
  mount: CgroupMount,
  processes: readonly KubeletProcess[],
): { readonly directory: string; readonly pid: number } | string {
  const listening = processes.filter(({ isListening }) => isListening)
  const places = new Map<string, KubeletProcess>()
  for (const each of listening.length > 0 ? listening : processes)
    places.set(unifiedCgroup(each.cgroup)?.join('/') ?? '', each)
  const [[, kubelet] = [], ...others] = places
  if (kubelet === undefined)
    return "no process of the node's network is root's, in no pod, and runs kubelet, k3s, kubelite or hyperkube"
  if (others.length > 0)
    return `several processes may be the kubelet: ${[...places.values()].map(({ pid }) => pid).join(', ')}`
  const names = unifiedCgroup(kubelet.cgroup)
  if (names === undefined) return `process ${kubelet.pid} is in no cgroup of v2`
  const below = pathBelow(mount, names)
  if (below === undefined)
    return `the cgroup of process ${kubelet.pid}, /${names.join('/')}, is not below what is mounted at ${mount.at}: that is this container's own, not the node's`
  if (below.names.length === 0)
    return `process ${kubelet.pid} is in the cgroup at ${mount.at} itself, where it cannot be told from others`
  const [directory, ...more] = directoriesAt(mount.at, below.unknown)
    .map((parent) => path.join(parent, ...below.names))
    .filter((each) => existsSync(each))
  if (directory === undefined || more.length > 0)
    return `the cgroup of process ${kubelet.pid}, /${names.join('/')}, was found ${more.length > 0 ? 'several times' : 'nowhere'} below ${mount.at}`
  return { directory, pid: kubelet.pid }
}

/** The directories so many levels below. */
function directoriesAt(top: string, levels: number): readonly string[] {
  if (levels > DEEPEST_SEARCH) return []
  let found: readonly string[] = [top]
  for (let level = 0; level < levels; level += 1)
    found = found.flatMap((parent) =>
      readdirSync(parent, { withFileTypes: true })
        .filter((entry) => entry.isDirectory())
        .map(({ name }) => path.join(parent, name)),
    )
  return found
}

function ownMounts(): readonly CgroupMount[] {
  return cgroupMounts(readFileSync('/proc/self/mountinfo', 'utf8'))
}

function outermost(): CgroupMount {
  const [mount] = ownMounts()
  if (mount === undefined)
    throw new AmbitError(
      'AMB_CGROUP2_MISSING',
      'Cannot find the cgroups of the node: no cgroup v2 is mounted here (--cgroup names one elsewhere)',
    )
  return mount
}

/** The mount that the directory is in. */
function mountOf(directory: string): CgroupMount | undefined {
  return ownMounts()
    .filter(({ at }) => directory === at || directory.startsWith(at === '/' ? at : `${at}/`))
    .toSorted((a, b) => b.at.length - a.at.length)[0]
}

function missing(reason: string): AmbitError {
  return new AmbitError('AMB_KUBELET_MISSING', `Cannot find the cgroup of the kubelet: ${reason}`)
}
