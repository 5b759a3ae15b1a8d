// SPDX-License-Identifier: Apache-2.0
// An update whose agents run and never come to serve: on a node whose address two pods share, only the readiness gate tells them apart. The
// cluster says so to whoever looks, the agents before them go on, and undone, everything is as it was. No call is lost by any of it.

import t, { type Test } from 'tap'
import type { DemoLab } from '../../lab/demo/check.ts'
import type { HoldReport } from '../../lab/samples/hold.ts'
import { SERVING_CONDITION } from '../../mesh/model/names.ts'
import { podsOf } from './support/containers.ts'
import { lifeObjects, NAMESPACE } from './support/life-objects.ts'
import { startSample, tellOf, underLoad } from './support/load.ts'
import { installMesh, TIMEOUT } from './support/mesh.ts'
import { openStory, startApplication } from './support/story.ts'
import { missingCluster } from './support/target.ts'

const SYSTEM = 'ambit-system'
const AGENTS = ['-n', SYSTEM, 'daemonset/ambit-agent'] as const
/** A name that nobody has: no control plane answers these agents. */
const NOWHERE = '--xds-address=ambit-nowhere.ambit-system.svc:15012'
/** Longer than any probe of an agent waits before it begins, and than Kubernetes waits before it deletes a pod that is not ready. Seconds. */
const STANDSTILL_S = 30

await t.test(
  'an update that never comes to serve',
  { skip: missingCluster('nodes') },
  async (t) => {
    const { lab } = openStory(t)
    await installMesh(lab)
    await startApplication(lab, lifeObjects())
    const before = await podsOf(lab, SYSTEM, 'ambit-agent')
    const held = await startSample<HoldReport>(lab, `${NAMESPACE}/client`, 'hold.ts')
    const report = await underLoad(lab, async () => {
      await misdirect(lab)
      const successor = await successorOf(lab, before)
      await waits(t, lab, successor)
      await t.rejects(
        lab.kubectl('rollout', 'status', ...AGENTS, `--timeout=${STANDSTILL_S}s`),
        /timed out|exit/,
        'the rollout stands still',
      )
      await waits(t, lab, successor)
      await lab.kubectl('rollout', 'undo', ...AGENTS)
      await lab.kubectl('rollout', 'status', ...AGENTS, TIMEOUT)
    })
    t.equal(report.failed, 0, tellOf(report))
    const { answers, ended } = await held.finish()
    t.strictSame(ended, [], `held connections live on, ${answers} answers`)
    const after = await podsOf(lab, SYSTEM, 'ambit-agent')
    t.strictSame(after.toSorted(), before.toSorted(), 'the agents have served all the while')
  },
)

async function misdirect(lab: DemoLab): Promise<void> {
  const args = ['get', ...AGENTS, '-o', 'jsonpath={.spec.template.spec.containers[0].args}']
  const words = JSON.parse(await lab.kubectl(...args)) as readonly string[]
  const index = words.findIndex((word) => word.startsWith('--xds-address='))
  const path = `/spec/template/spec/containers/0/args/${index}`
  const patch = JSON.stringify([{ op: 'replace', path, value: NOWHERE }])
  await lab.kubectl('patch', ...AGENTS, '--type=json', '-p', patch)
}

/** The first pod of the update, as "namespace/name", once its container is ready: the agent before it answers for it. */
async function successorOf(lab: DemoLab, before: readonly string[]): Promise<string> {
  for (;;) {
    const now = await podsOf(lab, SYSTEM, 'ambit-agent')
    const successor = now.find((pod) => !before.includes(pod))
    if (successor === undefined) continue
    const answered = '--for=condition=ContainersReady'
    await lab.kubectl('wait', `pod/${nameOf(successor)}`, '-n', SYSTEM, answered, TIMEOUT)
    return successor
  }
}

/** What whoever looks is told of it. */
async function waits(t: Test, lab: DemoLab, pod: string): Promise<void> {
  const get = ['get', 'pod', '-n', SYSTEM, nameOf(pod)] as const
  const wide = await lab.kubectl(...get, '-o', 'wide')
  t.comment(wide)
  const [titles = '', line = ''] = wide.split('\n')
  // The last column, and those before it have no spaces but between number and time of restarts.
  t.match(titles, /READINESS GATES\s*$/)
  t.match(line, /\s0\/1\s*$/, 'kubectl get pods -o wide: its gate is not open')
  t.match(line, /\sRunning\s/)
  const { status } = JSON.parse(await lab.kubectl(...get, '-o', 'json')) as {
    readonly status: {
      readonly conditions: readonly {
        readonly type: string
        readonly status: string
        readonly reason?: string
        readonly message?: string
      }[]
      readonly containerStatuses: readonly { readonly restartCount: number }[]
    }
  }
  const ready = status.conditions.find(({ type }) => type === 'Ready')
  t.match(ready, { status: 'False', message: SERVING_CONDITION })
  t.equal(status.containerStatuses[0]?.restartCount, 0, 'it is not taken for dead')
  t.match(await lab.kubectl('describe', 'pod', '-n', SYSTEM, nameOf(pod)), SERVING_CONDITION)
}

function nameOf(pod: string): string {
  return pod.split('/')[1] ?? ''
}
