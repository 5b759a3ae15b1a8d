// SPDX-License-Identifier: Apache-2.0
// A mesh lives through what happens to a real cluster: an application that is rolled out and a node that is drained, under load; questions
// through the API server's port-forward; and in the end its own removal, which leaves nothing on a node.

import t, { type Test } from 'tap'
import type { DemoLab } from '../../lab/demo/check.ts'
import { NODES } from '../../lab/real/layout.ts'
import type { LoadReport } from '../../lab/samples/load.ts'
import { lifeObjects, NAMESPACE } from './support/life-objects.ts'
import { callPlainly, tellOf, tellOfFailures, underLoad } from './support/load.ts'
import { installMesh, nothingIsLeft, removeMesh, TIMEOUT } from './support/mesh.ts'
import { openStory, startApplication } from './support/story.ts'
import { missingCluster } from './support/target.ts'

await t.test('the life of a mesh', { skip: missingCluster('nodes') }, async (t) => {
  const { lab } = openStory(t)
  await installMesh(lab)
  await startApplication(lab, lifeObjects())

  await t.test('status finds every node and pod well', async (t) => await status(t, lab))
  await t.test('why --live tries a call from its pod', async (t) => await whyLive(t, lab))
  await t.test('a rollout under load loses no call', async (t) => await rolled(t, lab))
  await t.test('a node is drained under load', async (t) => await drained(t, lab))
  await t.test('taken off, it leaves nothing', async (t) => await takenOff(t, lab))
})

async function status(t: Test, lab: DemoLab): Promise<void> {
  const said = await lab.ambit('status')
  t.comment(said)
  for (const node of NODES) t.match(said, node)
}

async function whyLive(t: Test, lab: DemoLab): Promise<void> {
  const said = await lab.ambitSays(
    'why',
    '--live',
    `${NAMESPACE}/client`,
    `${NAMESPACE}/web:80`,
    '-o',
    'json',
  )
  t.comment(said)
  const { outcome, live } = JSON.parse(said) as {
    outcome?: string
    live?: { outcome?: string; agreement?: string }
  }
  t.equal(outcome, 'connects')
  t.match(live, { outcome: 'connected', agreement: 'agrees' })
}

async function rollout(lab: DemoLab): Promise<LoadReport> {
  return await underLoad(lab, async () => {
    await lab.kubectl('rollout', 'restart', '-n', NAMESPACE, 'deployment/web')
    await lab.kubectl('rollout', 'status', '-n', NAMESPACE, 'deployment/web', TIMEOUT)
  })
}

async function rolled(t: Test, lab: DemoLab): Promise<void> {
  const report = await rollout(lab)
  t.equal(report.failed, 0, tellOfFailures(lab, report))
}

/** Of the pods that serve; the one that calls stays where it is. */
async function drained(t: Test, lab: DemoLab): Promise<void> {
  const field = 'jsonpath={.spec.nodeName}'
  const stays = await lab.kubectl('get', 'pod', '-n', NAMESPACE, 'client', '-o', field)
  const node = NODES.find((name) => name !== stays) ?? ''
  const report = await underLoad(lab, async () => {
    await lab.kubectl('drain', node, '--pod-selector=app=web', '--ignore-daemonsets', TIMEOUT)
    await lab.kubectl('rollout', 'status', '-n', NAMESPACE, 'deployment/web', TIMEOUT)
  })
  await lab.kubectl('uncordon', node)
  t.equal(report.failed, 0, tellOfFailures(lab, report))
}

async function takenOff(t: Test, lab: DemoLab): Promise<void> {
  await removeMesh(lab)
  await nothingIsLeft(t, lab)
  // What kube-proxy alone makes of the same: its endpoints are behind what ends.
  t.comment(`without a mesh: ${tellOf(await rollout(lab))}`)
  await callPlainly(lab)
  t.pass('pods start and call one another without it')
}
