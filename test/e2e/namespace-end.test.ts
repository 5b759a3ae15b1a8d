// SPDX-License-Identifier: Apache-2.0
// A namespace of the mesh is deleted while its pods call and are called, with the waypoint and the policies that are in it. Others do not
// notice; its own pods live in the mesh as long as they live; then nothing is left of it, and another of that name is another.

import t, { type Test } from 'tap'
import type { Lab } from '../../lab/cluster/index.ts'
import { missing } from '../helpers.ts'
import { HTTP_PORT, TCP_PORTS } from './programs/ports.ts'
import type { Steady } from './programs/steady.ts'
import {
  applyAll,
  captureFabric,
  meshLab,
  NEEDS,
  waitForCapture,
  waitForNews,
} from './support/mesh-lab.ts'
import { until } from '../support/until.ts'
import { type Call, failures, startRefused, startTraffic } from './support/pod-traffic.ts'
import {
  get,
  namespaceManifest,
  podAddress,
  type Running,
  serverManifest,
  serviceManifest,
  start,
} from './support/pods.ts'
import { inForce } from './support/policy-objects.ts'
import { note, offered, remains } from './support/remains.ts'
import { ambit } from './support/waypoint-guide.ts'

const skip = missing(...NEEDS)
const NAMESPACE = 'passing'
const MARKER = 'ambit-marker-of-the-passing'
const HELD = 4
const ROUNDS_PER_PHASE = 20
/** How long its pods hold out: all else that is in the namespace is gone long before them. Seconds. */
const GRACE_S = 6
/** A pod has not ended before this, whatever its kubelet's clock. Milliseconds. */
const HELD_OUT_MS = (GRACE_S - 1) * 1_000

/** What a frame of the calls takes in a capture at least. */
const SMALLEST_PACKET_BYTES = 54

/** Goes on serving when it is told to end. */
const STUBBORN = {
  terminationGracePeriodSeconds: GRACE_S,
  containers: [
    {
      name: 'main',
      image: 'host',
      command: ['sh', '-c', 'trap "" TERM; node test/e2e/programs/server.ts & wait'],
      readinessProbe: { httpGet: { path: '/', port: HTTP_PORT }, periodSeconds: 1 },
    },
  ],
}

const pods = (): readonly object[] => [
  serverManifest({ namespace: NAMESPACE, name: 'client', node: 'node-a', spec: STUBBORN }),
  serverManifest({ namespace: NAMESPACE, name: 'far', node: 'node-b', spec: STUBBORN }),
  serviceManifest(NAMESPACE, 'far', { app: 'far' }),
  // Called past the waypoint.
  serverManifest({
    namespace: NAMESPACE,
    name: 'bare',
    node: 'node-b',
    labels: { app: 'bare', 'istio.io/use-waypoint': 'none' },
    spec: STUBBORN,
  }),
]

/** Closed to the intruder: its connections, and its requests at the waypoint. */
const policies = ['selector', 'targetRefs'].map((by) => ({
  apiVersion: 'security.istio.io/v1',
  kind: 'AuthorizationPolicy',
  metadata: { namespace: NAMESPACE, name: `no-intruder-by-${by.toLowerCase()}` },
  spec: {
    ...(by === 'selector' ? {} : { targetRefs: [{ group: '', kind: 'Service', name: 'far' }] }),
    action: 'DENY',
    rules: [{ from: [{ source: { serviceAccounts: ['staying/intruder'] } }] }],
  },
}))

const STRICT = {
  apiVersion: 'security.istio.io/v1',
  kind: 'PeerAuthentication',
  metadata: { namespace: NAMESPACE, name: 'strict' },
  spec: { mtls: { mode: 'STRICT' } },
}

await t.test('while calls run from it, into it and past it', { skip }, async (t) => {
  const lab = await meshLab(t)
  const client = (name: string, spec: object = {}): object =>
    serverManifest({ namespace: 'staying', name, node: 'node-a', spec })
  await applyAll(lab, [
    namespaceManifest('staying'),
    namespaceManifest('outside', false),
    {
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { namespace: 'staying', name: 'intruder' },
    },
    client('client'),
    client('intruder', { serviceAccountName: 'intruder' }),
    serverManifest({ namespace: 'staying', name: 'near', node: 'node-a' }),
    serverManifest({ namespace: 'staying', name: 'far', node: 'node-b' }),
    ...['near', 'far'].map((app) => serviceManifest('staying', app, { app })),
    serverManifest({ namespace: 'outside', name: 'client', node: 'node-a' }),
  ])
  await lab.waitForPods()
  await waitForCapture(lab, 'staying', true)
  for (const node of lab.nodes) await waitForNews(lab, node, 'staying', { near: 1, far: 1 })
  const before = await offered(lab)

  await applyAll(lab, [namespaceManifest(NAMESPACE), ...pods()])
  await lab.waitForPods(NAMESPACE)
  await waitForCapture(lab, NAMESPACE, true)
  await ambit(lab, 'waypoint', 'apply', '-n', NAMESPACE, '--enroll-namespace', '--wait')
  for (const policy of [...policies, STRICT]) await inForce(lab, policy)
  const urlOf = async (name: string): Promise<string> =>
    `http://${await podAddress(lab, `${NAMESPACE}/${name}`, 4)}:${HTTP_PORT}/`
  const bound = await urlOf('far')
  const bare = await urlOf('bare')
  const byService = `http://far.${NAMESPACE}/`
  using former = note(lab, NAMESPACE)
  t.equal(former.pods.length, 4, 'its client, its servers and its waypoint')
  t.ok((await remains(lab, former)).length > former.pods.length, 'what is looked for is there')

  await t.test('nobody loses what he should not lose', async (t) => {
    const past = await pastIt(t, lab)
    const marked = { marker: MARKER }
    const out = await startTraffic(t, lab, `${NAMESPACE}/client`, 'http://far.staying/', marked)
    const into = {
      'past the waypoint': await startTraffic(t, lab, 'staying/client', bare, marked),
      'to who is bound to it': await startTraffic(t, lab, 'staying/client', bound, marked),
      'through it': await startTraffic(t, lab, 'staying/client', byService, marked),
    }
    const refused = {
      'the intruder': await startRefused(t, lab, 'staying/intruder', bare, marked),
      'the intruder, where there is a waypoint': await startRefused(
        ...([t, lab, 'staying/intruder', byService, marked] as const),
      ),
      plaintext: await startRefused(t, lab, 'outside/client', bare),
    }
    const endCapture = await captureFabric(t, lab)
    await phase(past, 'before')
    const deletedAt = Date.now()
    await lab.kubectl('delete', 'namespace', NAMESPACE, '--timeout=120s')
    t.comment(`gone after ${Date.now() - deletedAt} ms`)
    await phase(past, 'after')
    const packets = await endCapture()

    for (const [what, each] of past) {
      const { heldFailures, openFailures, opened } = await each.finish('SIGTERM')
      t.strictSame(heldFailures, [], `${what}: every open connection goes on`)
      t.strictSame(openFailures, [], `${what}: ${opened} new ones`)
    }
    const lived = await out.stop()
    t.strictSame(failures(lived), {}, `its pods call until their end: ${lived.length} calls`)
    t.ok(lastEnd(lived) - deletedAt > HELD_OUT_MS, `${lastEnd(lived) - deletedAt} ms`)
    for (const [how, traffic] of Object.entries(into)) {
      const calls = await traffic.stop()
      // With its Gateway a waypoint is nobody's, and who is bound to it is closed.
      const until = how === 'past the waypoint' ? deletedAt + HELD_OUT_MS : deletedAt
      const early = calls.filter(({ endedAt }) => endedAt < until)
      t.strictSame(failures(early), {}, `they are called ${how}: ${early.length} calls`)
    }
    for (const [who, traffic] of Object.entries(refused)) {
      const calls = await traffic.stop()
      const letIn = calls.filter(({ error }) => error === undefined)
      const when = letIn.map(({ startedAt }) => startedAt - deletedAt)
      t.strictSame(when, [], `none of ${calls.length} calls gets in: ${who}`)
      t.ok(lastEnd(calls) - deletedAt > HELD_OUT_MS)
    }
    t.ok(packets.length > lived.length * SMALLEST_PACKET_BYTES, 'the capture saw the traffic')
    t.notOk(packets.includes(MARKER), 'nothing was said in plaintext')
  })

  await t.test('nothing is left of it', async (t) => {
    let left = await remains(lab, former)
    t.comment(`at first: ${left.join('; ')}`)
    await until(
      async () => (left = await remains(lab, former)).length === 0,
      () => `nothing to be left: ${left.join('; ')}`,
    )
    t.strictSame(left, [])
    t.strictSame(await offered(lab), before, 'the controller offers what it did before')
  })

  await t.test('another one of that name is another', async (t) => {
    await applyAll(lab, [namespaceManifest(NAMESPACE), ...pods()])
    await lab.waitForPods(NAMESPACE)
    await waitForCapture(lab, NAMESPACE, true)
    const address = await urlOf('far')
    for (const from of ['staying/client', 'staying/intruder', 'outside/client'])
      for (const url of [address, byService])
        t.equal((await get(lab, from, url)).pod, 'far', `${from} calls ${url}`)
    t.equal((await get(lab, `${NAMESPACE}/client`, 'http://far.staying/')).pod, 'far')
  })
})

type Past = ReadonlyMap<string, Running<Steady>>

/** What has nothing to do with the namespace: new connections and open ones, of each kind of pair. */
async function pastIt(t: Test, lab: Lab): Promise<Past> {
  const pairs = [
    ['across nodes', 'staying/client', 'far.staying'],
    ['on one node', 'staying/client', 'near.staying'],
    ['from outside the mesh', 'outside/client', 'far.staying'],
    ['to the outside', 'staying/client', await podAddress(lab, 'outside/client', 4)],
  ] as const
  const running = new Map<string, Running<Steady>>()
  for (const [what, pod, target] of pairs) {
    const each = start<Steady>(lab, pod, 'steady', target, TCP_PORTS.echo, HELD, ROUNDS_PER_PHASE)
    t.teardown(() => each.child.kill('SIGKILL'))
    running.set(what, each)
  }
  for (const each of running.values()) await each.said('steady')
  return running
}

function lastEnd(calls: readonly Call[]): number {
  return Math.max(...calls.map(({ endedAt }) => endedAt))
}

/** Both kinds of connections have had their rounds since the last phase. */
async function phase(past: Past, name: string): Promise<void> {
  for (const { child } of past.values()) child.stdin?.write(`${name}\n`)
  await Promise.all([...past.values()].map((each) => each.said(`done ${name}`)))
}
