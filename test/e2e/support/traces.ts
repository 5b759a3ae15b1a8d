// SPDX-License-Identifier: Apache-2.0
// What a lab leaves on the machine: the kernel's own records of it, taken while it is up, looked for after it went.
// Identifiers and not counts are compared, so that other labs may come and go meanwhile.

import { existsSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { labLayout, NETNS_DIRECTORY } from '../../../lab/machine/layout.ts'
import { command } from '../../../lab/machine/command.ts'

interface BpfLink {
  readonly id: number
  readonly prog_id: number
  readonly cgroup_id?: number
  readonly netns_ino?: number
}

interface BpfProgram {
  readonly id: number
  readonly map_ids?: readonly number[]
}

/** Everything of one lab that the kernel knows by an identifier. */
export interface Traces {
  readonly processes: readonly string[]
  readonly namespaces: readonly string[]
  readonly mounts: readonly string[]
  readonly cgroups: readonly string[]
  readonly bpfLinks: readonly number[]
  readonly bpfPrograms: readonly number[]
  readonly bpfMaps: readonly number[]
}

/** What stands on the host itself, outside all namespaces: a lab has no business there. */
export interface HostNetwork {
  readonly links: string
  readonly rules: string
  readonly routes: string
  readonly nftables: string
}

/** Takes the records of a lab that is up. */
export async function tracesOf(lab: string): Promise<Traces> {
  const { cgroup, runDir, netnsPrefix } = labLayout(lab)
  const namespaces = namespacesOf(netnsPrefix)
  const netnsInodes = new Set(namespaces.map((name) => statSync(join(NETNS_DIRECTORY, name)).ino))
  const cgroups = tree(cgroup)
  // A pod's may go while we look: the kubelet removes it when all else of the pod is gone.
  const cgroupInodes = new Set(
    cgroups.flatMap((directory) => statSync(directory, { throwIfNoEntry: false })?.ino ?? []),
  )
  const links = (await bpftool<BpfLink>('link')).filter(
    ({ cgroup_id: id, netns_ino: netns }) =>
      (id !== undefined && cgroupInodes.has(id)) || (netns !== undefined && netnsInodes.has(netns)),
  )
  const programIds = new Set(links.map((link) => link.prog_id))
  const programs = (await bpftool<BpfProgram>('prog')).filter(({ id }) => programIds.has(id))
  return {
    processes: processesWhere(
      (pid) =>
        readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes(`/ambit-${lab}/`) ||
        netnsInodes.has(Number(/\d+/.exec(readlinkSync(`/proc/${pid}/ns/net`))?.[0])),
    ),
    namespaces,
    mounts: mountsOf(runDir, netnsPrefix),
    cgroups,
    bpfLinks: links.map(({ id }) => id),
    bpfPrograms: programs.map(({ id }) => id),
    bpfMaps: [...new Set(programs.flatMap(({ map_ids: ids }) => ids ?? []))],
  }
}

/** What is still there of a lab that had these records. */
export async function remainders(lab: string, before: Traces): Promise<Traces> {
  const { cgroup, runDir, netnsPrefix } = labLayout(lab)
  const still = async (kind: string, ids: readonly number[]): Promise<readonly number[]> => {
    const there = new Set((await bpftool<{ readonly id: number }>(kind)).map(({ id }) => id))
    return ids.filter((id) => there.has(id))
  }
  const was = new Set(before.processes)
  return {
    processes: processesWhere(
      (pid) =>
        was.has(processKey(pid)) ||
        readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes(`/ambit-${lab}/`),
    ),
    namespaces: namespacesOf(netnsPrefix),
    mounts: mountsOf(runDir, netnsPrefix),
    cgroups: tree(cgroup),
    bpfLinks: await still('link', before.bpfLinks),
    bpfPrograms: await still('prog', before.bpfPrograms),
    bpfMaps: await still('map', before.bpfMaps),
  }
}

export const NO_TRACES: Traces = {
  processes: [],
  namespaces: [],
  mounts: [],
  cgroups: [],
  bpfLinks: [],
  bpfPrograms: [],
  bpfMaps: [],
}

/** The host's own links, rules, routes and tables. */
export async function hostNetwork(): Promise<HostNetwork> {
  const [links, rules, routes, nftables] = await Promise.all([
    command(['ip', '-brief', 'link']),
    command(['sh', '-c', 'ip rule; ip -6 rule']),
    command(['sh', '-c', 'ip route show table all; ip -6 route show table all']),
    command(['nft', 'list', 'tables']),
  ])
  return { links, rules, routes, nftables }
}

async function bpftool<T>(kind: string): Promise<readonly T[]> {
  // bpftool prints what it got, as its own JSON.
  return JSON.parse(await command(['bpftool', '--json', kind, 'show'])) as readonly T[]
}

function namespacesOf(prefix: string): readonly string[] {
  if (!existsSync(NETNS_DIRECTORY)) return []
  return readdirSync(NETNS_DIRECTORY).filter((name) => name.startsWith(prefix))
}

function mountsOf(runDir: string, netnsPrefix: string): readonly string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter(
      (point) =>
        `${point}/`.startsWith(`${runDir}/`) ||
        point.startsWith(join(NETNS_DIRECTORY, netnsPrefix)),
    )
}

function tree(directory: string): readonly string[] {
  if (!existsSync(directory)) return []
  return [
    directory,
    ...readdirSync(directory, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => join(entry.parentPath, entry.name)),
  ]
}

/** Pid and start time: a pid alone may be another process's by now. */
function processKey(pid: string): string {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return `${pid} started ${fields[19] ?? ''}`
}

function processesWhere(matches: (pid: string) => boolean): readonly string[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry) && entry !== String(process.pid))
    .flatMap((pid) => {
      try {
        // A zombie has ended: it waits for its parent only, and nobody else can remove it.
        const isZombie = /\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
        return !isZombie && matches(pid) ? [processKey(pid)] : []
      } catch {
        return [] // ended meanwhile
      }
    })
}
