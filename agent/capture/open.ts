// SPDX-License-Identifier: Apache-2.0
// Opens capture on this node: checks what it needs, loads and attaches the programs, and proves that they see this
// process's own sockets before anything is enrolled.

import { closeSync, openSync, statSync } from 'node:fs'
import { AmbitError } from '../../mesh/errors.ts'
import { err, ok, type Result } from '../../mesh/result.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import { closeFd, connectSocket, netnsCookieOfSocket } from '../../native/libc.ts'
import { NetnsThread } from '../../native/netns.ts'
import { NetnsWatch } from '../../native/netns-watch.ts'
import { CALL_NAME_SIZE, loadShim, shimError } from '../../native/shim.ts'
import { openSocket } from '../../native/socket-spec.ts'
import { createCapture, type NodeCapture } from './capture.ts'
import { toAmbitError } from './failure.ts'
import { LAYOUT, SOCKET_FLAG, encodeU64 } from './layout.ts'
import { type MachineNeeds, requireBpfFs, requireKernel, requireNode } from './machine.ts'
import { Pins } from './pins.ts'
import { CapturePrograms } from './programs.ts'
import { closeSuperseded } from './superseded.ts'

/** How often the kubelet's cgroups are looked up again: a restarted service gets a new id at the same path. */
const KUBELET_REFRESH_MS = 2000

/** `cgroupPath` is where to attach; this process must run in it or below. */
export interface CaptureOptions extends MachineNeeds {
  /** A directory of this agent's own on a BPF file system. */
  readonly bpffsDir: string
  /** The compiled programs, bpf/build/capture.bpf.o. */
  readonly bpfObjectPath: string
  /** cgroup directories whose processes' connections from the node's namespace are probes. */
  readonly kubeletCgroups: readonly string[]
  /** Looks for them anew when none of them is there any more; undefined when that is in vain. */
  readonly findKubelet?: () => readonly string[] | undefined
  /** Programs of another layout stay as they are until supersede(): the agent before this one still serves the pods that they capture. */
  readonly supersedesLater?: boolean
  readonly logger: Logger
}

/** Opens capture. A second process with the same directory takes over from the first without a gap. */
export async function openCapture(
  options: CaptureOptions,
): Promise<Result<NodeCapture, AmbitError>> {
  try {
    requireNode(options)
    requireBpfFs(options.bpffsDir)
    return ok(await open(options))
  } catch (thrown) {
    return err(toAmbitError('open capture', thrown))
  }
}

async function open(options: CaptureOptions): Promise<NodeCapture> {
  const { logger } = options
  const thread = new NetnsThread()
  const homeNetnsFd = openSync('/proc/self/ns/net', 'r')
  let programs: CapturePrograms | undefined
  try {
    const extras = await requireKernel(options, thread)
    const homeNetnsCookie = readHomeCookie()
    const pins = new Pins(options.bpffsDir)
    programs = CapturePrograms.open({
      objectPath: options.bpfObjectPath,
      cgroupPath: options.cgroupPath,
      pins,
      nodeNetnsCookie: homeNetnsCookie,
      hasSetRetval: extras.hasSetRetval,
      hasIngressIfindex: extras.hasIngressIfindex,
      hasPreorder: extras.hasPreorder && options.mayPreorder !== false,
    })
    proveSight(programs, options.cgroupPath)
    if (options.supersedesLater !== true) closeSuperseded(pins, programs.maps)
    const stop = followKubelet(programs, options, logger)
    const { hookOrder } = programs
    logger.info({ cgroup: options.cgroupPath, hookOrder }, 'capture is attached')
    const watch = new NetnsWatch()
    return createCapture({
      programs,
      pins,
      thread,
      watch,
      homeNetnsFd,
      homeNetnsCookie,
      logger,
      stop,
    })
  } catch (thrown) {
    programs?.abandon()
    closeSync(homeNetnsFd)
    await thread.close()
    throw thrown
  }
}

function readHomeCookie(): bigint {
  const fd = openSocket({ family: 4, kind: 'udp' })
  try {
    return netnsCookieOfSocket(fd)
  } finally {
    closeFd(fd)
  }
}

/**
 * Sockets belong to the cgroup of the process that made them. Were this process outside the cgroup the programs are
 * attached to, its listeners would never learn a destination: found out here, by a flagged socket of our own.
 */
function proveSight(programs: CapturePrograms, cgroupPath: string): void {
  const fd = openSocket({ family: 4, kind: 'tcp' })
  try {
    const call = Buffer.alloc(CALL_NAME_SIZE)
    const result = loadShim().socketFlag(fd, programs.maps.sockets.fd, SOCKET_FLAG.selfTest, call)
    if (result < 0) throw shimError(result, call, 'self-test')
    // Discard port on our own loopback: whatever answers does not matter, the hook runs before the SYN.
    connectSocket(fd, '127.0.0.1', 9)
    const key = Buffer.alloc(4)
    key.writeInt32LE(fd)
    const flags = programs.maps.sockets.lookup(key)?.readUInt16LE(LAYOUT.ambit_socket.members.flags)
    if (((flags ?? 0) & SOCKET_FLAG.seen) === 0)
      throw new AmbitError(
        'AMB_CGROUP_OUTSIDE',
        `Cannot open capture: this process does not run inside cgroup ${cgroupPath}, so the programs attached there cannot see its sockets`,
      )
  } finally {
    closeFd(fd)
  }
}

/** A cgroup's id is the inode of its directory. */
function cgroupIds(paths: readonly string[]): Set<bigint> {
  const ids = new Set<bigint>()
  for (const path of paths) {
    const found = statSync(path, { bigint: true, throwIfNoEntry: false })
    if (found !== undefined) ids.add(found.ino)
  }
  return ids
}

/** Keeps the ids of the kubelet's cgroups current. Gives the function that stops it. */
function followKubelet(
  programs: CapturePrograms,
  { kubeletCgroups, findKubelet }: Pick<CaptureOptions, 'kubeletCgroups' | 'findKubelet'>,
  logger: Logger,
): () => void {
  let paths = kubeletCgroups
  const map = programs.maps.kubelet_cgroups
  const refresh = (): void => {
    let ids = cgroupIds(paths)
    if (ids.size === 0) {
      paths = findKubelet?.() ?? paths
      ids = cgroupIds(paths)
    }
    for (const key of map.keys()) if (!ids.has(key.readBigUInt64LE())) map.delete(key)
    for (const id of ids) map.update(encodeU64(id), Buffer.alloc(4))
  }
  refresh()
  const timer = setInterval(() => {
    try {
      refresh()
    } catch (error) {
      logger.warn({ error }, 'cannot refresh the cgroups of the kubelet')
    }
  }, KUBELET_REFRESH_MS)
  timer.unref()
  return () => clearInterval(timer)
}
