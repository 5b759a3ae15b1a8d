// SPDX-License-Identifier: Apache-2.0
// Tells network namespaces apart. Device and inode name one while it lives; the kernel may reuse the inode of
// one that is gone, so they are compared only within one boot, and the cookie counts where there is one.

import { fstat, stat } from 'node:fs'
import { promisify } from 'node:util'

/** Device and inode of a namespace file. */
export interface NetnsIdentity {
  readonly device: number
  readonly inode: number
}

const OWN_NETNS = '/proc/self/ns/net'

/** The namespace behind a path; undefined when there is none any more. */
export async function netnsAt(path: string): Promise<NetnsIdentity | undefined> {
  try {
    const { dev, ino } = await promisify(stat)(path)
    return { device: dev, inode: ino }
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException
    // ESRCH: /proc of a process that just ended.
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ESRCH') return undefined
    throw thrown
  }
}

/** The namespace an open fd refers to. */
export async function netnsOfFd(fd: number): Promise<NetnsIdentity> {
  const { dev, ino } = await promisify(fstat)(fd)
  return { device: dev, inode: ino }
}

/** The namespace of this process: the node's, never a pod's. */
export const ownNetns = (): Promise<NetnsIdentity | undefined> => netnsAt(OWN_NETNS)

export function isSameNetns(a: NetnsIdentity | undefined, b: NetnsIdentity | undefined): boolean {
  return a !== undefined && b !== undefined && a.device === b.device && a.inode === b.inode
}
