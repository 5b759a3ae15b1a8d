// SPDX-License-Identifier: Apache-2.0
// A mesh goes from an earlier version of Ambit to this one and back, under traffic: the controller and with it the waypoint, then the agents;
// back in the opposite order. No connection is lost, nobody is let in who is kept out, and nothing of either version is left.

import t, { type Test } from 'tap'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import type { Lab } from '../../lab/cluster/index.ts'
import { nodeLayout } from '../../lab/machine/layout.ts'
import type { LoadReport } from '../../lab/samples/load.ts'
import { PODS } from '../../mesh/kube/index.ts'
import { GATEWAY_NAME_LABEL } from '../../mesh/model/names.ts'
import { missing } from '../helpers.ts'
import { HTTP_PORT, TCP_PORTS } from './programs/ports.ts'
import type { Steady } from './programs/steady.ts'
import { AGENTS, applyAll, labOf, MESH_NAMESPACE, NEEDS } from './support/mesh-lab.ts'
import { isCaptured, isReady, objectsIn } from './support/objects.ts'
import {
  areOf,
  installAgents,
  installController,
  isGoing,
  isOf,
  missingPrevious,
  PRESENT,
  previousVersion,
  type Version,
} from './support/other-version.ts'
import {
  namespaceManifest,
  type Running,
  serverManifest,
  serviceManifest,
  start,
  startFile,
} from './support/pods.ts'
import { attempts, type Call } from './support/pod-traffic.ts'
import { inForce } from './support/policy-objects.ts'
import { tracesOf } from './support/traces.ts'

const skip = missing(...NEEDS) || missingPrevious()
/** Connections that each client holds from the first version to the last. */
const HELD = 4
const ROUNDS_PER_PHASE = 40
const NEW_PER_SECOND = 10
const KEPT = 4
/** Longer than this test: what is established ends by itself. */
const DRAIN_S = 1_200
/** A machine that runs agents of three versions beside each other is slow. Milliseconds. */
const PATIENCE_MS = 180_000
const CONTROLLERS = 'app=ambit-controller'
const WAYPOINT_PODS = `${GATEWAY_NAME_LABEL}=waypoint`
const CLIENT = 'cluster.local/ns/mesh/sa/client'
const POLICY_API = 'security.istio.io/v1'

const account = (name: string): object => ({
  apiVersion: 'v1',
  kind: 'ServiceAccount',
  metadata: { namespace: 'mesh', name },
})
const caller = (name: string, node: string): object =>
  serverManifest({ namespace: 'mesh', name, node, spec: { serviceAccountName: name } })
const guarded = (name: string, node: string): object =>
  serverManifest({ namespace: 'mesh', name, node, labels: { app: name, tier: 'guarded' } })
const clientOnly = (name: string, spec: object) => ({
  apiVersion: POLICY_API,
  kind: 'AuthorizationPolicy',
  metadata: { namespace: 'mesh', name },
  spec: {
    action: 'ALLOW',
    rules: [{ from: [{ source: { principals: [CLIENT] } }] }],
    ...spec,
  },
})
const STRICT = {
  apiVersion: POLICY_API,
  kind: 'PeerAuthentication',
  metadata: { namespace: 'mesh', name: 'strict' },
  spec: { mtls: { mode: 'STRICT' } },
}
/** Behind the waypoint. */
const LED = {
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { namespace: 'mesh', name: 'led', labels: { 'istio.io/use-waypoint': 'waypoint' } },
  spec: {
    selector: { app: 'led' },
    ports: [
      { name: 'http', port: 80, targetPort: HTTP_PORT },
      { name: 'echo', port: TCP_PORTS.echo, appProtocol: 'tcp' },
    ],
  },
}
/** As docs/waypoints.md has a patient one. */
const WAYPOINT = [
  {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { namespace: 'mesh', name: 'waypoint-objects' },
    data: {
      deployment: JSON.stringify({
        spec: {
          template: {
            spec: {
              terminationGracePeriodSeconds: DRAIN_S + 10,
              containers: [
                {
                  name: 'waypoint',
                  env: [{ name: 'AMBIT_DRAIN_DEADLINE', value: String(DRAIN_S) }],
                },
              ],
            },
          },
        },
      }),
    },
  },
  {
    apiVersion: 'gateway.networking.k8s.io/v1',
    kind: 'Gateway',
    metadata: { namespace: 'mesh', name: 'waypoint' },
    spec: {
      gatewayClassName: 'ambit-waypoint',
      infrastructure: { parametersRef: { group: '', kind: 'ConfigMap', name: 'waypoint-objects' } },
      listeners: [{ name: 'mesh', port: 15_008, protocol: 'HBONE' }],
    },
  },
]

/** What agents keep of a node on disk and pinned, by name. */
interface Kept {
  readonly states: readonly string[]
  readonly pins: readonly string[]
}

await t.test('given a mesh of the previous version', { skip }, async (t) => {
  const previous = previousVersion()
  const lab = await labOf(t, { mesh: false })
  await installController(lab, previous)
  await installAgents(lab, previous, DRAIN_S)
  await applyAll(lab, [
    namespaceManifest('mesh'),
    namespaceManifest('outside', false),
    account('client'),
    account('stranger'),
    caller('client', 'node-a'),
    caller('stranger', 'node-a'),
    guarded('near', 'node-a'),
    guarded('far', 'node-b'),
    serverManifest({ namespace: 'mesh', name: 'led', node: 'node-b' }),
    serverManifest({ namespace: 'outside', name: 'client', node: 'node-a' }),
    ...['near', 'far'].map((app) => serviceManifest('mesh', app, { app })),
    LED,
    ...WAYPOINT,
  ])
  await lab.waitForPods(undefined, PATIENCE_MS)
  await captured(lab)
  const programmed = ['--for=condition=Programmed', 'gateway/waypoint', '--timeout=120s']
  await lab.kubectl('wait', '-n', 'mesh', ...programmed)
  await inForce(lab, STRICT)
  await inForce(lab, clientOnly('guarded', { selector: { matchLabels: { tier: 'guarded' } } }))
  await lab.apply(
    JSON.stringify(
      clientOnly('led', { targetRefs: [{ group: '', kind: 'Service', name: 'led' }] }),
    ),
  )
  await lab.waitFor('the stranger to be refused by the waypoint', async () => {
    const curl = ['curl', '-s', '-o', '/dev/null', '-w', '%{http_code}', 'http://led.mesh/']
    return (await lab.exec('mesh/stranger', curl)).stdout === '403' ? true : undefined
  })

  const kept = await keptOn(lab)
  const counts = await countsOf(lab)
  const traffic = await startAll(t, lab)
  await traffic.phase('before')

  // Steps of one story: where one fails, it ends.
  await installController(lab, PRESENT)
  await controllerIs(lab, PRESENT)
  await traffic.phase('controller upgraded')
  t.pass('its controller is upgraded, and its waypoint with it')

  await installAgents(lab, PRESENT, DRAIN_S)
  await agentsAre(lab, PRESENT)
  await traffic.phase('agents upgraded')
  t.pass('its agents are upgraded, one node after the other')
  pluginIs(t, lab, PRESENT)
  await tookOver(t, lab, PRESENT)

  await applyAll(lab, [guarded('late', 'node-b')])
  await lab.waitFor('the pod that comes late', () => isReady(lab, 'mesh/late'), PATIENCE_MS)
  await captured(lab)
  t.pass('a pod that comes now is enrolled, too')

  await installAgents(lab, previous, DRAIN_S)
  await agentsAre(lab, previous)
  await traffic.phase('agents back')
  t.pass('its agents go back to the previous version')
  pluginIs(t, lab, previous)
  await tookOver(t, lab, previous)
  await lab.kubectl('delete', 'pod', '-n', 'mesh', 'late')

  await installController(lab, previous)
  await controllerIs(lab, previous)
  await traffic.phase('controller back')
  t.pass('and its controller, and its waypoint with it')

  await traffic.nothingLost(t)

  await onlyPods(lab, MESH_NAMESPACE, AGENTS, lab.nodes.length)
  await onlyPods(lab, 'mesh', WAYPOINT_PODS, 1)
  t.pass('with the last connections all others end')
  await lab.waitFor('nothing to be left of the other version', async () => {
    const now = await keptOn(lab)
    if (isDeepStrictEqual(now, kept)) return true
    // Quoted at the deadline.
    throw new Error(`${JSON.stringify(now)}, and before: ${JSON.stringify(kept)}`)
  })
  t.strictSame(await countsOf(lab), counts, 'programs, links and maps in the kernel are as before')
})

/** Waits until every pod of the namespace is, but for the waypoint's own. */
async function captured(lab: Lab): Promise<void> {
  await lab.waitFor(
    'the pods to be enrolled',
    async () => {
      const pods = await objectsIn(lab, PODS, 'mesh', `!${GATEWAY_NAME_LABEL}`)
      return pods.every(isCaptured) ? true : undefined
    },
    PATIENCE_MS,
  )
}

interface AllTraffic {
  /** Every connection has had its rounds since. */
  phase(name: string): Promise<void>
  /** Ends it. */
  nothingLost(t: Test): Promise<void>
}

/** Calls of everybody who may, which are to succeed, and of everybody who may not, none of which is. */
async function startAll(t: Test, lab: Lab): Promise<AllTraffic> {
  const targets = {
    'far.mesh': 'across nodes',
    'near.mesh': 'on one node',
    'led.mesh': 'through a waypoint',
  }
  const steady = Object.keys(targets).map((target) =>
    start<Steady>(lab, 'mesh/client', 'steady', target, TCP_PORTS.echo, HELD, ROUNDS_PER_PHASE),
  )
  const requests: Running<LoadReport> = startFile(
    lab,
    'mesh/client',
    'lab/samples/load.ts',
    ...['http://led.mesh/', NEW_PER_SECOND, KEPT],
  )
  t.teardown(() => {
    for (const { child } of [...steady, requests]) child.kill('SIGKILL')
  })
  const ends = new AbortController()
  t.teardown(() => ends.abort())
  const kept = {
    'a stranger across nodes': ['mesh/stranger', 'http://far.mesh/'],
    'a stranger on one node': ['mesh/stranger', 'http://near.mesh/'],
    'a stranger through a waypoint': ['mesh/stranger', 'http://led.mesh/'],
    'plaintext across nodes': ['outside/client', 'http://far.mesh/'],
    'plaintext on one node': ['outside/client', 'http://near.mesh/'],
  } as const
  const attempted = Object.entries(kept).map(
    async ([who, [from, url]]): Promise<readonly [string, readonly Call[]]> => [
      who,
      await attempts(lab, from, url, ends.signal),
    ],
  )
  await Promise.all([
    ...steady.map((each) => each.said('steady')),
    requests.said('50 calls were made'),
  ])
  return {
    phase: async (name) => {
      const all = [...steady, requests]
      for (const { child } of all) child.stdin?.write(`${name}\n`)
      await Promise.all(all.map((each) => each.said(`done ${name}`)))
    },
    nothingLost: async (t) => {
      for (const [index, where] of Object.values(targets).entries()) {
        const told = await steady[index]?.finish('SIGTERM')
        t.comment(`${where}: ${told?.heldWords} words, ${told?.opened} new connections`)
        t.strictSame(told?.heldFailures, [], `${where}, every established connection lives on`)
        t.strictSame(told?.openFailures, [], `${where}, every new connection succeeds`)
      }
      requests.child.stdin?.end()
      const { calls, counted } = await requests.finish()
      t.comment(`through a waypoint: ${calls} requests`)
      t.strictSame(counted, {}, 'through a waypoint, every request is answered')
      ends.abort()
      for (const [who, all] of await Promise.all(attempted)) {
        t.comment(`${who}: ${all.length} attempts`)
        t.ok(all.length > 0, `${who} has tried`)
        const served = all.filter(({ error }) => error === undefined)
        t.strictSame(served, [], `${who} was never served`)
      }
    },
  }
}

async function controllerIs(lab: Lab, version: Version): Promise<void> {
  await areOf(lab, 'controller', MESH_NAMESPACE, CONTROLLERS, version, 1, PATIENCE_MS)
  await areOf(lab, 'waypoint', 'mesh', WAYPOINT_PODS, version, 1, PATIENCE_MS)
}

async function agentsAre(lab: Lab, version: Version): Promise<void> {
  await areOf(lab, 'agents', MESH_NAMESPACE, AGENTS, version, lab.nodes.length, PATIENCE_MS)
}

/** The agents of a version came while others served their nodes, and have their pods from them. */
async function tookOver(t: Test, lab: Lab, version: Version): Promise<void> {
  for (const node of lab.nodes) {
    const agents = await objectsIn(lab, PODS, MESH_NAMESPACE, AGENTS)
    const agent = agents.find(
      (pod) => pod.spec?.nodeName === node && isOf(version, pod) && !isGoing(pod),
    )
    const log = lab.log(`${MESH_NAMESPACE}/${agent?.metadata?.name ?? ''}`)
    t.match(log, /it goes on until this one can take over/, `${node} was handed over`)
    t.match(log, /restored the pods of an earlier agent/, 'with what was known of its pods')
  }
}

async function onlyPods(lab: Lab, namespace: string, label: string, count: number): Promise<void> {
  await lab.waitFor(
    `the end of all other pods of ${label}`,
    async () =>
      (await objectsIn(lab, PODS, namespace, label)).length === count ? true : undefined,
    PATIENCE_MS,
  )
}

/** The node's CNI plugin is the version's own. */
function pluginIs(t: Test, lab: Lab, { root, name }: Version): void {
  const own = readFileSync(join(root, 'native/build/ambit-cni'))
  for (const node of lab.nodes) {
    const installed = readFileSync(join(nodeLayout(lab.layout, node).cniBinDir, 'ambit-cni'))
    t.ok(installed.equals(own), `the plugin of ${node} is that of ${name}`)
  }
}

/** Names of what agents have written and pinned on all nodes; but for what is of pods that are there. */
async function keptOn(lab: Lab): Promise<Kept> {
  const found = await lab.api.list(PODS)
  if (!found.ok) throw new Error(found.error.message)
  const living = found.value.items.map(({ metadata }) => metadata?.uid ?? '')
  const below = (directory: string): readonly string[] =>
    readdirSync(directory, { recursive: true, encoding: 'utf8' })
      .filter((name) => !living.some((uid) => name.includes(uid)))
      .toSorted()
  const nodes = lab.nodes.map((node) => nodeLayout(lab.layout, node))
  return {
    states: nodes.flatMap(({ agentDir }) => below(agentDir)),
    pins: nodes.flatMap(({ bpfDir }) => below(bpfDir)),
  }
}

async function countsOf(lab: Lab): Promise<Readonly<Record<string, number>>> {
  const { bpfLinks, bpfMaps, bpfPrograms } = await tracesOf(lab.name)
  return { links: bpfLinks.length, maps: bpfMaps.length, programs: bpfPrograms.length }
}
