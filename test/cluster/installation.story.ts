// SPDX-License-Identifier: Apache-2.0
// A mesh by `ambit install`, from its first pod to its last: verified, upgraded under load, an upgrade that fails taken back, uninstalled
// without a trace. No pod's call is lost by any of it.

import t, { type Test } from 'tap'
import { CheckFailed, type DemoLab } from '../../lab/demo/check.ts'
import { NODES } from '../../lab/real/layout.ts'
import type { HoldReport } from '../../lab/samples/hold.ts'
import { podsOf } from './support/containers.ts'
import { lifeObjects, NAMESPACE } from './support/life-objects.ts'
import { callPlainly, startSample, tellOf, underLoad } from './support/load.ts'
import { installKinds, nothingIsLeft, removeMesh, TIMEOUT } from './support/mesh.ts'
import { openStory, startApplication } from './support/story.ts'
import { missingCluster } from './support/target.ts'

const SYSTEM = 'ambit-system'
/** `ambit` gives up after this, and takes back what it did. Seconds. */
const PATIENCE_S = '150'
/** Longer than an upgrade. Seconds. */
const DRAIN_S = 100
/** No registry has it, and none can be asked. */
const ABSENT_TAG = 'absent'
/** In which a rollout that cannot succeed is given up. Seconds. */
const SHORT_S = '20'

await t.test('the life of an installation', { skip: missingCluster('nodes') }, async (t) => {
  const { lab } = openStory(t)
  await removeMesh(lab)
  await installKinds(lab)

  await t.test('installed, it is ready, and verify finds it whole', async (t) => {
    const startMs = performance.now()
    const said = await lab.ambit(
      ...['install', '--timeout', PATIENCE_S],
      // An old agent has its node's turn until it has ended: one after the other would take as many drains.
      ...['--set', `agent.drainSeconds=${DRAIN_S},agent.maxSurge=${NODES.length}`],
    )
    t.comment(`installed in ${secondsSince(startMs)} s: ${said}`)
    t.comment(await lab.ambit('verify'))
    await startApplication(lab, lifeObjects())
  })
  await t.test('verify names a field that somebody has changed', async (t) => await changed(t, lab))
  await t.test(
    'an upgrade under load loses no call, and no connection that was open before',
    async (t) => await upgraded(t, lab),
  )
  await t.test(
    'an upgrade that fails is taken back, and no call is lost',
    async (t) => await takenBack(t, lab),
  )
  await t.test('uninstalled, it leaves nothing, and pods come and go', async (t) => {
    const startMs = performance.now()
    t.comment(await lab.ambit('uninstall', '--timeout', PATIENCE_S))
    t.comment(`uninstalled in ${secondsSince(startMs)} s`)
    await nothingIsLeft(t, lab)
    t.equal(
      await lab.kubectl(
        ...['get', 'namespace,clusterrole,clusterrolebinding', '-o', 'name'],
        ...['-l', 'app.kubernetes.io/part-of=ambit'],
      ),
      '',
    )
    await podsComeAndGo(t, lab)
  })
})

function secondsSince(startMs: number): string {
  return ((performance.now() - startMs) / 1000).toFixed(1)
}

async function changed(t: Test, lab: DemoLab): Promise<void> {
  const set = ['-n', SYSTEM, 'service/ambit-controller', '--type=json']
  const port = (number: number): string =>
    JSON.stringify([{ op: 'replace', path: '/spec/ports/0/port', value: number }])
  await lab.kubectl('patch', ...set, '-p', port(15013))
  try {
    t.match(await lab.ambitSays('verify'), /Service .*field spec\.ports\[0\]\.port is not/)
    await t.rejects(lab.ambit('verify'), /exit 1/)
  } finally {
    await lab.kubectl('patch', ...set, '-p', port(15012))
  }
  t.match(await lab.ambit('verify'), /ok/)
}

async function upgraded(t: Test, lab: DemoLab): Promise<void> {
  const before = await podsOf(lab, SYSTEM, 'ambit-agent')
  const held = await startSample<HoldReport>(lab, `${NAMESPACE}/client`, 'hold.ts')
  const startMs = performance.now()
  let upgrade = Promise.resolve('')
  const report = await underLoad(lab, async () => {
    upgrade = lab.ambit('upgrade', '--timeout', PATIENCE_S, '--set', 'agent.logLevel=debug')
    await Promise.race([upgrade, untilReplaced(lab, before)])
  })
  t.comment(`all nodes are taken over after ${secondsSince(startMs)} s`)
  t.equal(report.failed, 0, tellOf(report))
  const { answers, ended } = await held.finish()
  t.strictSame(ended, [], `held connections live on, ${answers} answers`)
  await upgrade
  t.comment(`the old agents have ended after ${secondsSince(startMs)} s`)
  t.match(await lab.ambit('verify'), /ok/)
}

/** Resolves when none of these agents is in charge of its node: each is told to end once its successor serves. */
async function untilReplaced(lab: DemoLab, agents: readonly string[]): Promise<void> {
  for (;;) {
    const now = await podsOf(lab, SYSTEM, 'ambit-agent')
    if (!now.some((pod) => agents.includes(pod))) return
  }
}

async function takenBack(t: Test, lab: DemoLab): Promise<void> {
  const before = await podsOf(lab, SYSTEM, 'ambit-agent')
  const args = ['get', '-n', SYSTEM, 'daemonset/ambit-agent', '-o', 'jsonpath={.spec.template}']
  const template = await lab.kubectl(...args)
  const report = await underLoad(lab, async () => {
    const upgrade = ['upgrade', '--timeout', SHORT_S, '--set', `image.tag=${ABSENT_TAG}`]
    await t.rejects(lab.ambit(...upgrade), /everything is as it was before/)
    // The pods of the failed one are still ending.
    while (!(await isWell(lab)));
  })
  t.equal(report.failed, 0, tellOf(report))
  t.equal(await lab.kubectl(...args), template)
  const after = await podsOf(lab, SYSTEM, 'ambit-agent')
  t.strictSame(after.toSorted(), before.toSorted(), 'the agents have served all the while')
}

/** Whether verify finds everything there, and ready. */
async function isWell(lab: DemoLab): Promise<boolean> {
  try {
    await lab.ambit('verify')
    return true
  } catch (error) {
    if (error instanceof CheckFailed) return false
    throw error
  }
}

async function podsComeAndGo(t: Test, lab: DemoLab): Promise<void> {
  await lab.kubectl('rollout', 'restart', '-n', NAMESPACE, 'deployment/web')
  await lab.kubectl('rollout', 'status', '-n', NAMESPACE, 'deployment/web', TIMEOUT)
  await callPlainly(lab)
  await lab.kubectl('delete', 'namespace', NAMESPACE, TIMEOUT)
  t.pass('pods start without it, call one another, and are deleted')
}
