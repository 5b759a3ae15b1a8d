// SPDX-License-Identifier: Apache-2.0
// BPF links: what keeps a program attached to a cgroup or a namespace. A link lives as long as an fd or a pin of it.

import { unlinkSync } from 'node:fs'
import { constants } from 'node:os'
import { closeFd } from './libc.ts'
import { check, loadLibbpf } from './libbpf.ts'

/** Run before the programs of parent cgroups (6.15): a socket load balancer at the root then sees our rewrite. */
const BPF_F_PREORDER = 1 << 6
const INFO_SIZE = 128
/** The kernel's own limit for one cgroup and attach type (BPF_CGROUP_MAX_PROGS). */
const MOST_PROGRAMS = 64

/** What the kernel says of a link. */
export interface LinkInfo {
  readonly id: number
  readonly programId: number
  /** The cgroup's id for cgroup links; 0 once the cgroup is gone. */
  readonly cgroupId: bigint
  /** The namespace's inode for namespace links; 0 once the namespace is gone. */
  readonly netnsInode: number
}

function linkOptions(flags: number): Buffer {
  const options = Buffer.alloc(16)
  options.writeBigUInt64LE(BigInt(options.length), 0)
  options.writeUInt32LE(flags, 8)
  return options
}

/**
 * Attaches to a cgroup directory's fd, behind those attached there already or, `isPreordered`, ahead of them and of the
 * programs below (where the kernel can: native/kernel-features.ts). The caller owns the link's fd.
 */
export function attachCgroup(
  programFd: number,
  cgroupFd: number,
  attachType: number,
  isPreordered = false,
): number {
  const options = linkOptions(isPreordered ? BPF_F_PREORDER : 0)
  return check(
    loadLibbpf().bpf_link_create(programFd, cgroupFd, attachType, options),
    'bpf_link_create',
    `cgroup, attach type ${attachType}`,
  )
}

/** Ids of the programs attached to this cgroup itself, in the order they run (but for preordered ones, which run first). */
export function attachedPrograms(cgroupFd: number, attachType: number): readonly number[] {
  const ids = new Uint32Array(MOST_PROGRAMS)
  const count = new Uint32Array([MOST_PROGRAMS])
  check(
    loadLibbpf().bpf_prog_query(cgroupFd, attachType, 0, null, ids, count),
    'bpf_prog_query',
    `cgroup, attach type ${attachType}`,
  )
  return [...ids.subarray(0, count[0])]
}

/** Attaches to a network namespace's fd. The caller owns the link's fd. */
export function attachNetns(programFd: number, netnsFd: number, attachType: number): number {
  return check(
    loadLibbpf().bpf_link_create(programFd, netnsFd, attachType, linkOptions(0)),
    'bpf_link_create',
    `network namespace, attach type ${attachType}`,
  )
}

/** Puts another program behind the link, without a moment in between. */
export function updateLink(linkFd: number, programFd: number): void {
  check(loadLibbpf().bpf_link_update(linkFd, programFd, null), 'bpf_link_update', `fd ${linkFd}`)
}

/** Asks the kernel what the link is. */
export function linkInfo(linkFd: number): LinkInfo {
  const info = Buffer.alloc(INFO_SIZE)
  const size = new Uint32Array([INFO_SIZE])
  check(
    loadLibbpf().bpf_obj_get_info_by_fd(linkFd, info, size),
    'bpf_obj_get_info_by_fd',
    `link fd ${linkFd}`,
  )
  return {
    id: info.readUInt32LE(4),
    programId: info.readUInt32LE(8),
    cgroupId: info.readBigUInt64LE(16),
    netnsInode: info.readUInt32LE(16),
  }
}

/** Pins a link, map or program. */
export function pin(fd: number, path: string): void {
  check(loadLibbpf().bpf_obj_pin(fd, path), 'bpf_obj_pin', path)
}

/** Opens a pin; undefined when there is none. The caller owns the fd. */
export function openPinned(path: string): number | undefined {
  const fd = loadLibbpf().bpf_obj_get(path)
  if (fd === -constants.errno.ENOENT) return undefined
  return check(fd, 'bpf_obj_get', path)
}

/** Removes a pin; gives whether there was one. What it kept lives on while somebody holds an fd. */
export function unpin(path: string): boolean {
  try {
    unlinkSync(path)
    return true
  } catch (thrown) {
    if (thrown instanceof Error && 'code' in thrown && thrown.code === 'ENOENT') return false
    throw thrown
  }
}

/** Removes the pin and takes the program off now, whoever still holds an fd of the link; then closes the fd. */
export function detachLink(linkFd: number, path: string | undefined): void {
  if (path !== undefined) unpin(path)
  const result = loadLibbpf().bpf_link_detach(linkFd)
  closeFd(linkFd)
  // The target (cgroup, namespace) is gone, or detached already: nothing is attached, which was the wish.
  const isGone = result === -constants.errno.ENOLINK || result === -constants.errno.EINVAL
  if (!isGone) check(result, 'bpf_link_detach', `fd ${linkFd}`)
}
