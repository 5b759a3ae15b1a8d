// SPDX-License-Identifier: Apache-2.0
// What older kernels do otherwise, by docs/capture.md ("Kernels"). Found out by doing it, not by version.

import { closeSync, openSync } from 'node:fs'
import { attachedPrograms } from '../../../native/bpf-link.ts'
import { missingFeatures, SET_RETVAL } from '../../../native/kernel-features.ts'
import { NetnsThread } from '../../../native/netns.ts'
import { cgroup2Mount } from '../../helpers.ts'

/** Attach types of our hooks (linux/bpf.h): sockops, bind4/6, connect4/6, setsockopt, getpeername4/6, getsockname4/6. */
const ATTACH_TYPES = [3, 8, 9, 10, 11, 22, 29, 30, 31, 32]

/** How many programs are attached at a cgroup. Asked of the kernel: a bpftool that is newer than the kernel sees none. */
export function programsAt(cgroup: string): number {
  const fd = openSync(cgroup, 'r')
  try {
    return ATTACH_TYPES.flatMap((type) => attachedPrograms(fd, type)).length
  } finally {
    closeSync(fd)
  }
}

/** What an application hears of a refused call: the errno given, or EPERM where the kernel (before 5.18) knows no other. */
export async function refusalName(errnoName: string): Promise<string> {
  const thread = new NetnsThread()
  try {
    const missing = await missingFeatures(cgroup2Mount() ?? '', thread, [SET_RETVAL])
    return missing.length === 0 ? errnoName : 'EPERM'
  } finally {
    await thread.close()
  }
}
