// SPDX-License-Identifier: Apache-2.0
// Finds the kubelet among the node's processes. What it opens is taken for probes and passes every policy, so that a name
// is no proof: nothing that a pod may run, whatever it calls itself, must be taken for it.

import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import path from 'node:path'

export interface KubeletProcess {
  readonly pid: number
  /** The text of its /proc/<pid>/cgroup. */
  readonly cgroup: string
  /** It serves the kubelet's API. */
  readonly isListening: boolean
}

/** The programs that are a kubelet or have one inside: k3s and RKE2, MicroK8s, old OpenShift. */
const PROGRAMS: ReadonlySet<string> = new Set(['kubelet', 'k3s', 'kubelite', 'hyperkube'])
/** Its API. Configurable, so that not to listen there proves nothing. */
const KUBELET_PORT = 10250
/**
 * The cgroups that a kubelet makes for pods. Who is below one can leave it for another below it, and never gets out: that
 * alone keeps pods from being taken for the kubelet.
 */
const OF_PODS = /kubepods|pod[0-9a-f]{8}([-_]?[0-9a-f]{4}){3}[-_]?[0-9a-f]{12}/
const LISTENING = '0A'

/**
 * The processes that can be the kubelet: of the node's own process and network namespace, root's, in no pod's cgroup, with a
 * program of that name.
 */
export function kubeletProcesses(procRoot: string): readonly KubeletProcess[] {
  const ownNetns = readlinkSync('/proc/self/ns/net')
  const found: KubeletProcess[] = []
  for (const name of readdirSync(procRoot)) {
    if (!/^\d+$/.test(name)) continue
    const directory = path.join(procRoot, name)
    const cgroup = candidate(directory, ownNetns)
    if (cgroup !== undefined)
      found.push({ pid: Number(name), cgroup, isListening: listens(directory) })
  }
  return found
}

/** Its cgroups, if the process can be the kubelet. Processes come and go while they are looked at. */
function candidate(directory: string, ownNetns: string): string | undefined {
  try {
    if (!PROGRAMS.has(path.basename(readlinkSync(`${directory}/exe`).replace(/ \(deleted\)$/, ''))))
      return undefined
    if (readlinkSync(`${directory}/ns/net`) !== ownNetns) return undefined
    const status = readFileSync(`${directory}/status`, 'utf8')
    // In a process namespace of its own it would have two numbers; the first of four user ids is the real one.
    if (!/^NSpid:\t\d+$/m.test(status) || !/^Uid:\t0\t/m.test(status)) return undefined
    const cgroup = readFileSync(`${directory}/cgroup`, 'utf8')
    return OF_PODS.test(cgroup) ? undefined : cgroup
  } catch (thrown) {
    if (isGone(thrown)) return undefined
    throw thrown
  }
}

function listens(directory: string): boolean {
  try {
    const sockets = new Set(
      ['tcp', 'tcp6'].flatMap((table) => listeners(`${directory}/net/${table}`)),
    )
    return (
      sockets.size > 0 &&
      readdirSync(`${directory}/fd`).some((fd) => {
        const inode = /^socket:\[(\d+)\]$/.exec(linkOf(`${directory}/fd/${fd}`))?.[1]
        return inode !== undefined && sockets.has(inode)
      })
    )
  } catch (thrown) {
    if (isGone(thrown)) return false
    throw thrown
  }
}

/** The inodes of sockets that listen at the kubelet's port (proc(5), /proc/net/tcp). */
function listeners(table: string): readonly string[] {
  const port = `:${KUBELET_PORT.toString(16).toUpperCase()}`
  return readFileSync(table, 'utf8')
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(([, local, , state]) => local?.endsWith(port) === true && state === LISTENING)
    .flatMap((fields) => fields[9] ?? [])
}

/** Descriptors are closed while they are listed. */
function linkOf(file: string): string {
  try {
    return readlinkSync(file)
  } catch (thrown) {
    if (isGone(thrown)) return ''
    throw thrown
  }
}

/** Kernel threads have no exe, processes that end have nothing. */
function isGone(thrown: unknown): boolean {
  const { code } = thrown as NodeJS.ErrnoException
  return code === 'ENOENT' || code === 'ESRCH' || code === 'EACCES'
}
