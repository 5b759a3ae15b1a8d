// SPDX-License-Identifier: Apache-2.0
// The whole road: the Kubernetes API is watched, translated, and served over TLS into an agent's mesh state.

import { Server, ServerCredentials } from '@grpc/grpc-js'
import pino from 'pino'
import t, { type Test } from 'tap'
import { startDiscovery } from '../../controller/serve/discovery.ts'
import { watchCluster } from '../../controller/sources/watch-cluster.ts'
import type { ObjectProblem } from '../../controller/reading/object-reader.ts'
import { createKubeApi, ENDPOINT_SLICES, NODES, PODS, SERVICES } from '../../mesh/kube/index.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import { ok } from '../../mesh/result.ts'
import { meshSubscription, nodeSubscription } from '../../mesh/xds/mesh-subscription.ts'
import { XdsClient } from '../../mesh/xds/client.ts'
import { XDS_SERVER_OPTIONS } from '../../mesh/xds/server.ts'
import { Subscription } from '../../mesh/xds/subscription.ts'
import { AUTHORIZATION } from '../../mesh/xds/types/authorization.ts'
import { FaultyApi } from '../support/faulty-api.ts'
import { ip, podUid, serviceKey } from '../model/samples.ts'
import { Waiter } from '../support/waiter.ts'
import { makeFiles, makePki, NODE, silent, TOKEN } from '../xds/support.ts'
import { CONFIG, endpointOf, kubePod, kubeService, kubeSlice, ORIGIN } from './objects.ts'

const pki = await makePki()

async function startRoad(test: Test, kube: FaultyApi) {
  const problems: ObjectProblem[] = []
  const grpcServer = new Server(XDS_SERVER_OPTIONS)
  const discovery = startDiscovery({
    grpcServer,
    config: CONFIG,
    authenticate: () =>
      Promise.resolve(ok({ name: 'agent', role: 'agent' as const, node: 'node-a' })),
    logger: silent,
    onProblems: (found) => void problems.push(...found),
  })
  const credentials = ServerCredentials.createSsl(null, [
    { cert_chain: Buffer.from(pki.certificatePem), private_key: Buffer.from(pki.keyPem) },
  ])
  const port = await new Promise<number>((resolve, reject) =>
    grpcServer.bindAsync('127.0.0.1:0', credentials, (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    ),
  )
  const files = await makeFiles(pki.rootPem, TOKEN)
  const state = new MeshState()
  const waiter = new Waiter()
  state.subscribe(waiter.poke)
  let synced = false
  const policies: number[] = []
  const client = new XdsClient({
    address: `127.0.0.1:${port}`,
    roots: files.rootFile,
    node: NODE,
    logger: silent,
    subscriptions: [
      nodeSubscription((changes) => state.apply(changes)),
      meshSubscription((changes) => state.apply(changes)),
      new Subscription(AUTHORIZATION, '*', (resources) => void policies.push(resources.length)),
    ],
    onSynced: () => {
      synced = true
      waiter.poke()
    },
  })
  // The agent is there first, and waits.
  client.start()
  const cluster = watchCluster({
    api: createKubeApi(kube.access()),
    origin: ORIGIN,
    sources: discovery.sources,
    logger: silent,
  })
  void cluster.synced.then(discovery.complete)
  test.teardown(async () => {
    await client.stop()
    await cluster.close()
    discovery.stop()
    grpcServer.forceShutdown()
    await files.remove()
  })
  const until = (holds: () => boolean) => waiter.until(holds)
  return { state, until, problems, policies, isSynced: () => synced }
}

void t.test('a cluster’s objects reach the agent, and so does each change of them', async (t) => {
  const kube = new FaultyApi()
  await kube.start()
  t.teardown(() => kube.stop())
  kube.put(NODES, {
    metadata: { name: 'node-a', labels: { 'topology.kubernetes.io/zone': 'z1' } },
    status: {
      addresses: [
        { type: 'InternalIP', address: '172.30.0.2' },
        { type: 'Hostname', address: 'node-a' },
      ],
    },
  })
  const ports = [{ name: 'http', port: 80, nodePort: 30_080 }]
  kube.put(SERVICES, kubeService('catalog', { type: 'NodePort', ports }))
  kube.put(PODS, kubePod('catalog-1'))
  const list = (...pods: readonly string[]) =>
    kube.put(
      ENDPOINT_SLICES,
      kubeSlice(
        'catalog-1',
        'catalog',
        pods.map((name) => endpointOf(kubePod(name))),
      ),
    )
  list('catalog-1')
  const road = await startRoad(t, kube)
  await road.until(road.isSynced)
  const key = serviceKey('shop', 'catalog')
  t.equal(
    road.state.findService({ address: ip('10.96.0.50'), port: 80 }, 'shop')?.service?.key,
    key,
  )
  t.equal(road.state.findWorkload(ip('10.244.0.1'))?.locality.zone, 'z1')
  t.equal(road.state.endpoints(key).length, 1)
  t.match(road.state.findService({ address: ip('172.30.0.2'), port: 30_080 }, 'shop'), {
    service: { key },
    servicePort: 80,
    by: 'nodePort',
  })
  t.strictSame(road.policies, [0], 'policies are answered, too: there are none')

  // The agent's enrolment of the pod, as the controller sees it.
  const enrolled = kubePod('catalog-1', {
    annotations: { 'ambient.istio.io/redirection': 'enabled' },
  })
  kube.put(PODS, enrolled)
  await road.until(
    () => road.state.workload(podUid('shop', 'catalog-1'))?.tunnelProtocol === 'hbone',
  )

  // The pod goes and another gets its address.
  kube.put(PODS, kubePod('catalog-2'))
  list('catalog-2')
  kube.remove(PODS, 'shop/catalog-1')
  await road.until(() => road.state.workload(podUid('shop', 'catalog-1')) === undefined)
  t.equal(road.state.findWorkload(ip('10.244.0.1'))?.name, 'catalog-2')
  t.strictSame(
    road.state.endpoints(key).map(({ name }) => name),
    ['catalog-2'],
  )
  kube.remove(SERVICES, 'shop/catalog')
  await road.until(() => road.state.size.services === 0)
  t.strictSame(road.state.workload(podUid('shop', 'catalog-2'))?.services, new Map())
  t.strictSame(road.problems, [])
})

void t.test('a flawed object is reported and the others go on', async (t) => {
  const kube = new FaultyApi()
  await kube.start()
  t.teardown(() => kube.stop())
  const road = await startRoad(t, kube)
  await road.until(road.isSynced)
  kube.put(ENDPOINT_SLICES, kubeSlice('bad', 'catalog', [{ addresses: ['nowhere'] }]))
  kube.put(PODS, kubePod('odd', { status: { phase: 'Running', podIPs: [{ ip: '300.1.1.1' }] } }))
  kube.put(PODS, kubePod('good'))
  await road.until(() => road.state.workload(podUid('shop', 'good')) !== undefined)
  t.equal(road.state.workload(podUid('shop', 'odd')), undefined)
  const flaws = () => road.problems.map(({ name, field }) => `${name} ${field}`)
  t.ok(flaws().includes('odd status.podIPs[0].ip'))
})

void t.test(
  'changes made while the watch was broken and forgotten arrive with the next list',
  async (t) => {
    const kube = new FaultyApi()
    await kube.start()
    t.teardown(() => kube.stop())
    for (const name of ['stays', 'goes']) kube.put(PODS, kubePod(name))
    const road = await startRoad(t, kube)
    await road.until(road.isSynced)
    t.equal(road.state.size.workloads, 2)
    kube.unheard(() => {
      kube.remove(PODS, 'shop/goes')
      kube.put(PODS, kubePod('comes'))
    })
    kube.compact()
    kube.endWatches(PODS)
    await road.until(() => road.state.workload(podUid('shop', 'goes')) === undefined)
    await road.until(() => road.state.workload(podUid('shop', 'comes')) !== undefined)
    t.equal(road.state.size.workloads, 2)
  },
)

void t.test('objects that are flawed on purpose do not fill the log', (t) => {
  const lines: string[] = []
  const { sources, stop } = startDiscovery({
    grpcServer: new Server(),
    config: CONFIG,
    authenticate: () => Promise.reject(new Error('nobody calls')),
    logger: pino({ level: 'warn' }, { write: (line) => void lines.push(line) }),
    // Time stands still: no line comes back while the test runs, however slowly.
    now: () => 0,
  })
  t.teardown(stop)
  const endpoints = Array.from({ length: 1000 }, () => ({ addresses: ['x'.repeat(10_000)] }))
  const wish = { 'networking.istio.io/traffic-distribution': 'y'.repeat(100_000) }
  for (let count = 0; count < 200; count += 1) {
    const slice = kubeSlice('catalog-1', 'catalog', endpoints)
    sources.put('EndpointSlice', sources.read('EndpointSlice', slice, ORIGIN))
    const service = kubeService('catalog', {}, { annotations: wish })
    sources.put('Service', sources.read('Service', service, ORIGIN))
  }
  const longest = Math.max(...lines.map((line) => line.length))
  t.ok(longest < 20_000, `a line of ${longest} characters`)
  t.equal(lines.length, 100, 'for 400 objects')
  t.match(lines[0], /no more are told/)
  t.end()
})
