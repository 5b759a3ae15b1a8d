// SPDX-License-Identifier: Apache-2.0
// Listeners handed to a worker thread, by number. A thread that ends closes what it has made a server of, and nothing
// else: what was still under way to it, or waited in it for a certificate, is closed here. Numbers are reused at once,
// so a socket is known by its inode.

import { fstatSync } from 'node:fs'
import { closeFd } from '../../../native/libc.ts'
import type { PodListeners } from '../../capture/types.ts'

interface Handed {
  readonly fd: number
  readonly device: number
  readonly inode: number
}

export class HandedListeners {
  #handed: readonly Handed[] = []

  /** To be called before the thread is told: from then on they are its. */
  add({ outbound, inbound, hbone }: PodListeners): readonly Handed[] {
    const fresh = [...outbound, ...inbound, ...hbone].flatMap((fd) => identify(fd) ?? [])
    this.#handed = [...this.#handed.filter(isOpen), ...fresh]
    return fresh
  }

  /** Closes those of the given that the thread has let go of without closing them. */
  reclaim(given: readonly Handed[] = this.#handed): void {
    for (const listener of given) if (isOpen(listener)) closeFd(listener.fd)
    this.#handed = this.#handed.filter((each) => !given.includes(each))
  }
}

function isOpen({ fd, device, inode }: Handed): boolean {
  const now = identify(fd)
  return now?.device === device && now.inode === inode
}

/** What a number stands for now; undefined when it is free. */
function identify(fd: number): Handed | undefined {
  try {
    const { dev, ino } = fstatSync(fd)
    return { fd, device: dev, inode: ino }
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'EBADF') return undefined
    throw thrown
  }
}
