// SPDX-License-Identifier: Apache-2.0
// Pods come and go for as long as a node is up: what each of them leaves behind adds up. A world of its own, in which nothing
// else closes a descriptor meanwhile.

import { execFileSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import t from 'tap'
import { PIN_VERSION } from '../../agent/capture/pins.ts'
import { missing } from '../helpers.ts'
import { World } from './support/world.ts'

const skip = missing('root', 'cgroup2')

// The file's own limit, which is tap's 30 s otherwise, must not be less than its story's.
void t.test('1,000 rounds of enrol and withdraw leave nothing behind', { skip }, async (t) => {
  const world = new World(t)
  const agent = await world.openAgent()
  const pods = [world.pod('a'), world.emptyPod(6), world.emptyPod(7), world.emptyPod(8)]
  await agent.process.ask('rounds', { pods, count: 8 })
  const before = await agent.process.ask<number>('openFds')
  const times = await agent.process.ask<readonly number[]>('rounds', { pods, count: 1000 })
  t.equal(await agent.process.ask('openFds'), before, 'no descriptor')
  t.match(await agent.stats(), {
    enrolledPods: 0,
    listeners: 0,
    pendingConnections: 0,
    trustedConnections: 0,
  })
  t.strictSame(readdirSync(`${world.bpffs}/${PIN_VERSION}/pods`), [], 'no pin')
  t.equal(linkCount('sk_lookup', world), 0, 'no link')
  for (const { netnsPath } of pods) {
    const rules = execFileSync(
      'nsenter',
      [
        `--net=${netnsPath}`,
        'sh',
        '-c',
        'ip rule; ip -6 rule; ip route show table all; ip -6 route show table all',
      ],
      { encoding: 'utf8' },
    )
    t.notMatch(rules, /0x111|table 100/, 'no rule, no route')
  }
  const sorted = times.toSorted((a, b) => a - b)
  t.comment(`enrol p50 ${sorted[500]?.toFixed(2)} ms, p99 ${sorted[990]?.toFixed(2)} ms`)
})

/** sk_lookup links on the namespaces of this world that are still alive. */
function linkCount(type: string, world: World): number {
  const text = execFileSync('bpftool', ['-j', 'link', 'show'], { encoding: 'utf8' })
  const inode = execFileSync('stat', ['-Lc', '%i', world.netns('a')], { encoding: 'utf8' }).trim()
  const links = JSON.parse(text) as readonly { netns_ino?: number; attach_type?: string }[]
  return links.filter((link) => link.attach_type === type && String(link.netns_ino) === inode)
    .length
}
