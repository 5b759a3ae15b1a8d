// SPDX-License-Identifier: Apache-2.0
// Finds the network namespaces of pods that were there before the agent: every process tells its pod by its
// cgroup path, and its namespace by /proc/<pid>/ns/net.

import { readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { isSameNetns, netnsAt, ownNetns, type NetnsIdentity } from './netns-identity.ts'

export interface FoundNetns {
  readonly netnsPath: string
  readonly identity: NetnsIdentity
  readonly pid: number
}

/** By pod UID, in the form with dashes (static pods: their 32 digit hash). */
export type PodNetnsMap = ReadonlyMap<string, FoundNetns>

/**
 * `.../pod<uid>/...` of the cgroupfs driver and `...-pod<uid>.slice` of the systemd driver, which writes `_` for
 * `-`. With clusters nested in pods there are several: the innermost is the one.
 */
const POD_UID = /pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?=[./]|$)/g
/** Processes read at a time: enough to keep the disk-less /proc busy, few enough fds. */
const BATCH = 64

/** Looks through all of /proc once. */
export async function findPodNetns(procRoot = '/proc'): Promise<PodNetnsMap> {
  const pids = (await readdir(procRoot)).filter((name) => /^\d+$/.test(name))
  const own = await ownNetns()
  const oldest = new Map<string, { readonly startTime: number; readonly found: FoundNetns }>()
  for (let start = 0; start < pids.length; start += BATCH) {
    const batch = pids.slice(start, start + BATCH)
    const seen = await Promise.all(batch.map((pid) => inspect(procRoot, pid)))
    for (const process of seen) {
      // A hostNetwork pod's processes, and helpers that a runtime runs in a pod's cgroup.
      if (process === undefined || isSameNetns(process.found.identity, own)) continue
      const known = oldest.get(process.podUid)
      // The oldest process is the pod's sandbox; later ones may have made namespaces of their own.
      if (known === undefined || process.startTime < known.startTime)
        oldest.set(process.podUid, process)
    }
  }
  return new Map([...oldest].map(([uid, { found }]) => [uid, found]))
}

/** The pod UID in the text of /proc/<pid>/cgroup. */
export function podUidOfCgroup(text: string): string | undefined {
  for (const line of text.split('\n')) {
    const uid = [...line.matchAll(POD_UID)].at(-1)?.[1]
    if (uid !== undefined) return uid.replaceAll('_', '-')
  }
  return undefined
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
): Promise<
  { readonly podUid: string; readonly startTime: number; readonly found: FoundNetns } | undefined
> {
  const directory = path.join(procRoot, pid)
  try {
    const podUid = podUidOfCgroup(await readFile(path.join(directory, 'cgroup'), 'utf8'))
    if (podUid === undefined) return undefined
    const startTime = startTimeOfStat(await readFile(path.join(directory, 'stat'), 'utf8'))
    const netnsPath = path.join(directory, 'ns', 'net')
    const identity = await netnsAt(netnsPath)
    if (startTime === undefined || identity === undefined) return undefined
    return { podUid, startTime, found: { netnsPath, identity, pid: Number(pid) } }
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
export class PodNetnsFinder {
  readonly #scan: () => Promise<PodNetnsMap>
  #running: Promise<PodNetnsMap> | undefined
  #next: Promise<PodNetnsMap> | undefined

  constructor(scan: () => Promise<PodNetnsMap>) {
    this.#scan = scan
  }

  find(): Promise<PodNetnsMap> {
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

  #start(): Promise<PodNetnsMap> {
    const running = this.#scan().finally(() => {
      if (this.#running === running) this.#running = undefined
    })
    this.#running = running
    return running
  }
}
