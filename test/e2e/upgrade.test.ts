// SPDX-License-Identifier: Apache-2.0
// The agents are replaced by new ones while traffic flows, and no connection of any pod notices: a successor takes the node over when it
// can serve it, and the agent before it ends what it has.

import t, { type Test } from 'tap'
import type { Lab } from '../../lab/cluster/index.ts'
import { PODS } from '../../mesh/kube/index.ts'
import { missing } from '../helpers.ts'
import { HTTP_PORT, TCP_PORTS } from './programs/ports.ts'
import type { Steady } from './programs/steady.ts'
import {
  AGENTS,
  agentOf,
  applyAll,
  MESH_NAMESPACE,
  meshLab,
  NEEDS,
  waitForCapture,
} from './support/mesh-lab.ts'
import { objectOf, objectsIn } from './support/objects.ts'
import {
  get,
  namespaceManifest,
  podAddress,
  type Running,
  serverManifest,
  serviceManifest,
  start,
} from './support/pods.ts'

const skip = missing(...NEEDS)
const HELD = 8
const ROUNDS_PER_PHASE = 40
/** Longer than any connection of this test. */
const DRAIN_S = 120
/** The chart's agents have longer; here who is not to be found unready has to hold out against this. Seconds, and so many probes. */
const PROBE = { periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 5 }
/** After which nobody who could be found unready, or dead, is thought ready. Milliseconds. */
const FOUND_OUT_MS = 8_000
const AGENT_SET = 'daemonset/ambit-agent'
const CONTROLLER = 'deployment/ambit-controller'

await t.test('while traffic flows', { skip }, async (t) => {
  const lab = await meshLab(t)
  await applyAll(lab, [
    namespaceManifest('mesh'),
    namespaceManifest('outside', false),
    serverManifest({ namespace: 'mesh', name: 'client', node: 'node-a' }),
    serverManifest({ namespace: 'mesh', name: 'near', node: 'node-a' }),
    serverManifest({ namespace: 'mesh', name: 'far', node: 'node-b' }),
    serverManifest({ namespace: 'outside', name: 'client', node: 'node-a' }),
    ...['near', 'far'].map((app) => serviceManifest('mesh', app, { app })),
  ])
  await lab.waitForPods()
  await waitForCapture(lab, 'mesh', true)

  const kubectl = async (...words: string[]): Promise<string> =>
    await lab.kubectl(...words, `--namespace=${MESH_NAMESPACE}`)
  const rolledOut = async (): Promise<void> => {
    await kubectl('rollout', 'status', AGENT_SET, '--timeout=120s')
  }
  /** Two kinds of connections, held ones and new ones, of each kind of pair. */
  const traffic = async (t: Test): Promise<readonly Running<Steady>[]> => {
    const pairs = [
      ['far.mesh', 'mesh/client'],
      ['near.mesh', 'mesh/client'],
      ['far.mesh', 'outside/client'],
    ] as const
    const running = pairs.map(([target, client]) =>
      start<Steady>(lab, client, 'steady', target, TCP_PORTS.echo, HELD, ROUNDS_PER_PHASE),
    )
    t.teardown(() => {
      for (const { child } of running) child.kill('SIGKILL')
    })
    await Promise.all(running.map((each) => each.said('steady')))
    return running
  }
  const phase = async (running: readonly Running<Steady>[], name: string): Promise<void> => {
    for (const each of running) each.child.stdin?.write(`${name}\n`)
    await Promise.all(running.map((each) => each.said(`done ${name}`)))
  }
  /** Traffic goes on for as long as it takes to find out who is not well. */
  const outliving = async (running: readonly Running<Steady>[], what: string): Promise<void> => {
    const since = Date.now()
    for (let round = 0; Date.now() - since < FOUND_OUT_MS; round += 1)
      await phase(running, `${what} ${round}`)
  }
  const nothingLost = async (t: Test, running: readonly Running<Steady>[]): Promise<void> => {
    const what = ['across nodes', 'on one node', 'from outside the mesh']
    for (const [index, where] of what.entries()) {
      const told = await running[index]?.finish('SIGTERM')
      t.comment(`${where}: ${told?.heldWords} words, ${told?.opened} new connections`)
      t.strictSame(told?.heldFailures, [], `${where}, every established connection lives on`)
      t.strictSame(told?.openFailures, [], `${where}, every new connection succeeds`)
    }
  }
  const agents = async (): Promise<readonly string[]> =>
    (await objectsIn(lab, PODS, MESH_NAMESPACE, AGENTS)).map(({ metadata }) => metadata?.name ?? '')

  // Agents that may take their time to end what they have.
  const args = JSON.parse(
    await kubectl('get', AGENT_SET, '-o', 'jsonpath={.spec.template.spec.containers[0].args}'),
  ) as readonly string[]
  const patient = args.map((word) =>
    word.replace(/^--drain-deadline=\d+$/, `--drain-deadline=${DRAIN_S}`),
  )
  t.notSame(patient, args)
  const spec = {
    terminationGracePeriodSeconds: DRAIN_S + 5,
    containers: [{ name: 'agent', args: patient, readinessProbe: PROBE, livenessProbe: PROBE }],
  }
  await kubectl('patch', AGENT_SET, '-p', JSON.stringify({ spec: { template: { spec } } }))
  await rolledOut()
  const onlyNew = async (): Promise<void> => {
    await lab.waitFor('the old agents to end', async () =>
      (await agents()).length === lab.nodes.length ? true : undefined,
    )
  }
  await onlyNew()

  await t.test('all agents are replaced, and no connection is lost', async (t) => {
    const before = await Promise.all([agentOf(lab, 'node-a'), agentOf(lab, 'node-b')])
    const running = await traffic(t)
    await phase(running, 'before')
    await kubectl('rollout', 'restart', AGENT_SET)
    await rolledOut()
    await phase(running, 'after')
    for (const agent of before)
      t.match(lab.log(agent), /the successor has the node/, `${agent} has handed over`)
    t.ok((await agents()).length > before.length, 'the old ones still serve what they had')
    await nothingLost(t, running)
    // With the last of their connections, long before the deadline.
    await onlyNew()
    t.ok((await get(lab, 'mesh/client', 'http://far.mesh/')).pod)
  })

  await t.test('a successor that cannot serve yet takes nothing over', async (t) => {
    const running = await traffic(t)
    await kubectl('scale', CONTROLLER, '--replicas=0')
    await lab.waitFor('no controller', async () =>
      (await objectsIn(lab, PODS, MESH_NAMESPACE, 'app=ambit-controller')).length === 0
        ? true
        : undefined,
    )
    const before = await agents()
    await kubectl('rollout', 'restart', AGENT_SET)
    const successor = await lab.waitFor('a successor that waits', async () => {
      const fresh = (await agents()).find((name) => !before.includes(name))
      const log = fresh === undefined ? '' : lab.log(`${MESH_NAMESPACE}/${fresh}`)
      return log.includes('it goes on until this one can take over') ? fresh : undefined
    })
    await phase(running, 'meanwhile')
    await lab.waitFor('its probes to be answered for it', async () =>
      (await conditionsOf(lab, successor))['ContainersReady'] === 'True' ? true : undefined,
    )
    t.equal((await conditionsOf(lab, successor))['Ready'], 'False', 'it is not thought ready')
    await outliving(running, 'while it waits')
    const pid = lab.pod(`${MESH_NAMESPACE}/${successor}`).containers[0]?.process?.pid
    if (pid === undefined) throw new Error(`${successor} does not run`)
    const goOn = (): void => void process.kill(pid, 'SIGCONT')
    t.teardown(goOn)
    process.kill(pid, 'SIGSTOP')
    await outliving(running, 'while it hangs')
    goOn()
    const now = await agents()
    t.ok(
      before.every((name) => now.includes(name)),
      'the agent before it was neither deleted',
    )
    for (const name of before) {
      const { containers } = lab.pod(`${MESH_NAMESPACE}/${name}`)
      t.equal(containers[0]?.restartCount, 0, 'nor started again')
    }
    await applyAll(lab, [serverManifest({ namespace: 'mesh', name: 'late', node: 'node-a' })])
    await lab.waitForPods('mesh')
    await waitForCapture(lab, 'mesh', true)
    t.pass('the agent before it still enrols')
    await kubectl('scale', CONTROLLER, '--replicas=1')
    await rolledOut()
    await phase(running, 'after')
    await nothingLost(t, running)
    const late = await podAddress(lab, 'mesh/late', 4)
    t.ok((await get(lab, 'mesh/client', `http://${late}:${HTTP_PORT}/`)).pod, 'it is served')
    t.notMatch(lab.log(`${MESH_NAMESPACE}/${successor}`), /without it/)
  })

  await t.test('one that fails while it takes the node leaves it as it was', async (t) => {
    await onlyNew()
    const before = await agents()
    const running = await traffic(t)
    const path = `/spec/template/spec/containers/0/args/${args.length}`
    const change = async (...changes: readonly object[]): Promise<void> => {
      await kubectl('patch', AGENT_SET, '--type=json', '-p', JSON.stringify(changes))
    }
    await change({ op: 'add', path, value: '--cni-binary=/nowhere' })
    const successor = await lab.waitFor('a successor that has failed twice', async () => {
      const fresh = (await agents()).find((name) => !before.includes(name))
      if (fresh === undefined) return undefined
      const [container] = lab.pod(`${MESH_NAMESPACE}/${fresh}`).containers
      return (container?.restartCount ?? 0) >= 2 ? fresh : undefined
    })
    await phase(running, 'meanwhile')
    await lab.waitFor('it to say why', () =>
      lab.log(`${MESH_NAMESPACE}/${successor}`).includes('AMB_CNI_INSTALL') ? true : undefined,
    )
    await applyAll(lab, [serverManifest({ namespace: 'mesh', name: 'later', node: 'node-a' })])
    await lab.waitForPods('mesh')
    await waitForCapture(lab, 'mesh', true)
    t.pass('the agent before it still enrols')
    await change({ op: 'remove', path })
    await rolledOut()
    await nothingLost(t, running)
    const now = await agents()
    t.ok(
      before.every((name) => now.includes(name)),
      'the agents have served all the while',
    )
  })
})

/** What is said of a pod of the mesh, by type. */
async function conditionsOf(lab: Lab, name: string): Promise<Readonly<Record<string, string>>> {
  const { status } = await objectOf(lab, PODS, `${MESH_NAMESPACE}/${name}`)
  return Object.fromEntries((status?.conditions ?? []).map((each) => [each.type, each.status]))
}
