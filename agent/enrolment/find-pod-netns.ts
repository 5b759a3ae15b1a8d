// SPDX-License-Identifier: Apache-2.0
// Finds the processes of pods that were there before the agent, by their cgroups, and the network namespaces they are
// in. Which of those is the pod's is for the kernel to prove (prove-netns.ts): a process may make namespaces of its own.

import { open, readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { isSameNetns, netnsAt, ownNetns, type NetnsIdentity } from './netns-identity.ts'
import { kubeletRoots, podUidOfCgroup, type KubeletRoots } from './pod-cgroup.ts'

/** A process of a pod, outside of the node's network namespace. */
export interface PodProcess {
  readonly pid: number
  /** In clock ticks since boot. */
  readonly startTime: number
  readonly netnsPath: string
  readonly identity: NetnsIdentity
}

/** The processes by pod UID, in the form with dashes (static pods: their 32 digit hash), oldest first. */
export type PodProcesses = ReadonlyMap<string, readonly PodProcess[]>

/** Processes read at a time: enough to keep the disk-less /proc busy, few enough fds. */
const BATCH = 64

/** Looks through all of /proc once. `nodeCgroup` is where the node's cgroups begin. */
export async function findPodProcesses(
  nodeCgroup: string,
  procRoot = '/proc',
): Promise<PodProcesses> {
  const roots = kubeletRoots(await readFile('/proc/self/cgroup', 'utf8'), nodeCgroup)
  const pids = (await readdir(procRoot)).filter((name) => /^\d+$/.test(name))
  const own = await ownNetns()
  const found = new Map<string, PodProcess[]>()
  for (let start = 0; start < pids.length; start += BATCH) {
    const batch = pids.slice(start, start + BATCH)
    for (const seen of await Promise.all(batch.map((pid) => inspect(procRoot, pid, roots)))) {
      // A hostNetwork pod's processes, and helpers that a runtime runs in a pod's cgroup.
      if (seen === undefined || isSameNetns(seen.process.identity, own)) continue
      const known = found.get(seen.podUid)
      if (known === undefined) found.set(seen.podUid, [seen.process])
      else known.push(seen.process)
    }
  }
  for (const processes of found.values()) processes.sort((a, b) => a.startTime - b.startTime)
  return found
}

/** Field 22 of /proc/<pid>/stat, in clock ticks since boot. The second field may contain anything, also `)`. */
export function startTimeOfStat(text: string): number | undefined {
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const startTime = Number(fields[19])
  return Number.isFinite(startTime) ? startTime : undefined
}

async function inspect(
  procRoot: string,
  pid: string,
  roots: KubeletRoots,
): Promise<{ readonly podUid: string; readonly process: PodProcess } | undefined> {
  try {
    // All is read through one open directory: a number may be another process's a moment later, the directory may not.
    await using directory = await open(path.join(procRoot, pid), 'r')
    const here = `/proc/self/fd/${directory.fd}`
    const podUid = podUidOfCgroup(await readFile(`${here}/cgroup`, 'utf8'), roots)
    if (podUid === undefined) return undefined
    const startTime = startTimeOfStat(await readFile(`${here}/stat`, 'utf8'))
    const identity = await netnsAt(`${here}/ns/net`)
    if (startTime === undefined || identity === undefined) return undefined
    const netnsPath = path.join(procRoot, pid, 'ns', 'net')
    return { podUid, process: { pid: Number(pid), startTime, netnsPath, identity } }
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException
    // Processes end while we look, and zombies have no namespaces.
    if (code === 'ENOENT' || code === 'ESRCH' || code === 'EACCES') return undefined
    throw thrown
  }
}

/**
 * Shares scans between pods: whoever asks while one runs gets the next, since what they are looking for may have
 * come too late for this one.
 */
export class PodFinder {
  readonly #scan: () => Promise<PodProcesses>
  #running: Promise<PodProcesses> | undefined
  #next: Promise<PodProcesses> | undefined

  constructor(scan: () => Promise<PodProcesses>) {
    this.#scan = scan
  }

  find(): Promise<PodProcesses> {
    if (this.#next !== undefined) return this.#next
    if (this.#running === undefined) return this.#start()
    const settled = this.#running.then(
      () => undefined,
      () => undefined,
    )
    this.#next = settled.then(() => {
      this.#next = undefined
      return this.#start()
    })
    return this.#next
  }

  #start(): Promise<PodProcesses> {
    const running = this.#scan().finally(() => {
      if (this.#running === running) this.#running = undefined
    })
    this.#running = running
    return running
  }
}
