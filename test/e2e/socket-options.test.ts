// SPDX-License-Identifier: Apache-2.0
// What apps ask of their sockets: given pods of two nodes and a server outside of the cluster, when a far end vanishes without a word,
// then an app that asked for haste hears of it as soon as without a mesh, and who asked for nothing waits; and what is urgent keeps its
// place in the stream.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { command } from '../../lab/machine/command.ts'
import { OUTSIDE_IP4 } from '../../lab/network/addressing.ts'
import { deadline, missing } from '../helpers.ts'
import type { HasteReport } from './programs/haste.ts'
import { TCP_PORTS } from './programs/ports.ts'
import {
  type AccessLine,
  applyAll,
  linesWhere,
  meshLab,
  NEEDS,
  waitForCapture,
} from './support/mesh-lab.ts'
import { namespaceManifest, podAddress, run, serverManifest, start } from './support/pods.ts'

const skip = missing(...NEEDS)
const SERVER = fileURLToPath(new URL('./programs/server.ts', import.meta.url))
/**
 * 2 s of idleness and 3 probes a second apart; what the kernel's own clocks and ours add is a second or two. Without haste it would be
 * minutes. The last probe that was answered may be 2 s older than what the busy connection heard last.
 */
const IDLE_MS = { least: 2_900, most: deadline(15_000) }
const BUSY_MS = { least: 2_500, most: deadline(15_000) }
/** All that passes through or leaves: the far end is there, and not heard of any more. */
const MUTE =
  'nft "add table inet mute; add chain inet mute in { type filter hook input priority -5; }; add chain inet mute through { type filter hook forward priority -5; }'
const muteServer = (chain: 'in' | 'through'): string =>
  `${MUTE}; add rule inet mute ${chain} tcp dport { ${TCP_PORTS.echo}, 15008 } drop"`
const UNMUTE = 'nft delete table inet mute'

await t.test('what apps ask of their sockets', { skip }, async (t) => {
  const lab = await meshLab(t)
  await applyAll(lab, [
    namespaceManifest('mesh'),
    namespaceManifest('plain', false),
    serverManifest({ namespace: 'mesh', name: 'client', node: 'node-a' }),
    serverManifest({ namespace: 'mesh', name: 'near', node: 'node-a' }),
    serverManifest({ namespace: 'mesh', name: 'far', node: 'node-b' }),
    serverManifest({ namespace: 'plain', name: 'client', node: 'node-a' }),
    serverManifest({ namespace: 'plain', name: 'far', node: 'node-b' }),
  ])
  for (const namespace of ['mesh', 'plain']) await lab.waitForPods(namespace)
  await waitForCapture(lab, 'mesh', true)
  const fabric = (script: string): Promise<string> =>
    command(['nsenter', `--net=/run/netns/${lab.layout.fabricNetns}`, 'sh', '-ec', script])
  const onFarNode = async (script: string): Promise<void> => {
    const { code, stderr } = await lab.nodeExec('node-b', ['sh', '-ec', script])
    if (code !== 0) throw new Error(stderr)
  }
  const outside = spawn('nsenter', [`--net=/run/netns/${lab.layout.fabricNetns}`, 'node', SERVER], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const gone = once(outside, 'exit')
  t.teardown(async () => {
    outside.kill('SIGKILL')
    await gone
  })
  await once(outside.stdout, 'data')
  const [near, far, plainFar] = [
    await podAddress(lab, 'mesh/near', 4),
    await podAddress(lab, 'mesh/far', 4),
    await podAddress(lab, 'plain/far', 4),
  ]

  await t.test('an urgent byte stays in its place, on every road', async (t) => {
    for (const [road, address] of [
      ['within the node', near],
      ['between nodes', far],
      ['to a pod outside the mesh', plainFar],
      ['to a server outside the cluster', OUTSIDE_IP4],
    ] as const)
      t.match(await run(lab, 'mesh/client', 'urgent', address), { received: 'abc!def' }, road)
  })

  await t.test(
    'a far end vanishes: who asked hears of it in time, who did not waits',
    async (t) => {
      const roads = [
        { road: 'without a mesh', pod: 'plain/client', to: plainFar },
        { road: 'between pods of two nodes', pod: 'mesh/client', to: far },
        { road: 'from the mesh to a pod that is not of it', pod: 'mesh/client', to: plainFar },
        { road: 'to a server outside the cluster', pod: 'mesh/client', to: OUTSIDE_IP4 },
      ].map((each) => ({ ...each, app: start<HasteReport>(lab, each.pod, 'haste', each.to) }))
      await Promise.all(roads.map(({ app }) => app.said('stand')))
      await Promise.all([onFarNode(muteServer('through')), fabric(muteServer('in'))])
      await Promise.all(roads.map(({ app }) => app.said('over')))
      await onFarNode(UNMUTE)
      await fabric(UNMUTE)
      for (const { road, pod, app } of roads) {
        const { idle, busy, patient } = await app.finish()
        // The app's own kernel says how long it waited; the agent's reset can only say that it is over.
        const error = pod === 'plain/client' ? 'ETIMEDOUT' : 'ECONNRESET'
        t.match({ idle, busy }, { idle: { error }, busy: { error } }, road)
        for (const [{ silentMs }, { least, most }] of [
          [idle, IDLE_MS],
          [busy, BUSY_MS],
        ] as const)
          t.ok(silentMs > least && silentMs < most, `${road}: after ${Math.round(silentMs)} ms`)
        t.equal(patient, 'back', `${road}: who asked for nothing goes on`)
      }
      const isSilent = ({ error }: AccessLine): boolean =>
        /nothing was heard of the peer/.test(String(error))
      const told = await linesWhere(lab, 'node-a', 'a line of each', isSilent, 2)
      t.equal(told.length, 2, 'the agent says of both at HBONE why it ended them')
    },
  )
})
