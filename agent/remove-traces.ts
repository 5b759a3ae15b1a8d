// SPDX-License-Identifier: Apache-2.0
// What an agent takes away last when the mesh leaves its node: its memory of pods, and the directories that it has made. Nothing is removed
// that no agent wrote: a flag may name a directory of somebody else's.

import { rmdir } from 'node:fs/promises'
import path from 'node:path'
import type { Logger } from '../mesh/telemetry/log.ts'
import type { AgentConfig } from './config.ts'
import { removePodStates } from './enrolment/index.ts'
import { removeHeldPolicies } from './policy-store/policy-store.ts'

/** Removes them, and says what stays and why; for the time after the last part of the agent that writes there. Never rejects. */
export async function removeTraces(
  { stateDir, cniSocket, bpffs }: Pick<AgentConfig, 'stateDir' | 'cniSocket' | 'bpffs'>,
  log: Logger,
): Promise<void> {
  const steps: readonly (readonly [what: string, remove: () => Promise<void>])[] = [
    [stateDir, () => removeHeldPolicies(stateDir)],
    [stateDir, () => removePodStates(stateDir)],
    [stateDir, () => removeEmpty(stateDir)],
    [path.dirname(cniSocket), () => removeEmpty(path.dirname(cniSocket))],
    [bpffs, () => removeEmpty(bpffs)],
  ]
  for (const [directory, remove] of steps)
    try {
      await remove()
    } catch (thrown) {
      log.warn({ error: thrown, directory }, 'cannot remove all that this agent has left there')
    }
}

/** A directory that others use stays, and so does one that is mounted: a container's view of the host's. */
async function removeEmpty(directory: string): Promise<void> {
  try {
    await rmdir(directory)
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException
    if (code !== 'ENOENT' && code !== 'EBUSY' && code !== 'ENOTEMPTY') throw thrown
  }
}
