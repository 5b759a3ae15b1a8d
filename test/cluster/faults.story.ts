// SPDX-License-Identifier: Apache-2.0
// What the mesh stands on is killed under traffic and under a policy that keeps a stranger out: the API server, controllers, agents, the
// kubelet's runtime excepted. The stranger never gets in, and who may call does, as soon as there is somebody to carry the call.

import t, { type Test } from 'tap'
import type { DemoLab } from '../../lab/demo/check.ts'
import { NODES } from '../../lab/real/layout.ts'
import type { LoadReport } from '../../lab/samples/load.ts'
import { killContainer, podsOf } from './support/containers.ts'
import { clientObjects, lifeObjects, NAMESPACE } from './support/life-objects.ts'
import { startSample, tellOf } from './support/load.ts'
import { installMesh, TIMEOUT } from './support/mesh.ts'
import { openStory, startApplication } from './support/story.ts'
import { missingCluster } from './support/target.ts'

const SYSTEM = 'ambit-system'
const STRANGER = 'stranger'
const READY_DEADLINE_MS = 150_000

const KEEPS_OUT = {
  apiVersion: 'security.istio.io/v1',
  kind: 'AuthorizationPolicy',
  metadata: { namespace: NAMESPACE, name: 'no-stranger' },
  spec: {
    action: 'DENY',
    rules: [
      { from: [{ source: { principals: [`cluster.local/ns/${NAMESPACE}/sa/${STRANGER}`] } }] },
    ],
  },
}
const STRICT = {
  apiVersion: 'security.istio.io/v1',
  kind: 'PeerAuthentication',
  metadata: { namespace: NAMESPACE, name: 'strict' },
  spec: { mtls: { mode: 'STRICT' } },
}

await t.test('faults under policy and traffic', { skip: missingCluster('nodes') }, async (t) => {
  const { lab } = openStory(t)
  await installMesh(lab)
  const items = [...lifeObjects(), ...clientObjects(STRANGER)]
  await startApplication(lab, items, ['client', STRANGER])
  await inForce(lab, KEEPS_OUT)

  await t.test('the API server is killed: nobody notices', async (t) => {
    const served = await whileBothCall(t, lab, async () => await apiServer(t, lab))
    t.equal(served.failed, 0, tellOf(served))
    await inForce(lab, STRICT)
    t.pass('what is applied afterwards comes into force')
  })
  await t.test('every controller is killed: nobody notices', async (t) => {
    const served = await whileBothCall(t, lab, async () => {
      const controllers = await podsOf(lab, SYSTEM, 'ambit-controller')
      await Promise.all(controllers.map((pod) => killContainer(lab, pod)))
    })
    t.equal(served.failed, 0, tellOf(served))
  })
  await t.test('agents are killed in turn: calls fail, closed, and go on', async (t) => {
    for (const agent of await podsOf(lab, SYSTEM, 'ambit-agent')) {
      await whileBothCall(t, lab, async () => await killContainer(lab, agent))
      const served = await whileBothCall(t, lab, async () => Promise.resolve())
      t.equal(served.failed, 0, `once ${agent} is ready again: ${tellOf(served)}`)
    }
  })
})

async function inForce(lab: DemoLab, policy: typeof KEEPS_OUT | typeof STRICT): Promise<void> {
  await lab.apply(policy)
  const name = `${policy.kind.toLowerCase()}/${policy.metadata.name}`
  await lab.kubectl('wait', '-n', NAMESPACE, name, '--for=condition=Enforced', TIMEOUT)
}

/** What became of the calls of the client, who may; the stranger, who may not, calls all the while, and is never served. */
async function whileBothCall(
  t: Test,
  lab: DemoLab,
  event: () => Promise<void>,
): Promise<LoadReport> {
  const loads = await Promise.all(
    ['client', STRANGER].map((pod) =>
      startSample<LoadReport>(lab, `${NAMESPACE}/${pod}`, 'load.ts'),
    ),
  )
  const ended = async (): Promise<readonly LoadReport[]> =>
    await Promise.all(loads.map((load) => load.finish()))
  try {
    await event()
  } catch (error) {
    await ended()
    throw error
  }
  const [served, kept] = await ended()
  if (served === undefined || kept === undefined) throw new Error('two were to call')
  t.comment(tellOf(served))
  t.equal(kept.failed, kept.calls, `the stranger is never served, in ${kept.calls} calls`)
  return served
}

/** Kills it; resolves when the next one is ready. */
async function apiServer(t: Test, lab: DemoLab): Promise<void> {
  const startMs = performance.now()
  const script =
    'for at in /proc/[0-9]*; do [ "$(cat "$at/comm")" != kube-apiserver ] || kill -9 "${at#/proc/}"; done'
  await lab.nodeExec(NODES[0], 'sh', '-c', script)
  const deadline = Date.now() + READY_DEADLINE_MS
  for (;;) {
    try {
      await lab.kubectl('get', '--raw', '/readyz')
      break
    } catch (error) {
      if (Date.now() > deadline) throw error
    }
  }
  t.comment(`it is ready again after ${((performance.now() - startMs) / 1000).toFixed(1)} s`)
}
