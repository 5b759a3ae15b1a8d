// SPDX-License-Identifier: Apache-2.0
// The life of capture on a node: opened once, pods enrolled and withdrawn, leftovers of earlier processes swept.
// The order of each step is what keeps connections from falling between (docs/capture.md).

import { closeSync, openSync } from 'node:fs'
import { AmbitError } from '../../mesh/errors.ts'
import { err, ok, type Result } from '../../mesh/result.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import { detachLink } from '../../native/bpf-link.ts'
import { closeFd } from '../../native/libc.ts'
import type { NetnsThread } from '../../native/netns.ts'
import type { NetnsWatch } from '../../native/netns-watch.ts'
import { type CaptureCounters, readCounters } from './counters.ts'
import { toAmbitError } from './failure.ts'
import { MAX_POD_ADDRESSES } from './layout.ts'
import { closeListeners } from './listeners.ts'
import type { Pins } from './pins.ts'
import {
  deleteListeners,
  deletePod,
  isCaptured,
  listPodCookies,
  writeListeners,
  writePod,
} from './pod-maps.ts'
import { podEntry } from './pod-entry.ts'
import {
  closeListenersOf,
  type PodNetwork,
  prepareLeavingNetwork,
  preparePodNetwork,
} from './pod-network.ts'
import { restorePodNetwork } from './pod-state.ts'
import type { CapturePrograms, HookOrder } from './programs.ts'
import { closeSuperseded, sweeperOfSuperseded } from './superseded.ts'
import type { Capture, CapturePod, DataPlaneHandles, Enrolment, NetworkReport } from './types.ts'
import { Upkeep } from './upkeep.ts'

/** Capture and what its owner may ask of it besides. */
export interface NodeCapture extends Capture {
  /** What each data-plane worker is given to make its DataPlaneSockets. */
  readonly dataPlaneHandles: DataPlaneHandles
  /** Works in namespaces, for whoever else has to look into one; ends with capture. */
  readonly thread: NetnsThread
  /**
   * Takes the programs of other layouts off. What they had captured stays so, and closed, until it is enrolled here. For whoever
   * opened capture beside an agent that still used them.
   */
  supersede(): Result<void, AmbitError>
  /** Whether an agent with another layout has taken this one's programs off: it captures nothing any more. */
  isSuperseded(): boolean
  /** New connections of captured pods meet no agent any more: this one ends what it has. Only for the agent in charge of the node. */
  shut(): void
  /** Sums of the BPF programs' counters. */
  counters(): CaptureCounters
  /** What is in the maps now. */
  stats(): CaptureStats
}

export interface CaptureStats {
  readonly enrolledPods: number
  /** Slots that sk_lookup finds a listener in. */
  readonly listeners: number
  readonly pendingConnections: number
  readonly trustedConnections: number
  /** How our connect hooks come to run before a socket load balancer's, which would hide service IPs. */
  readonly hookOrder: HookOrder
}

/** Everything openCapture made; closed by close(). */
export interface CaptureParts {
  readonly programs: CapturePrograms
  readonly pins: Pins
  readonly thread: NetnsThread
  readonly watch: NetnsWatch
  readonly homeNetnsFd: number
  readonly homeNetnsCookie: bigint
  readonly logger: Logger
  /** Stops what openCapture started besides. */
  readonly stop: () => void
}

interface Enrolled {
  readonly enrolment: Enrolment
  readonly linkFd: number
  readonly pinPath: string
  readonly families: readonly (4 | 6)[]
  readonly formerSysctls: PodNetwork['formerSysctls']
  /** Settles when connections from before an earlier withdrawal of this namespace are over. */
  readonly carried: Promise<unknown> | undefined
  readonly upkeep: Upkeep
}

/** A withdrawn pod whose established connections still need what enrolment changed in its namespace. */
type Fading = Pick<Enrolled, 'families' | 'formerSysctls' | 'carried'> & {
  readonly uid: string
  readonly netnsFd: number
}

/** Makes the Capture out of its parts. */
export function createCapture(parts: CaptureParts): NodeCapture {
  const { programs, pins, thread, logger } = parts
  const { maps } = programs
  const enrolled = new Map<string, Enrolled>()
  /** By namespace cookie. */
  const fading = new Map<bigint, Fading>()
  /** By uid: fds of namespaces that have passed to another pod, which whoever serves the former one may use still. */
  const passedOn = new Map<string, readonly number[]>()
  const turns = new Map<string, Promise<unknown>>()
  const removeSuperseded = sweeperOfSuperseded(pins, logger)
  let tell: (uid: string, report: NetworkReport) => void = () => undefined

  /** One step at a time for each pod: a withdraw waits for the enrol before it. */
  function inTurn<T>(uid: string, step: () => Promise<T>): Promise<T> {
    const before = turns.get(uid) ?? Promise.resolve()
    const mine = before.then(step, step)
    turns.set(uid, mine)
    const forget = (): void => {
      if (turns.get(uid) === mine) turns.delete(uid)
    }
    mine.then(forget, forget)
    return mine
  }

  async function cookieOf(pod: CapturePod, netnsFd: number): Promise<bigint> {
    const netnsCookie = await thread.cookie(netnsFd)
    if (netnsCookie !== parts.homeNetnsCookie) return netnsCookie
    throw new AmbitError(
      'AMB_HOST_NETWORK',
      `Cannot enrol pod ${pod.namespace}/${pod.name}: it runs in the node's network namespace`,
    )
  }

  async function enrol(pod: CapturePod): Promise<Enrolment> {
    checkPod(pod)
    const opened = openSync(pod.netnsPath, 'r')
    let netnsFd = opened
    try {
      const netnsCookie = await cookieOf(pod, opened)
      const former = enrolled.get(pod.uid)
      if (former?.enrolment.netnsCookie === netnsCookie) {
        // The receiver may be using the fd it was given: it stays the same for the namespace's life.
        closeSync(opened)
        netnsFd = former.enrolment.netnsFd
      } else if (former !== undefined) {
        await withdraw(pod.uid)
      }
      return await enrolNetns(pod, netnsFd, netnsCookie, former)
    } catch (thrown) {
      if (netnsFd === opened) closeSync(opened)
      throw thrown
    }
  }

  async function enrolNetns(
    pod: CapturePod,
    netnsFd: number,
    netnsCookie: bigint,
    former: Enrolled | undefined,
  ): Promise<Enrolment> {
    const isAgain = former !== undefined && former.enrolment.netnsCookie === netnsCookie
    const pinPath = pins.pod(pod.uid, netnsCookie)
    const wasCaptured = isCaptured(maps, netnsCookie)
    const faded = fading.get(netnsCookie)
    let network: PodNetwork | undefined
    let program: number | undefined
    try {
      const preparing = preparePodNetwork(thread, netnsFd, pod, maps.sockets.fd)
      try {
        // On this thread, while the other works in the namespace: the kernel takes as long for either.
        if (!isAgain) program = programs.loadLookup(netnsCookie)
      } finally {
        network = await preparing
      }
      writeListeners(maps, netnsCookie, network)
      const families = [...network.byFamily.keys()]
      writePod(maps, netnsCookie, podEntry(pod, network.addresses, families, network.networks))
      const linkFd = isAgain ? former.linkFd : programs.linkPod(program ?? -1, netnsFd, pinPath)
      for (const path of pins.supersededPod(pod.uid, netnsCookie)) programs.unlinkPinned(path)
      const { listeners } = network
      const enrolment: Enrolment = { pod, netnsCookie, netnsFd, listeners, wasCaptured }
      const upkeep = isAgain ? former.upkeep : newUpkeep(pod.uid, netnsFd)
      const before = isAgain ? former : (passOn(pod.uid, netnsCookie) ?? faded)
      enrolled.set(pod.uid, {
        enrolment,
        linkFd,
        pinPath,
        families,
        // What an enrolment before this one found there is what the pod once had.
        formerSysctls: (before ?? network).formerSysctls,
        carried: before?.carried,
        upkeep,
      })
      // Nobody who enrols a pod waits for it.
      void inTurn(pod.uid, () => startUpkeep(upkeep, families, pod))
      if (faded !== undefined) {
        fading.delete(netnsCookie)
        closeSync(faded.netnsFd)
      }
      return enrolment
    } catch (thrown) {
      if (network !== undefined) closeListenersOf(network.byFamily)
      // A pod must not get out of the mesh by making its next enrolment fail: what is captured stays so, unserved.
      if (!wasCaptured || pod.failOpen) {
        if (isAgain) await withdraw(pod.uid)
        else await undo(netnsFd, netnsCookie, pinPath, network)
      }
      throw thrown
    } finally {
      if (program !== undefined) closeFd(program)
    }
  }

  /** The pod that had this namespace until now has it no longer: its end changes nothing there. */
  function passOn(heir: string, netnsCookie: bigint): Enrolled | undefined {
    const [uid, pod] = ownerOf(netnsCookie) ?? []
    if (uid === undefined || pod === undefined || uid === heir) return undefined
    enrolled.delete(uid)
    pod.upkeep.close()
    detachLink(pod.linkFd, pod.pinPath)
    passedOn.set(uid, [...(passedOn.get(uid) ?? []), pod.enrolment.netnsFd])
    return pod
  }

  function ownerOf(netnsCookie: bigint): readonly [uid: string, Enrolled] | undefined {
    return enrolled.entries().find(([, { enrolment }]) => enrolment.netnsCookie === netnsCookie)
  }

  function closePassedOn(uid: string): void {
    for (const netnsFd of passedOn.get(uid) ?? []) closeSync(netnsFd)
    passedOn.delete(uid)
  }

  function newUpkeep(uid: string, netnsFd: number): Upkeep {
    return new Upkeep({
      netnsFd,
      thread,
      watch: parts.watch,
      logger: logger.child({ uid }),
      inTurn: (look) => inTurn(uid, look),
      onAddresses: (addresses, networks) => {
        const present = enrolled.get(uid)
        if (present === undefined) return
        const { enrolment, families } = present
        writePod(
          maps,
          enrolment.netnsCookie,
          podEntry(enrolment.pod, addresses, families, networks),
        )
      },
      report: (report) => tell(uid, report),
    })
  }

  /** A pod is served without it; what changes in its network is not noticed then. */
  async function startUpkeep(
    upkeep: Upkeep,
    families: readonly (4 | 6)[],
    { uid, namespace, name }: CapturePod,
  ): Promise<void> {
    try {
      await upkeep.start(families)
    } catch (thrown) {
      logger.warn(
        { error: thrown, uid, pod: `${namespace}/${name}` },
        "cannot watch a pod's network",
      )
    }
  }

  /** Leaves the pod in plaintext, whatever this or an earlier process had set up for it. */
  async function undo(
    netnsFd: number,
    netnsCookie: bigint,
    pinPath: string,
    network: PodNetwork | undefined,
  ): Promise<void> {
    programs.unlinkPinned(pinPath)
    deletePod(maps, netnsCookie)
    // Connections from before this attempt go on; what they need goes with the last of them.
    if (fading.has(netnsCookie)) return
    try {
      await restorePodNetwork(thread, netnsFd, [4, 6], network?.formerSysctls ?? [])
    } catch (thrown) {
      logger.warn(
        { error: thrown },
        'cannot take rule and sysctls out of a pod that was not enrolled',
      )
    }
  }

  /** Takes off what an earlier process left on a pod that this one could not enrol. */
  function forgetPredecessors(uid: string): void {
    for (const pin of pins.listAllPods()) {
      if (pin.uid !== uid) continue
      programs.unlinkPinned(pin.path)
      if (ownerOf(pin.netnsCookie) === undefined) deletePod(maps, pin.netnsCookie)
    }
  }

  async function leave(pod: CapturePod, carried: Promise<unknown>): Promise<Enrolment> {
    checkPod(pod)
    const opened = openSync(pod.netnsPath, 'r')
    let mine: number | undefined = opened
    try {
      const netnsCookie = await cookieOf(pod, opened)
      const network = await prepareLeavingNetwork(thread, opened, pod, maps.sockets.fd)
      const { listeners } = network
      const wasCaptured = isCaptured(maps, netnsCookie)
      try {
        await withdraw(pod.uid, carried)
      } catch (thrown) {
        closeListeners(listeners)
        throw thrown
      }
      let left = fading.get(netnsCookie)
      if (left === undefined) {
        mine = undefined
        const { families, formerSysctls } = network
        left = { uid: pod.uid, netnsFd: opened, families, formerSysctls, carried }
        fade(netnsCookie, left)
      }
      const { netnsFd } = left
      return { pod, netnsCookie, netnsFd, listeners, wasCaptured }
    } finally {
      if (mine !== undefined) closeSync(mine)
    }
  }

  /** What enrolment changed in the namespace stays until the connections that need it are over. */
  function fade(netnsCookie: bigint, left: Fading): void {
    fading.set(netnsCookie, left)
    void left.carried?.then(() =>
      inTurn(left.uid, async () => {
        // Enrolled again meanwhile, or closed.
        if (fading.get(netnsCookie) === left) await restore(netnsCookie, left)
      }),
    )
  }

  async function withdraw(uid: string, carried?: Promise<unknown>): Promise<void> {
    closePassedOn(uid)
    const pod = enrolled.get(uid)
    if (pod === undefined) return forgetPredecessors(uid)
    enrolled.delete(uid)
    pod.upkeep.close()
    const { netnsCookie, netnsFd } = pod.enrolment
    detachLink(pod.linkFd, pod.pinPath)
    deletePod(maps, netnsCookie)
    const { families, formerSysctls } = pod
    const all = [pod.carried, carried].filter((each) => each !== undefined)
    const ended = all.length === 0 ? undefined : Promise.allSettled(all)
    const left: Fading = { uid, netnsFd, families, formerSysctls, carried: ended }
    if (carried === undefined) await restore(netnsCookie, left)
    else fade(netnsCookie, left)
  }

  function removeStrangers(): void {
    for (const path of pins.removeStrangers())
      logger.warn({ path }, 'removed what was no pin of a pod by its name')
  }

  /** Gives a namespace back what enrolment had changed in it. Never throws. */
  async function restore(netnsCookie: bigint, left: Fading): Promise<void> {
    const { uid, netnsFd, families, formerSysctls } = left
    fading.delete(netnsCookie)
    try {
      await restorePodNetwork(thread, netnsFd, families, formerSysctls)
    } catch (thrown) {
      // Harmless without listeners and links; the pod must not stay half enrolled because of it.
      logger.warn({ error: thrown, uid }, 'cannot take rule and sysctls out of the pod')
    } finally {
      closeSync(netnsFd)
    }
  }

  return {
    thread,
    dataPlaneHandles: {
      socketStorageMapFd: maps.sockets.fd,
      askedSinceMapFd: maps.asked_since.fd,
      homeNetnsFd: parts.homeNetnsFd,
    },
    async enrol(pod): Promise<Result<Enrolment, AmbitError>> {
      try {
        return ok(await inTurn(pod.uid, () => enrol(pod)))
      } catch (thrown) {
        return err(toAmbitError(`enrol pod ${pod.namespace}/${pod.name}`, thrown))
      }
    },
    async leave(pod, carried): Promise<Result<Enrolment, AmbitError>> {
      try {
        return ok(await inTurn(pod.uid, () => leave(pod, carried)))
      } catch (thrown) {
        return err(toAmbitError(`let pod ${pod.namespace}/${pod.name} leave`, thrown))
      }
    },
    onNetworkReport(listener): void {
      tell = listener
    },
    withdraw: (uid, carried) => inTurn(uid, () => withdraw(uid, carried)),
    async sweep(keep): Promise<void> {
      for (const uid of enrolled.keys()) if (!keep.has(uid)) await inTurn(uid, () => withdraw(uid))
      const kept = new Set<bigint>()
      for (const { uid, netnsCookie, path } of pins.listAllPods()) {
        const mine = enrolled.get(uid)
        const isStale = mine !== undefined && mine.enrolment.netnsCookie !== netnsCookie
        if (keep.has(uid) && !isStale) {
          kept.add(netnsCookie)
          continue
        }
        logger.info({ uid }, 'removing an enrolment left by an earlier process')
        programs.unlinkPinned(path)
      }
      for (const { enrolment } of enrolled.values()) kept.add(enrolment.netnsCookie)
      for (const cookie of listPodCookies(maps)) if (!kept.has(cookie)) deletePod(maps, cookie)
      removeStrangers()
      removeSuperseded()
    },
    supersede(): Result<void, AmbitError> {
      try {
        return ok(closeSuperseded(pins, maps))
      } catch (thrown) {
        return err(toAmbitError('take the programs of another layout off', thrown))
      }
    },
    isSuperseded: () => programs.isDetached,
    shut(): void {
      for (const { enrolment } of enrolled.values()) deleteListeners(maps, enrolment.netnsCookie)
    },
    async close({ unpin: shallUnpin }): Promise<void> {
      parts.stop()
      for (const { upkeep } of enrolled.values()) upkeep.close()
      await Promise.allSettled(turns.values())
      if (shallUnpin) {
        for (const uid of enrolled.keys()) await withdraw(uid)
        for (const { path } of pins.listAllPods()) programs.unlinkPinned(path)
        removeStrangers()
      }
      for (const [netnsCookie, left] of fading) await restore(netnsCookie, left)
      for (const { linkFd, enrolment, upkeep } of enrolled.values()) {
        upkeep.close()
        closeFd(linkFd)
        closeSync(enrolment.netnsFd)
      }
      for (const uid of [...passedOn.keys()]) closePassedOn(uid)
      enrolled.clear()
      if (shallUnpin) programs.remove()
      else programs.close()
      parts.watch.close()
      await thread.close()
      closeSync(parts.homeNetnsFd)
    },
    counters: () => readCounters(maps.counters),
    stats: () => ({
      enrolledPods: enrolled.size,
      listeners: maps.listeners.keys().length,
      pendingConnections: maps.pending.entries().length,
      trustedConnections: maps.trusted.entries().length,
      hookOrder: programs.hookOrder,
    }),
  }
}

function checkPod(pod: CapturePod): void {
  const who = `Cannot enrol pod ${pod.namespace}/${pod.name}`
  // The uid names a pin; bpffs takes neither dots nor slashes, and nothing else belongs in a Kubernetes UID.
  if (!/^[0-9A-Za-z-]{1,128}$/.test(pod.uid))
    throw new AmbitError('AMB_SYSCALL', `${who}: uid ${JSON.stringify(pod.uid)} is not a UID`)
  if (pod.addresses.length === 0 || pod.addresses.length > MAX_POD_ADDRESSES)
    throw new AmbitError(
      'AMB_SYSCALL',
      `${who}: it has ${pod.addresses.length} addresses, and 1 to ${MAX_POD_ADDRESSES} are supported`,
    )
}
