// SPDX-License-Identifier: Apache-2.0
// Which of the network namespaces that a pod's processes are in is the pod's? Nothing that a process can choose decides:
// not its age, its cgroup below its own, its addresses, its user namespace. What decides is how the node's own devices
// and routes lead to a namespace, which only the node's root can change (docs/security.md, "What proves a namespace").

import { open } from 'node:fs/promises'
import type { IpAddress } from '../../mesh/model/types.ts'
import { err, ok, type Result } from '../../mesh/result.ts'
import { NativeError } from '../../native/error.ts'
import { addressBytes } from '../../native/libc.ts'
import type { Road, Wiring } from '../../native/links.ts'
import { ownerOfNamespace } from '../../native/namespaces.ts'
import type { NetnsThread } from '../../native/netns.ts'
import type { PodProcess } from './find-pod-netns.ts'
import { isSameNetns, netnsAt, netnsOfFd, type NetnsIdentity } from './netns-identity.ts'

/** What the pod's object says; it is the API server's word, and the node's kubelet wrote the addresses. */
export interface Claim {
  readonly addresses: readonly IpAddress[]
  /** Its containers run in a user namespace of their own (hostUsers: false). */
  readonly hasOwnUsers: boolean
}

/** The namespace that is the pod's. */
export interface ProvenNetns {
  readonly netnsPath: string
  readonly identity: NetnsIdentity
  /** Never reused while the kernel runs: what is captured later must have it. */
  readonly netnsCookie: bigint
}

/** Chooses among the namespaces of a pod's processes (oldest first), or says why none can be believed. */
export type ProveNetns = (
  claim: Claim,
  processes: readonly PodProcess[],
) => Promise<Result<ProvenNetns, NoProof>>

export type NoProof =
  /** All of the processes are gone by now. */
  { readonly kind: 'ended' } | { readonly kind: 'refused'; readonly reason: string }

/** A namespace that processes of the pod are in. */
export interface Candidate extends ProvenNetns {
  /** The user namespace that owns it is the node's. */
  readonly isOwnedByNode: boolean
  /** The user namespace that owns it is that of the oldest process in it. */
  readonly isOwnedByProcess: boolean
  readonly wiring: Wiring
}

/**
 * Namespaces looked at for one pod, those of the oldest processes: the pod's own is among them, and a pod that makes
 * thousands must not keep the agent busy.
 */
const MOST_CANDIDATES = 32

/** Makes the prover; the thread looks into the namespaces. */
export function netnsProver(thread: NetnsThread, procRoot = '/proc'): ProveNetns {
  return async ({ addresses, hasOwnUsers }, processes) => {
    const nodeUsers = await netnsAt('/proc/self/ns/user')
    const candidates: Candidate[] = []
    for (const process of oldestByNetns(processes)) {
      const users = await netnsAt(`${procRoot}/${process.pid}/ns/user`)
      const candidate = await lookInto(thread, process, nodeUsers, users)
      if (candidate !== undefined) candidates.push(candidate)
    }
    if (candidates.length === 0) return err({ kind: 'ended' })
    const roads = await Promise.all(addresses.map((address) => thread.road(addressBytes(address))))
    const judged = judge(candidates, roads, hasOwnUsers)
    return judged.ok ? judged : err({ kind: 'refused', reason: judged.error })
  }
}

/** The decision. Pure. */
export function judge(
  candidates: readonly Candidate[],
  roads: readonly Road[],
  hasOwnUsers: boolean,
): Result<Candidate, string> {
  if (roads.some(({ kind }) => kind === 'local'))
    return err("its address is one of the node's own, so none of its processes is believed")
  // Without pids: the same refusal is to be told once, however the pod's processes come and go.
  const reasons = new Set<string>()
  const fitting = candidates.filter((candidate) => {
    const against = objection(candidate, roads, hasOwnUsers)
    if (against !== undefined) reasons.add(against)
    return against === undefined
  })
  const [only, ...others] = fitting
  if (only === undefined)
    return err(
      `no network namespace of its processes proved to be its own: ${[...reasons].join('; ')}`,
    )
  if (others.length > 0)
    return err('more than one network namespace of its processes could be its own')
  return ok(only)
}

/** What speaks against a namespace. */
function objection(
  { isOwnedByNode, isOwnedByProcess, wiring }: Candidate,
  roads: readonly Road[],
  hasOwnUsers: boolean,
): string | undefined {
  // With users of its own the runtime makes the namespace in the pod's user namespace, where its first process runs.
  if (!isOwnedByNode && !(hasOwnUsers && isOwnedByProcess))
    return "one was made in a user namespace that is not the node's"
  for (const road of roads) {
    const against = leadsAway(road, wiring)
    if (against !== undefined) return against
  }
  return undefined
}

function leadsAway(road: Road, { wires, hasHardware }: Wiring): string | undefined {
  if (road.kind === 'device') {
    const { name, index, leadsElsewhere, ports } = road
    if (wires.includes(index)) return undefined
    if (leadsElsewhere) return `one is not where the node's route to its address leads (by ${name})`
    if (ports !== undefined && !hasHardware && !ports.some((port) => wires.includes(port)))
      return `one has no device at ${name}, to which the node's route to its address leads`
  }
  // The route says no more: an overlay's own device, a switch, the network that the pod is in itself (macvlan, SR-IOV).
  if (wires.length > 0 || hasHardware) return undefined
  return 'one has no device that the node gave it'
}

async function lookInto(
  thread: NetnsThread,
  { netnsPath, identity }: PodProcess,
  nodeUsers: NetnsIdentity | undefined,
  processUsers: NetnsIdentity | undefined,
): Promise<Candidate | undefined> {
  try {
    await using file = await open(netnsPath, 'r')
    const { fd } = file
    // The path may lead to another's by now. What is looked at is what the fd holds.
    if (!isSameNetns(await netnsOfFd(fd), identity)) return undefined
    const owner = ownerOf(fd)
    return {
      netnsPath,
      identity,
      netnsCookie: await thread.cookie(fd),
      isOwnedByNode: isSameNetns(owner, nodeUsers),
      isOwnedByProcess: isSameNetns(owner, processUsers),
      wiring: await thread.wiring(fd),
    }
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException
    // The process has ended meanwhile.
    if (code === 'ENOENT' || code === 'ESRCH') return undefined
    throw thrown
  }
}

/** Undefined for one that is out of sight: no descendant of the node's. */
function ownerOf(fd: number): NetnsIdentity | undefined {
  try {
    return ownerOfNamespace(fd)
  } catch (thrown) {
    if (thrown instanceof NativeError && thrown.errnoName === 'EPERM') return undefined
    throw thrown
  }
}

function oldestByNetns(processes: readonly PodProcess[]): readonly PodProcess[] {
  const oldest: PodProcess[] = []
  for (const process of processes) {
    if (oldest.some(({ identity }) => isSameNetns(identity, process.identity))) continue
    oldest.push(process)
    if (oldest.length === MOST_CANDIDATES) break
  }
  return oldest
}
