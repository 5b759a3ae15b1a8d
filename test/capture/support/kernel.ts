// SPDX-License-Identifier: Apache-2.0
// What older kernels do otherwise, by docs/capture.md ("Kernels"). Found out by doing it, not by version.

import { missingFeatures, SET_RETVAL } from '../../../native/kernel-features.ts'
import { NetnsThread } from '../../../native/netns.ts'
import { cgroup2Mount } from '../../helpers.ts'

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
