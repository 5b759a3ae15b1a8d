// SPDX-License-Identifier: Apache-2.0
// A mesh lives through what happens to a real cluster: rollouts of an application and of the agents under load, questions through the
// API server's port-forward, and in the end its own removal, which leaves nothing on a node.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { DemoLab } from '../../lab/demo/check.ts'
import { NODES } from '../../lab/real/layout.ts'
import type { LoadReport } from '../../lab/samples/load.ts'
import { clusterLab } from './support/cluster-lab.ts'
import { lifeObjects, NAMESPACE } from './support/life-objects.ts'
import { underLoad } from './support/load.ts'
import { installMesh, INSTALLATION } from './support/mesh.ts'
import { missingCluster, type StoryTarget, storyTarget } from './support/target.ts'

const TIMEOUT = '--timeout=150s'
const SYSTEM = 'ambit-system'
/** Measured: 4 of 559 calls while three pods were replaced. */
const LOST_IN_A_ROLLOUT = 0.02

await t.test('the life of a mesh', { skip: missingCluster('nodes') }, async (t) => {
  const target = storyTarget()
  if (target === undefined) throw new Error('the cluster went away')
  const directory = mkdtempSync(join(tmpdir(), 'ambit-cluster-'))
  const lab = clusterLab(target, directory)
  t.teardown(async () => {
    await lab.kubectl('delete', 'namespace', NAMESPACE, '--ignore-not-found', TIMEOUT)
    rmSync(directory, { recursive: true, force: true })
  })
  await installMesh(lab)
  await lab.apply({ apiVersion: 'v1', kind: 'List', items: lifeObjects() })
  await lab.kubectl('rollout', 'status', '-n', NAMESPACE, 'deployment/web', TIMEOUT)
  await lab.kubectl('wait', '-n', NAMESPACE, 'pod/client', '--for=condition=Ready', TIMEOUT)
  await untilCaptured(lab)

  await t.test('status finds every node and pod well', async (t) => await status(t, lab))
  await t.test('why --live tries a call from its pod', async (t) => await whyLive(t, lab))
  await t.test(
    'a rollout under load loses next to no call',
    async (t) => await rollout(t, lab, target),
  )
  await t.test('the agents are replaced under load', async (t) => await agents(t, lab, target))
  await t.test('taken off, it leaves nothing', async (t) => await takenOff(t, lab))
})

/** Every pod of the namespace, as its agent says. */
async function untilCaptured({ kubectl }: DemoLab): Promise<void> {
  const enabled = '--for=jsonpath={.metadata.annotations.ambient\\.istio\\.io/redirection}=enabled'
  await kubectl('wait', 'pod', '--all', '-n', NAMESPACE, enabled, TIMEOUT)
}

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

function told(t: Test, { calls, failed, counted, windows }: LoadReport): void {
  t.comment(`${failed} of ${calls} calls failed: ${JSON.stringify({ counted, windows })}`)
}

async function rollout(t: Test, { kubectl }: DemoLab, target: StoryTarget): Promise<void> {
  const report = await underLoad(target, async () => {
    await kubectl('rollout', 'restart', '-n', NAMESPACE, 'deployment/web')
    await kubectl('rollout', 'status', '-n', NAMESPACE, 'deployment/web', TIMEOUT)
  })
  told(t, report)
  // The server ends at once, without a preStop: calls that are under way to it just then are lost with it.
  t.ok(report.failed <= report.calls * LOST_IN_A_ROLLOUT, `${report.failed} of ${report.calls}`)
}

async function agents(t: Test, { kubectl }: DemoLab, target: StoryTarget): Promise<void> {
  const report = await underLoad(target, async () => {
    await kubectl('rollout', 'restart', '-n', SYSTEM, 'daemonset/ambit-agent')
    await kubectl('rollout', 'status', '-n', SYSTEM, 'daemonset/ambit-agent', TIMEOUT)
  })
  told(t, report)
  t.equal(report.failed, 0, `of ${report.calls} calls`)
}

async function takenOff(t: Test, lab: DemoLab): Promise<void> {
  await lab.kubectl('delete', '-f', INSTALLATION, '--ignore-not-found', TIMEOUT)
  for (const node of NODES) {
    const on = async (script: string): Promise<string> =>
      await lab.nodeExec(node, 'sh', '-c', script)
    t.equal(await on('find /sys/fs/bpf/ambit -mindepth 1 | head -3; true'), '', `no pin on ${node}`)
    t.equal(await on('ls /opt/cni/bin | grep ambit; true'), '', `no plugin on ${node}`)
    t.equal(
      await on('grep -l ambit -r /etc/cni/net.d; true'),
      '',
      `no entry in the chain of ${node}`,
    )
  }
  await lab.kubectl('rollout', 'restart', '-n', NAMESPACE, 'deployment/web')
  await lab.kubectl('rollout', 'status', '-n', NAMESPACE, 'deployment/web', TIMEOUT)
  const url = `http://web.${NAMESPACE}/`
  await lab.kubectl('exec', '-n', NAMESPACE, 'client', '--', 'curl', '-sSf', '-m', '5', url)
  t.pass('pods start and call one another without it')
}
