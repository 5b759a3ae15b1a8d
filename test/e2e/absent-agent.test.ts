// SPDX-License-Identifier: Apache-2.0
// Given a lab whose agent goes away, then pods of namespaces outside the mesh go on starting, those of namespaces in it wait
// for the agent, and once the agents are taken off the cluster nothing of the mesh is left to wait for.

import {
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Lab } from '../../lab/cluster/index.ts'
import { nodeLayout } from '../../lab/machine/layout.ts'
import { PODS } from '../../mesh/kube/index.ts'
import { CHAINED_CONDITION } from '../../mesh/model/names.ts'
import { missing } from '../helpers.ts'
import { agentPid } from './support/memory.ts'
import {
  AGENTS,
  agentOf,
  MESH_NAMESPACE,
  meshLab,
  NEEDS,
  waitForCapture,
} from './support/mesh-lab.ts'
import { eventsIn, isReady, objectsIn } from './support/objects.ts'
import { namespaceManifest, podAddress, serverManifest } from './support/pods.ts'
import { HTTP_PORT } from './programs/ports.ts'

const skip = missing(...NEEDS)
const NODE = 'node-a'
/** Of the agent's container, in a JSON patch. */
const ENVIRONMENT = '/spec/template/spec/containers/0/env'
/** Refused before anything starts. */
const BROKEN = { name: 'AMBIT_WORKERS', value: '0' }
/** How long the plugin waits for an agent that hangs, once the first story has shown that its own patience has an end. */
const PLUGIN_PATIENCE_MS = 2_000
const AMBIENT = { 'istio.io/dataplane-mode': 'ambient' }

await t.test('given a mesh of one node', { skip }, async (t) => {
  const lab = await meshLab(t, [], 1)
  const layout = nodeLayout(lab.layout, NODE)
  const apply = (...objects: readonly object[]): Promise<void> =>
    lab.apply(objects.map((object) => JSON.stringify(object)).join('\n---\n'))
  const pod = (namespace: string, name: string, labels: Record<string, string> = {}): object =>
    serverManifest({ namespace, name, node: NODE, labels: { app: name, ...labels } })
  await apply(
    namespaceManifest('shop'),
    namespaceManifest('plain', false),
    namespaceManifest('mixed', false),
    pod('shop', 'old'),
    pod('plain', 'old'),
    pod('mixed', 'in', AMBIENT),
    pod('mixed', 'out'),
  )
  for (const namespace of ['shop', 'plain', 'mixed']) await lab.waitForPods(namespace)
  await waitForCapture(lab, 'shop', true)
  const members = join(layout.cniNetDir, 'ambit-members')
  await lab.waitFor('the file of mesh namespaces', async () =>
    namespacesIn(members) === 'mixed shop' ? true : undefined,
  )

  for (const { how, away, back } of [
    {
      how: 'that hangs',
      away: async () => process.kill(await agentPid(lab, NODE), 'SIGSTOP'),
      back: async () => process.kill(await agentPid(lab, NODE), 'SIGCONT'),
    },
    {
      how: 'that crashes at each start',
      away: () => patchAgent(lab, { op: 'add', path: `${ENVIRONMENT}/0`, value: BROKEN }),
      back: () => patchAgent(lab, { op: 'remove', path: `${ENVIRONMENT}/0` }),
    },
  ])
    await t.test(`an agent ${how} keeps no pod outside the mesh from starting`, async (t) => {
      await away()
      const suffix = how.split(' ')[1] ?? ''
      await apply(pod('plain', suffix), pod('shop', suffix), pod('mixed', suffix))
      await lab.waitFor('the plain pod', async () => isReady(lab, `plain/${suffix}`))
      const event = await lab.waitFor('word of why the others wait', async () => {
        const text = await eventsIn(lab, 'shop', { object: suffix })
        return text.includes('has pods in the mesh') ? text : undefined
      })
      t.match(event, /namespace shop has pods in the mesh/)
      t.notOk(await isReady(lab, `shop/${suffix}`), 'a pod in the mesh waits')
      t.notOk(
        await isReady(lab, `mixed/${suffix}`),
        'a pod whose neighbour asks for the mesh waits',
      )
      await lab.kubectl('delete', 'pod', '-n', 'plain', suffix)
      t.pass('a pod can be deleted')
      await back()
      await lab.waitForPods('shop')
      await lab.waitForPods('mixed')
      await waitForCapture(lab, 'shop', true)
      await lab.kubectl('delete', 'pod', '-n', 'shop', suffix)
    })

  await t.test(
    'a namespace that joined while the agent was away is enrolled when it is back',
    async (t) => {
      const pid = await agentPid(lab, NODE)
      process.kill(pid, 'SIGSTOP')
      hurryPlugin(layout.cniNetDir)
      await lab.kubectl('label', 'namespace', 'plain', 'istio.io/dataplane-mode=ambient')
      await apply(pod('plain', 'late'))
      await lab.waitFor('the pod', async () => isReady(lab, 'plain/late'))
      t.pass('it starts outside the mesh: the agent has heard of no label')
      process.kill(pid, 'SIGCONT')
      await waitForCapture(lab, 'plain', true)
      await lab.waitFor('the namespace in the file', async () =>
        namespacesIn(members) === 'mixed plain shop' ? true : undefined,
      )
    },
  )

  await t.test('an agent that is restarted leaves everything in place', async (t) => {
    const before = await agentOf(lab, NODE)
    await lab.kubectl('delete', 'pod', '-n', 'ambit-system', before.split('/')[1] ?? '')
    t.match(readFileSync(conflistOf(layout.cniNetDir), 'utf8'), /ambit-cni/)
    await lab.waitForPods('ambit-system')
    t.not(await agentOf(lab, NODE), before)
    t.ok(await canCall(lab, 'shop/old'), 'a pod of the mesh is served')
  })

  await t.test('a node whose CNI configuration is not there is named until it is', async (t) => {
    const chained = async () => {
      const [agent] = await objectsIn(lab, PODS, MESH_NAMESPACE, AGENTS)
      return agent?.status?.conditions?.find(({ type }) => type === CHAINED_CONDITION)
    }
    const until = async (status: string) =>
      await lab.waitFor(`CNI to stand ${status}`, async () => {
        const condition = await chained()
        return condition?.status === status ? condition : undefined
      })
    await until('True')
    const file = conflistOf(layout.cniNetDir)
    renameSync(file, `${file}.elsewhere`)
    t.match((await until('False')).message, /has no list of plugins/)
    renameSync(`${file}.elsewhere`, file)
    await until('True')
  })

  const daemonSet = await daemonSetOf(lab)
  await t.test('when the DaemonSet is deleted the mesh leaves the node with it', async (t) => {
    await lab.kubectl('delete', 'daemonset', '-n', 'ambit-system', 'ambit-agent')
    await withoutAgents(lab)
    t.notMatch(readFileSync(conflistOf(layout.cniNetDir), 'utf8'), /ambit-cni/)
    t.notOk(existsSync(join(layout.cniBinDir, 'ambit-cni')), 'the plugin is gone')
    t.notOk(existsSync(members), 'its file is gone')
    t.notOk(existsSync(layout.bpfDir), 'no program is pinned, and no directory is left')
    await waitForCapture(lab, 'shop', false)
    t.ok(await canCall(lab, 'shop/old'), 'a pod that was captured is free')
    await apply(pod('shop', 'after'))
    await lab.waitForPods('shop')
    t.ok(await canCall(lab, 'shop/after'), 'a pod of a labelled namespace starts')
  })

  await t.test('and comes back when it is applied again', async (t) => {
    await apply(daemonSet)
    await waitForCapture(lab, 'shop', true)
    t.ok(await canCall(lab, 'shop/after'), 'in the mesh')
    await lab.waitFor('the plugin', async () =>
      readFileSync(conflistOf(layout.cniNetDir), 'utf8').includes('ambit-cni') ? true : undefined,
    )
  })

  await t.test('a plugin that was left behind steps aside', async (t) => {
    // One that cannot hear that it is told to end is killed, and takes nothing with it.
    process.kill(await agentPid(lab, NODE), 'SIGSTOP')
    await lab.kubectl('delete', 'daemonset', '-n', 'ambit-system', 'ambit-agent')
    await withoutAgents(lab)
    t.ok(existsSync(members), 'its file is still there')
    await apply(pod('shop', 'orphan'))
    await lab.waitFor('word of why it waits', async () =>
      (await eventsIn(lab, 'shop', { object: 'orphan' })).includes('has pods in the mesh')
        ? true
        : undefined,
    )
    const longAgo = new Date(Date.now() - 11 * 60_000)
    utimesSync(members, longAgo, longAgo)
    await lab.waitForPods('shop')
    t.ok(await isReady(lab, 'shop/orphan'), 'it starts outside the mesh')
    t.notOk(await canCall(lab, 'shop/old'), 'what was captured stays closed')
  })
})

/** Waits until no agent has a pod. */
async function withoutAgents(lab: Lab): Promise<void> {
  await lab.waitFor('the agents to be gone', async () =>
    (await objectsIn(lab, PODS, MESH_NAMESPACE, AGENTS)).length === 0 ? true : undefined,
  )
}

/** The agents' DaemonSet as it was applied. */
async function daemonSetOf(lab: Lab): Promise<object> {
  const text = await lab.kubectl(
    'get',
    'daemonset',
    '-n',
    'ambit-system',
    'ambit-agent',
    '-o',
    'json',
  )
  const { apiVersion, kind, metadata, spec } = JSON.parse(text) as {
    readonly apiVersion: string
    readonly kind: string
    readonly metadata: {
      readonly name: string
      readonly namespace: string
      readonly labels: object
    }
    readonly spec: object
  }
  const { name, namespace, labels } = metadata
  return { apiVersion, kind, metadata: { name, namespace, labels }, spec }
}

function namespacesIn(file: string): string {
  if (!existsSync(file)) return ''
  return (JSON.parse(readFileSync(file, 'utf8')) as { namespaces: string[] }).namespaces.join(' ')
}

function conflistOf(directory: string): string {
  const name = readdirSync(directory).find((each) => each.endsWith('.conflist'))
  return join(directory, name ?? 'none.conflist')
}

/** Shortens the plugin's wait for the agent, who puts that right as soon as it goes on. */
function hurryPlugin(directory: string): void {
  const file = conflistOf(directory)
  const list = JSON.parse(readFileSync(file, 'utf8')) as {
    readonly plugins: readonly { readonly type: string }[]
  }
  const plugins = list.plugins.map((plugin) =>
    plugin.type === 'ambit-cni' ? { ...plugin, timeoutMs: PLUGIN_PATIENCE_MS } : plugin,
  )
  writeFileSync(`${file}.new`, JSON.stringify({ ...list, plugins }))
  renameSync(`${file}.new`, file)
}

/** Changes the agent for good: left alone, the one before would serve until the new one is ready. */
async function patchAgent(lab: Lab, ...patch: readonly object[]): Promise<void> {
  const name = ['daemonset', '-n', MESH_NAMESPACE, 'ambit-agent']
  const agents = async (): Promise<readonly string[]> =>
    (await objectsIn(lab, PODS, MESH_NAMESPACE, AGENTS)).flatMap(
      ({ metadata }) => metadata?.name ?? [],
    )
  const before = await agents()
  await lab.kubectl('patch', ...name, '--type=json', '-p', JSON.stringify(patch))
  await lab.waitFor('another agent', async () =>
    (await agents()).some((each) => !before.includes(each)) ? true : undefined,
  )
  for (const each of before)
    await lab.kubectl('delete', 'pod', '-n', MESH_NAMESPACE, each, '--ignore-not-found')
  await lab.waitFor('the agent before it to be gone', async () =>
    (await agents()).some((each) => before.includes(each)) ? undefined : true,
  )
}

/** The pod of `plain` that no story touches can be called, and the pod is not cut off. */
async function canCall(lab: Lab, from: string): Promise<boolean> {
  const address = await podAddress(lab, 'plain/old', 4)
  const url = `http://${address}:${HTTP_PORT}/`
  return (await lab.exec(from, ['curl', '-sS', '-m', '5', url])).code === 0
}
