// SPDX-License-Identifier: Apache-2.0
// Where a lab keeps what it makes: names of namespaces, directories and cgroups, all derived from the lab's
// name so that `down` can find them even when every record is lost.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { AmbitError } from '../../mesh/errors.ts'

/** Labs live below here; one directory each. */
export const LABS_DIRECTORY = '/run/ambit-lab'
/** Where `ip netns` keeps its bind mounts. */
export const NETNS_DIRECTORY = '/run/netns'

/**
 * The lab's directory, and the pods' in it, are root's alone: below them are kubeconfigs, tokens and Secrets, sockets that
 * lead past authentication, and logs. A pod's containers do not notice: what is theirs is mounted from there by root.
 */
export const PRIVATE_DIRECTORY_MODE = 0o700
/** Files that hold a secret are root's by themselves as well. */
export const SECRET_FILE_MODE = 0o600

export const DEFAULT_LAB_NAME = 'demo'

/** Lab names become parts of file and namespace names. */
const NAME_PATTERN = /^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/

export interface LabLayout {
  readonly name: string
  readonly runDir: string
  readonly stateFile: string
  readonly kubeconfig: string
  readonly logsDir: string
  readonly podsDir: string
  readonly bpfDir: string
  readonly cgroup: string
  /** Where cgroup v2 is mounted. */
  readonly cgroupMount: string
  /** All network namespaces of the lab have names with this beginning. */
  readonly netnsPrefix: string
  readonly fabricNetns: string
}

export interface NodeLayout {
  readonly name: string
  readonly netns: string
  readonly dir: string
  readonly cniNetDir: string
  readonly cniBinDir: string
  readonly agentDir: string
  /** A directory for each pod of the node, named as a kubelet names those of pods' logs; nothing else is in them. */
  readonly podLogsDir: string
  readonly bpfDir: string
  readonly cgroup: string
  readonly kubeletCgroup: string
  readonly execCgroup: string
  readonly podsCgroup: string
}

/** The layout of the lab with this name; throws AMB_USAGE for a name that cannot be one. */
export function labLayout(name: string): LabLayout {
  if (!NAME_PATTERN.test(name)) {
    throw new AmbitError(
      'AMB_USAGE',
      `Cannot use "${name}" as the name of a lab: only a-z, 0-9 and inner dashes, 32 characters at most`,
    )
  }
  const runDir = join(LABS_DIRECTORY, name)
  const cgroupMount = findCgroup2()
  return {
    name,
    runDir,
    stateFile: join(runDir, 'state.json'),
    kubeconfig: join(runDir, 'kubeconfig'),
    logsDir: join(runDir, 'logs'),
    podsDir: join(runDir, 'pods'),
    bpfDir: join(runDir, 'bpf'),
    cgroup: join(cgroupMount, `ambit-${name}`),
    cgroupMount,
    netnsPrefix: `ambit-${name}-`,
    fabricNetns: `ambit-${name}-fabric`,
  }
}

/** The layout of one node of a lab. */
export function nodeLayout(lab: LabLayout, node: string): NodeLayout {
  const dir = join(lab.runDir, 'nodes', node)
  const cgroup = join(lab.cgroup, node)
  return {
    name: node,
    netns: `${lab.netnsPrefix}${node}`,
    dir,
    cniNetDir: join(dir, 'cni', 'net.d'),
    cniBinDir: join(dir, 'cni', 'bin'),
    agentDir: join(dir, 'agent'),
    podLogsDir: join(dir, 'pod-logs'),
    bpfDir: join(lab.bpfDir, node),
    cgroup,
    kubeletCgroup: join(cgroup, 'kubelet'),
    execCgroup: join(cgroup, 'exec'),
    podsCgroup: join(cgroup, 'kubepods'),
  }
}

/** The network namespace of a pod, by its uid. */
export function podNetns(lab: LabLayout, uid: string): string {
  return `${lab.netnsPrefix}p-${uid.slice(0, 8)}`
}

/** The path by which nsenter and CNI plugins reach a named network namespace. */
export function netnsPath(netns: string): string {
  return join(NETNS_DIRECTORY, netns)
}

/** Finds the cgroup v2 mount; throws AMB_CGROUP2_MISSING when there is none. */
function findCgroup2(): string {
  for (const line of readFileSync('/proc/mounts', 'utf8').split('\n')) {
    const [, path, type] = line.split(' ')
    if (type === 'cgroup2' && path !== undefined) return path
  }
  throw new AmbitError('AMB_CGROUP2_MISSING', 'Cannot make a lab: cgroup v2 is not mounted')
}
