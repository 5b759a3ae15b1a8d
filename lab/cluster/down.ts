// SPDX-License-Identifier: Apache-2.0
// Takes a lab down, whatever state it is in: it works from names alone, so a lab that crashed, was half made,
// or lost its records goes as completely as a healthy one. Then looks again and says what is left.

import {
  closeSync,
  existsSync,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { AmbitError, errorMessage } from '../../mesh/errors.ts'
import { removeFromCluster } from '../kubernetes/real/removal.ts'
import { command, ipBatch } from '../machine/command.ts'
import { type LabLayout, LABS_DIRECTORY, labLayout, NETNS_DIRECTORY } from '../machine/layout.ts'
import { readState, runningProcesses } from './state.ts'

/** How long killed processes may take to be gone. */
const KILL_WAIT_MS = 10_000
const POLL_MS = 10
/**
 * Tools that somebody had just started in a namespace (the half made lab's own `ip`, which does not run in its cgroup)
 * end by themselves within this; whoever is there longer means to stay.
 */
const PASSING_MS = 2_000

/** What there was to remove, and what could not be. */
export interface DownReport {
  readonly name: string
  readonly removed: {
    readonly processes: number
    readonly namespaces: number
    readonly mounts: number
    readonly cgroups: number
    /** Of a real API server that the lab stood against. */
    readonly objects: number
  }
  /** Sentences; empty when nothing is left. */
  readonly leftovers: readonly string[]
}

/** Names of all labs of which anything can be found. */
export function listLabs(): readonly string[] {
  const names = new Set<string>()
  for (const entry of entriesOf(LABS_DIRECTORY)) names.add(entry)
  const { cgroupMount } = labLayout('any')
  for (const entry of entriesOf(cgroupMount)) {
    const match = /^ambit-(.+)$/.exec(entry)
    // Other programs' tests may use names that begin alike: a lab's cgroup holds its daemon's.
    if (match?.[1] !== undefined && existsSync(join(cgroupMount, entry, 'daemon')))
      names.add(match[1])
  }
  for (const entry of entriesOf(NETNS_DIRECTORY)) {
    const match = /^ambit-(.+)-fabric$/.exec(entry)
    if (match?.[1] !== undefined) names.add(match[1])
  }
  return [...names].filter((name) => isLabName(name)).toSorted()
}

function isLabName(name: string): boolean {
  try {
    labLayout(name)
    return true
  } catch {
    return false
  }
}

/** Removes everything of a lab; doing it again, or for a lab that never was, is no error. */
export async function takeDown(name: string): Promise<DownReport> {
  const lab = labLayout(name)
  // First of all: a kubelet that still lived would make a pod's namespace after we had counted them.
  const processes = await killProcesses(lab)
  const state = readState(lab)
  const cluster =
    state?.attached === undefined
      ? { objects: 0, leftovers: [] }
      : await removeFromCluster(lab.kubeconfig, state.attached, state.nodes)
  const namespaces = labNamespaces(lab)
  using holds = new DisposableStack()
  const inodes = new Map(namespaces.flatMap((netns) => holdNetns(netns, holds)))
  await ipBatch(namespaces.map((netns) => `netns del ${netns}`)).catch(ignoreMissing)
  const mounts = await unmountAll(lab)
  rmSync(lab.runDir, { recursive: true, force: true })
  const cgroups = await removeCgroups(lab.cgroup)
  await rmdir(LABS_DIRECTORY).catch(ignoreMissing)
  return {
    name,
    removed: {
      processes,
      namespaces: namespaces.length,
      mounts,
      cgroups,
      objects: cluster.objects,
    },
    leftovers: [...cluster.leftovers, ...findLeftovers(lab), ...(await processesStaying(inodes))],
  }
}

/** Takes back a lab that could not be finished. Gives the error to throw, which says what is left, if anything is. */
export async function takeBack(name: string, error: unknown): Promise<unknown> {
  const { leftovers } = await takeDown(name)
  if (leftovers.length === 0) return error
  const message = [errorMessage(error), ...leftovers].join('; ')
  return new AmbitError('AMB_LAB', message, { cause: error })
}

/** The lab's network namespaces, by the exact pattern: a lab `a` must not touch those of a lab `a-b`. */
function labNamespaces(lab: LabLayout): readonly string[] {
  return entriesOf(NETNS_DIRECTORY).filter((entry) => {
    if (!entry.startsWith(lab.netnsPrefix)) return false
    return /^(fabric|node-[a-p]|p-[0-9a-f]{8})$/.test(entry.slice(lab.netnsPrefix.length))
  })
}

async function killProcesses(lab: LabLayout): Promise<number> {
  const state = readState(lab)
  const recorded = state === undefined ? [] : runningProcesses(state)
  const inCgroup = processesOf(lab.cgroup)
  const all = new Set([...inCgroup, ...recorded.map((each) => each.pid)])
  if (existsSync(lab.cgroup)) writeFileSync(join(lab.cgroup, 'cgroup.kill'), '1')
  for (const each of recorded) killQuietly(each.pid)
  const deadline = Date.now() + KILL_WAIT_MS
  while (Date.now() < deadline) {
    const stillRecorded = state === undefined ? [] : runningProcesses(state)
    const alive = stillRecorded.filter((each) => !isZombie(each.pid))
    if (processesOf(lab.cgroup).length === 0 && alive.length === 0) break
    await pause(POLL_MS)
  }
  return all.size
}

/** Pids in a cgroup and all below it. */
function processesOf(cgroup: string): readonly number[] {
  return cgroupTree(cgroup).flatMap((directory) => {
    try {
      return readFileSync(join(directory, 'cgroup.procs'), 'utf8')
        .split('\n')
        .filter((line) => line !== '')
        .map(Number)
    } catch {
      return [] // removed meanwhile
    }
  })
}

/** A cgroup and all below it, the deepest first. */
function cgroupTree(cgroup: string): readonly string[] {
  if (!existsSync(cgroup)) return []
  const children = readdirSync(cgroup, { withFileTypes: true }).filter((entry) =>
    entry.isDirectory(),
  )
  return [...children.flatMap((entry) => cgroupTree(join(cgroup, entry.name))), cgroup]
}

async function removeCgroups(cgroup: string): Promise<number> {
  const directories = cgroupTree(cgroup)
  const deadline = Date.now() + KILL_WAIT_MS
  for (const directory of directories) {
    for (;;) {
      const code = await rmdir(directory).then(
        () => undefined,
        (error: NodeJS.ErrnoException) => error.code,
      )
      // A process that was just killed keeps its cgroup busy until it is reaped.
      if (code !== 'EBUSY' || Date.now() > deadline) break
      await pause(POLL_MS)
    }
  }
  return directories.length
}

async function unmountAll(lab: LabLayout): Promise<number> {
  const points = mountsBelow(lab.runDir)
  for (const point of points.toReversed()) await command(['umount', '-l', point])
  return points.length
}

function mountsBelow(directory: string): readonly string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4])
    .filter((point): point is string => point?.startsWith(`${directory}/`) === true)
}

function findLeftovers(lab: LabLayout): readonly string[] {
  const state = readState(lab)
  return [
    ...labNamespaces(lab).map(
      (netns) => `network namespace ${netns} is left: ip netns del ${netns}`,
    ),
    ...mountsBelow(lab.runDir).map((point) => `mount ${point} is left: umount ${point}`),
    ...(existsSync(lab.runDir) ? [`directory ${lab.runDir} is left: rm -r ${lab.runDir}`] : []),
    ...(existsSync(lab.cgroup)
      ? [`cgroup ${lab.cgroup} is left: rmdir it when its processes ended`]
      : []),
    ...(state === undefined ? [] : runningProcesses(state)).map(
      (each) => `process ${each.pid} (${each.role}) is left`,
    ),
  ]
}

/** Processes started by others inside the lab's namespaces keep those alive, though they have no name any more. */
async function processesStaying(inodes: ReadonlyMap<string, string>): Promise<readonly string[]> {
  const deadline = Date.now() + PASSING_MS
  let inside = processesInside(inodes, entriesOf('/proc'))
  while (inside.size > 0 && Date.now() < deadline) {
    await pause(POLL_MS)
    inside = processesInside(inodes, [...inside.keys()])
  }
  return [...inside.values()]
}

/** What is to be said of those of the processes that are inside, by pid. */
function processesInside(
  inodes: ReadonlyMap<string, string>,
  pids: readonly string[],
): ReadonlyMap<string, string> {
  const inside = new Map<string, string>()
  for (const pid of pids.filter((entry) => /^\d+$/.test(entry))) {
    try {
      const netns = inodes.get(/\d+/.exec(readlinkSync(`/proc/${pid}/ns/net`))?.[0] ?? '')
      if (netns === undefined || isZombie(Number(pid))) continue
      const name = readFileSync(`/proc/${pid}/comm`, 'utf8').trim()
      const text = `process ${pid} (${name}) is still in the removed namespace ${netns}: end it`
      inside.set(pid, text)
    } catch {
      // Ended meanwhile.
    }
  }
  return inside
}

/**
 * The number of a namespace and its name. The number does not go to the next one that somebody makes, who would be taken for staying in
 * this one, until the hold is let go.
 */
function holdNetns(netns: string, holds: DisposableStack): readonly (readonly [string, string])[] {
  try {
    const fd = openSync(join(NETNS_DIRECTORY, netns), 'r')
    holds.defer(() => closeSync(fd))
    return [[String(fstatSync(fd).ino), netns]]
  } catch {
    return [] // a name without a namespace
  }
}

function isZombie(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).startsWith('Z')
  } catch {
    return true // gone altogether
  }
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // Ended between the look and the kill.
  }
}

function entriesOf(directory: string): readonly string[] {
  try {
    return readdirSync(directory)
  } catch {
    return [] // not there: nothing in it
  }
}

function ignoreMissing(error: unknown): void {
  const text = errorMessage(error)
  if (/ENOENT|ENOTEMPTY|No such file/.test(text)) return
  throw error
}

async function pause(ms: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  setTimeout(resolve, ms)
  await promise
}
