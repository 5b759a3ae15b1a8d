// SPDX-License-Identifier: Apache-2.0
// A server at the lab's outside address, so that the demonstration and tests can call something beyond the mesh.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { AmbitError } from '../../mesh/errors.ts'
import type { Lab } from '../cluster/index.ts'
import { netnsPath } from '../machine/layout.ts'

const SERVER = fileURLToPath(new URL('../samples/server.ts', import.meta.url))
const OUTSIDE_PORT = 80

/** Starts the sample server in the fabric's namespace, in the lab's cgroup. Resolves once it listens. */
export async function startOutside(lab: Lab): Promise<{ stop(): Promise<void> }> {
  const child = spawn(
    'nsenter',
    [`--net=${netnsPath(lab.layout.fabricNetns)}`, process.execPath, SERVER],
    {
      env: { ...process.env, SERVICE: 'outside', PORT: String(OUTSIDE_PORT) },
      stdio: ['ignore', 'pipe', 'inherit'],
      detached: true, // deaf to Ctrl-C, which would break the check that is running
    },
  )
  const exited = once(child, 'exit')
  // The lab's own cgroup, so that `lab down` removes it even if this process dies first.
  const cgroup = join(lab.layout.cgroup, 'outside')
  await mkdir(cgroup, { recursive: true })
  await writeFile(join(cgroup, 'cgroup.procs'), String(child.pid))
  await Promise.race([
    once(child.stdout, 'data'),
    exited.then(([code]) => {
      throw new AmbitError('AMB_LAB', `Cannot start the outside server: it ended with ${code}`)
    }),
  ])
  return {
    stop: async () => {
      child.kill('SIGKILL')
      await exited
    },
  }
}
