// SPDX-License-Identifier: Apache-2.0
// The whole controller against the lab's API server: what an agent, an operator and a kubelet see of it.

import t from 'tap'
import { X509Certificate } from 'node:crypto'
import type { RunningController } from '../../controller/controller.ts'
import { CONFIG_MAPS, PODS, SECRETS } from '../../mesh/kube/index.ts'
import { until } from '../support/until.ts'
import { runController } from './controller-process.ts'
import { follow } from './follow.ts'
import { expectOk, smallCluster } from './small-cluster.ts'

const CATALOG = 'spiffe://cluster.local/ns/shop/sa/catalog'
const ROOT = { name: 'istio-ca-root-cert' }

async function http(
  controller: RunningController,
  path: string,
): Promise<{ status: number; text: string }> {
  const answer = await fetch(`http://127.0.0.1:${controller.healthPort}${path}`)
  return { status: answer.status, text: await answer.text() }
}

function becomesReady(controller: RunningController): Promise<void> {
  return until(async () => (await http(controller, '/readyz')).status === 200, 'readiness')
}

void t.test('an agent gets the mesh and its certificates from a fresh controller', async (t) => {
  const cluster = await smallCluster(t)
  const agent = await cluster.pod('ambit-system', 'agent-b', 'ambit-agent', 'node-b')
  const catalog = await cluster.pod('shop', 'catalog', 'catalog', 'node-b')
  const elsewhere = await cluster.pod('shop', 'frontend', 'frontend', 'node-a')
  const controller = await cluster.controller()
  const token = await cluster.tokenFile(agent)
  t.match(await cluster.ask(controller, token, CATALOG), { ok: true })
  t.match(await cluster.ask(controller, token, 'spiffe://cluster.local/ns/shop/sa/frontend'), {
    ok: false,
    error: { kind: 'denied', message: /no pod .* runs on node node-b/ },
  })
  t.match(await cluster.ask(controller, await cluster.tokenFile(elsewhere), CATALOG), {
    ok: false,
    error: { kind: 'denied', message: /may not ask for the identity of others/ },
  })

  const followed = follow(t, cluster, controller, token)
  await followed.synced
  t.ok(
    followed.changes.some(
      (change) => change.kind === 'workload' && change.workload.uid.includes('shop/catalog'),
    ),
    'discovery tells of the catalog pod',
  )
  const stranger = follow(t, cluster, controller, await cluster.tokenFile(catalog))
  t.match(await stranger.refused, /no component of the mesh/, 'workloads may not read the mesh')

  await becomesReady(controller)
  t.equal((await http(controller, '/healthz')).status, 200)
  // The operator on the machine sees who is connected, and that what was offered is what was told.
  const admin = await fetch(`http://127.0.0.1:${controller.adminPort}/status`)
  t.match(await admin.json(), {
    podName: 'replica',
    pending: [],
    clients: [{ isAnswered: true, waiting: 0 }],
    resources: {
      'type.googleapis.com/istio.workload.Address': { count: followed.changes.length },
    },
  })
  const metrics = await http(controller, '/metrics')
  t.match(metrics.text, /ambit_controller_certificate_requests_total\{outcome="issued"\} 1/)
  t.match(metrics.text, /ambit_controller_certificate_requests_total\{outcome="denied"\} 2/)

  const audit = async (query: string): Promise<Response> =>
    fetch(`http://127.0.0.1:${controller.adminPort}/audit${query}`)
  const lines = (await (await audit('?namespace=shop')).text()).trimEnd().split('\n')
  t.same(lines, cluster.audit, 'the audit is in the log, and is read from the administrators’ port')
  t.match(
    lines.map((line) => JSON.parse(line) as unknown),
    [
      {
        audit: 'certificate.issued',
        who: 'ambit-system/ambit-agent',
        pod: 'agent-b',
        what: CATALOG,
        serial: /^[0-9a-f]{32}$/,
      },
      { audit: 'certificate.refused', reason: 'denied', why: /no pod .* runs on node node-b/ },
      { audit: 'certificate.refused', who: 'shop/frontend', what: CATALOG },
    ],
  )
  t.equal((await http(controller, '/audit')).status, 404, 'not from the port that pods reach')
  t.equal((await audit('?since=yesterday')).status, 400)
  t.equal(await (await audit('?since=2999-01-01T00:00:00Z')).text(), '')
})

void t.test('the root is published in each namespace, and put right when touched', async (t) => {
  const cluster = await smallCluster(t)
  const controller = await cluster.controller()
  const isRight = (map: { data?: Record<string, string> }): boolean =>
    map.data?.['root-cert.pem'] === controller.rootsPem
  for (const namespace of ['ambit-system', 'shop', 'default', 'kube-system'])
    t.ok(await cluster.publishedRoot(namespace, isRight), namespace)
  t.equal(new X509Certificate(controller.rootsPem).ca, true)

  await cluster.namespace('newcomer')
  t.ok(await cluster.publishedRoot('newcomer', isRight), 'a new namespace')

  const target = { namespace: 'shop', ...ROOT }
  const edit = { data: { 'root-cert.pem': 'tampered' } }
  expectOk(await cluster.admin.patch(CONFIG_MAPS, target, edit))
  t.ok(await cluster.publishedRoot('shop', isRight), 'an edited one is repaired')
  const before = expectOk(await cluster.admin.get(CONFIG_MAPS, target))
  expectOk(await cluster.admin.delete(CONFIG_MAPS, target))
  const after = await cluster.publishedRoot(
    'shop',
    (map) => isRight(map) && map.metadata?.uid !== before.metadata?.uid,
  )
  t.not(after.metadata?.uid, before.metadata?.uid, 'a deleted one is made again')
})

void t.test('two replicas share one root and one leader, and the second takes over', async (t) => {
  const cluster = await smallCluster(t)
  const [first, second] = await Promise.all([
    cluster.controller({ podName: 'one' }),
    cluster.controller({ podName: 'two' }),
  ])
  t.equal(first.rootsPem, second.rootsPem)
  // Only a leader publishes.
  await cluster.publishedRoot('shop', () => true)
  t.equal([first, second].filter((each) => each.isLeader).length, 1)
  const [leader, other] = first.isLeader ? [first, second] : [second, first]
  await leader.stop()
  const target = { namespace: 'shop', ...ROOT }
  const edit = { data: { 'root-cert.pem': 'tampered' } }
  expectOk(await cluster.admin.patch(CONFIG_MAPS, target, edit))
  const isRight = (map: { data?: Record<string, string> }): boolean =>
    map.data?.['root-cert.pem'] === other.rootsPem
  t.ok(await cluster.publishedRoot('shop', isRight))
  t.equal(other.isLeader, true)
})

void t.test('while the API server is away, what is known goes on and the rest waits', async (t) => {
  const cluster = await smallCluster(t)
  const agent = await cluster.pod('ambit-system', 'agent-b', 'ambit-agent', 'node-b')
  await cluster.pod('shop', 'catalog', 'catalog', 'node-b')
  const controller = await cluster.controller()
  await becomesReady(controller)
  const token = await cluster.tokenFile(agent)
  t.match(await cluster.ask(controller, token, CATALOG), { ok: true })
  cluster.proxy.cut()
  t.match(await cluster.ask(controller, token, CATALOG), { ok: true }, 'from memory')
  const unknown = 'spiffe://cluster.local/ns/shop/sa/newer'
  t.match(await cluster.ask(controller, token, unknown), {
    ok: false,
    error: { kind: 'unavailable' },
  })
  t.equal((await http(controller, '/readyz')).status, 200, 'still ready')
  const followed = follow(t, cluster, controller, token)
  await followed.synced
  t.ok(followed.changes.length > 0, 'discovery serves its last state')
  await cluster.pod('shop', 'newer', 'newer', 'node-b')
  cluster.proxy.mend()
  t.match(await cluster.ask(controller, token, unknown), { ok: true }, 'and all is well again')
})

void t.test('broken watches and a forgotten history lose no pod', async (t) => {
  const cluster = await smallCluster(t)
  const agent = await cluster.pod('ambit-system', 'agent-b', 'ambit-agent', 'node-b')
  const controller = await cluster.controller()
  await becomesReady(controller)
  const token = await cluster.tokenFile(agent)
  const told = Promise.withResolvers<void>()
  const followed = follow(t, cluster, controller, token, (change) => {
    if (change.kind === 'workload' && change.workload.uid.includes('shop/unseen')) told.resolve()
  })
  await followed.synced
  // While the controller cannot watch, a pod comes, and the server forgets what it would have told.
  cluster.proxy.cut()
  await cluster.pod('shop', 'unseen', 'unseen', 'node-b')
  cluster.server.compact()
  cluster.proxy.mend()
  await told.promise
  t.ok(cluster.server.breakWatches() > 0)
  const identity = 'spiffe://cluster.local/ns/shop/sa/unseen'
  t.match(await cluster.ask(controller, token, identity), { ok: true })
})

void t.test('an agent whose pod was deleted gets nothing more', async (t) => {
  const cluster = await smallCluster(t)
  const agent = await cluster.pod('ambit-system', 'agent-b', 'ambit-agent', 'node-b')
  await cluster.pod('shop', 'catalog', 'catalog', 'node-b')
  const controller = await cluster.controller()
  const token = await cluster.tokenFile(agent)
  const target = { namespace: 'ambit-system', name: 'agent-b' }
  expectOk(await cluster.admin.delete(PODS, target, { gracePeriodSeconds: 0 }))
  t.match(await cluster.ask(controller, token, CATALOG), { ok: false, error: { kind: 'denied' } })
})

void t.test('the process ends with 0 on SIGTERM and gives its lease back', async (t) => {
  const cluster = await smallCluster(t)
  const controller = runController(t, cluster)
  await controller.logged('became the leader')
  await cluster.publishedRoot('shop', () => true)
  controller.process.kill('SIGTERM')
  t.same(await controller.exit, [0, null])
  await cluster.controller({ podName: 'successor' }).then(async (successor) => {
    await becomesReady(successor)
  })
  t.match(controller.output(), /"msg":"stopped"/)
})

void t.test(
  'a broken root Secret ends the process with an error that names the field',
  async (t) => {
    const cluster = await smallCluster(t)
    const secret = { namespace: 'ambit-system', name: 'ambit-ca-secret' }
    const data = { 'ca-cert.pem': Buffer.from('x').toString('base64') }
    expectOk(await cluster.admin.create(SECRETS, { metadata: secret, data }))
    const controller = runController(t, cluster)
    t.same(await controller.exit, [1, null])
    t.match(
      controller.output(),
      /AMB_CA_SECRET.*ambit-system\/ambit-ca-secret: data\[\\"ca-key.pem\\"\]: is missing/,
    )
    t.same(expectOk(await cluster.admin.get(SECRETS, secret)).data, data, 'and stays as it is')
  },
)

void t.test('a taken port is an error that names the address', async (t) => {
  const cluster = await smallCluster(t)
  const first = await cluster.controller()
  for (const config of [
    { listen: { host: '127.0.0.1', port: first.grpcPort } },
    { healthAddress: { host: '127.0.0.1', port: first.healthPort } },
  ])
    await t.rejects(cluster.controller(config), {
      code: 'AMB_LISTEN',
      message: /Cannot listen on 127\.0\.0\.1.*EADDRINUSE/,
    })
})

void t.test(
  'started without an API server it lives, is not ready, and starts when there is one',
  async (t) => {
    const cluster = await smallCluster(t)
    cluster.proxy.cut()
    const controller = runController(t, cluster)
    await controller.logged('waiting for the API server')
    cluster.proxy.mend()
    await controller.logged('controller started')
    controller.process.kill('SIGTERM')
    t.same(await controller.exit, [0, null])
  },
)
