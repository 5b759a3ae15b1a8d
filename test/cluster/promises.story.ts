// SPDX-License-Identifier: Apache-2.0
// What the demonstration shows in a lab holds on a real cluster: a label captures, the wire carries TLS 1.3, policy refuses and the
// audit says so through the API server's port-forward, and a waypoint that the cluster's own scheduler and kubelet start splits calls.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import t from 'tap'
import { demoChecks } from '../../lab/demo/checks.ts'
import { inNetworkOf } from '../../lab/real/node-command.ts'
import { applyShop, installMesh, removeShop } from './support/mesh.ts'
import { openCluster } from './support/story.ts'
import { missingCluster } from './support/target.ts'

const SERVER = join(import.meta.dirname, '../../lab/samples/server.ts')

await t.test('the promises of the demonstration', { skip: missingCluster('nodes') }, async (t) => {
  const { lab } = openCluster(t, removeShop)
  await installMesh(lab)
  await applyShop(lab)
  const outside = await startOutside()
  for (const check of demoChecks(lab))
    await t.test(check.title, async (t) => {
      t.comment(await check.run())
      t.pass('the check held')
    })
  await outside.stop()
})

/** The sample server at an address that is no node's and no pod's. */
async function startOutside(): Promise<{ stop(): Promise<void> }> {
  const [program = '', ...argv] = [...inNetworkOf('fabric'), process.execPath, SERVER]
  const child = spawn(program, argv, {
    env: { ...process.env, SERVICE: 'outside', PORT: '80' },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const exited = once(child, 'exit')
  await once(child.stdout, 'data')
  return {
    stop: async () => {
      child.kill('SIGKILL')
      await exited
    },
  }
}
