// SPDX-License-Identifier: Apache-2.0
// From a Gateway to a waypoint: what the leader makes of it, what it leaves alone, and what statuses say meanwhile.

import t from 'tap'
import {
  CONFIG_MAPS,
  DEPLOYMENTS,
  GATEWAY_CLASSES,
  GATEWAYS,
  type KubeObject,
  NAMESPACES,
  POD_DISRUPTION_BUDGETS,
  PODS,
  SERVICE_ACCOUNTS,
  SERVICES,
} from '../../mesh/kube/index.ts'
import { gatewayClass } from '../gateway-api/gateway-objects.ts'
import { until } from '../support/until.ts'
import { createWaypoint, gatewayCluster, object } from './gateway-cluster.ts'
import { expectOk } from './small-cluster.ts'

const NAME = 'gateway.networking.k8s.io/gateway-name'

/** The conditions in an object's text, in short. */
const says = (type: string, status: string, reason: string) => (text: string) => {
  const { status: said } = JSON.parse(text) as {
    status?: { conditions?: { type: string; status: string; reason: string }[] }
  }
  return (said?.conditions ?? []).some(
    (each) => each.type === type && each.status === status && each.reason === reason,
  )
}

void t.test(
  'a Gateway of our class becomes a waypoint, and says so when a pod is ready',
  async (t) => {
    const cluster = await gatewayCluster(t)
    const accepted = says('Accepted', 'True', 'Accepted')
    await object(cluster, GATEWAY_CLASSES, 'ambit-waypoint', accepted)
    await object(cluster, GATEWAY_CLASSES, 'istio-waypoint', accepted)
    await createWaypoint(cluster, 'w')
    await object(cluster, DEPLOYMENTS, 'w')
    const service = await object(cluster, SERVICES, 'w', (text) =>
      text.includes('"clusterIP":"10.'),
    )
    const { clusterIP } = (service as { spec: { clusterIP: string } }).spec
    await object(cluster, GATEWAYS, 'w', says('Programmed', 'False', 'Pending'))

    const labels = { 'istio.io/use-waypoint': 'w' }
    expectOk(await cluster.admin.patch(NAMESPACES, { name: 'shop' }, { metadata: { labels } }))
    const catalog = {
      metadata: { namespace: 'shop', name: 'catalog' },
      spec: { ports: [{ name: 'http', port: 80 }] },
    }
    expectOk(await cluster.admin.create(SERVICES, catalog))
    await object(
      cluster,
      SERVICES,
      'catalog',
      says('istio.io/WaypointBound', 'False', 'WaypointIsNotReady'),
    )

    await cluster.pod('shop', 'w-1', 'w', 'node-b')
    const target = { namespace: 'shop', name: 'w-1' }
    expectOk(await cluster.admin.patch(PODS, target, { metadata: { labels: { [NAME]: 'w' } } }))
    const ready = { status: { conditions: [{ type: 'Ready', status: 'True' }] } }
    expectOk(await cluster.admin.patch(PODS, target, ready, { subresource: 'status' }))
    const gateway = await object(cluster, GATEWAYS, 'w', says('Programmed', 'True', 'Programmed'))
    t.match(gateway, {
      status: {
        addresses: [{ type: 'IPAddress', value: clusterIP }],
        listeners: [{ name: 'mesh', attachedRoutes: 0, supportedKinds: [{}, {}, {}, {}] }],
      },
    })
    await object(
      cluster,
      SERVICES,
      'catalog',
      says('istio.io/WaypointBound', 'True', 'WaypointAccepted'),
    )

    expectOk(
      await cluster.admin.patch(
        NAMESPACES,
        { name: 'shop' },
        {
          metadata: { labels: { 'istio.io/use-waypoint': null } },
        },
      ),
    )
    await object(cluster, SERVICES, 'catalog', (text) => !text.includes('WaypointBound'))
  },
)

void t.test('what somebody changes or deletes of a waypoint comes right again', async (t) => {
  const cluster = await gatewayCluster(t)
  await createWaypoint(cluster, 'w')
  await object(cluster, DEPLOYMENTS, 'w')
  const target = { namespace: 'shop', name: 'w' }
  const theirs = {
    spec: { strategy: { type: 'Recreate', rollingUpdate: null }, minReadySeconds: 7 },
  }
  expectOk(await cluster.admin.patch(DEPLOYMENTS, target, theirs))
  const right = await object(cluster, DEPLOYMENTS, 'w', (text) => text.includes('RollingUpdate'))
  t.match(right, { spec: { minReadySeconds: 7 } }, 'what we say nothing of stays theirs')
  expectOk(await cluster.admin.delete(DEPLOYMENTS, target))
  const { uid } = right.metadata ?? {}
  await object(cluster, DEPLOYMENTS, 'w', (text) => !text.includes(uid ?? ''))

  const parametersRef = { group: '', kind: 'ConfigMap', name: 'p' }
  const spec = { infrastructure: { labels: { team: 'red' }, parametersRef } }
  expectOk(await cluster.admin.patch(GATEWAYS, target, { spec }))
  await object(cluster, GATEWAYS, 'w', says('Programmed', 'False', 'Invalid'))
  const parameters = (deployment: string) => ({
    metadata: { namespace: 'shop', name: 'p' },
    data: { deployment },
  })
  expectOk(await cluster.admin.create(CONFIG_MAPS, parameters('spec: {replicas: 2}')))
  await object(
    cluster,
    DEPLOYMENTS,
    'w',
    (text) => /"replicas":2.*/.test(text) && text.includes('red'),
  )
  await object(cluster, POD_DISRUPTION_BUDGETS, 'w')
  expectOk(await cluster.admin.update(CONFIG_MAPS, parameters('spec: {replicas: 1}')))
  await until(async () => {
    const budget = await cluster.admin.get(POD_DISRUPTION_BUDGETS, target)
    return !budget.ok && budget.error.kind === 'notFound'
  }, 'the end of the budget that nobody asks for any more')
})

void t.test(
  'what was made of a Gateway goes when that is given to another controller',
  async (t) => {
    const cluster = await gatewayCluster(t)
    const parametersRef = { group: '', kind: 'ConfigMap', name: 'p' }
    const parameters = {
      metadata: { namespace: 'shop', name: 'p' },
      data: { deployment: 'spec: {replicas: 2}' },
    }
    expectOk(await cluster.admin.create(CONFIG_MAPS, parameters))
    await createWaypoint(cluster, 'w', { infrastructure: { parametersRef } })
    await createWaypoint(cluster, 'stays')
    const kinds = [POD_DISRUPTION_BUDGETS, DEPLOYMENTS, SERVICES, SERVICE_ACCOUNTS]
    for (const kind of kinds) await object(cluster, kind, 'w')
    await object(cluster, DEPLOYMENTS, 'stays')
    const ofClass = async (gatewayClassName: string): Promise<void> => {
      const target = { namespace: 'shop', name: 'w' }
      expectOk(await cluster.admin.patch(GATEWAYS, target, { spec: { gatewayClassName } }))
    }

    // Nobody's: what there is stays, and when the class comes it is theirs.
    await ofClass('theirs')
    expectOk(await cluster.admin.create(DEPLOYMENTS, unmanaged('others')))
    const theirs = gatewayClass('theirs', 'example.com/gateways')
    const before = expectOk(
      await cluster.admin.get<KubeObject>(DEPLOYMENTS, { namespace: 'shop', name: 'w' }),
    )
    t.ok(before.metadata?.uid)
    expectOk(await cluster.admin.create(GATEWAY_CLASSES, theirs as KubeObject))
    for (const kind of kinds)
      await until(async () => {
        const found = await cluster.admin.get(kind, { namespace: 'shop', name: 'w' })
        return !found.ok && found.error.kind === 'notFound'
      }, `the end of the ${kind.kind}`)
    await object(cluster, DEPLOYMENTS, 'stays')
    await object(cluster, DEPLOYMENTS, 'others')

    await ofClass('ambit-waypoint')
    for (const kind of kinds) await object(cluster, kind, 'w')
    t.pass('and comes again with it')
  },
)

/** A Deployment that was made of no Gateway. */
function unmanaged(name: string): KubeObject {
  const template = {
    metadata: { labels: { app: name } },
    spec: { containers: [{ name: 'app', image: 'host' }] },
  }
  return {
    metadata: { namespace: 'shop', name },
    spec: { selector: { matchLabels: { app: name } }, template },
  } as KubeObject
}

void t.test(
  "a Deployment of somebody else's is left alone, and the Gateway names it",
  async (t) => {
    const cluster = await gatewayCluster(t)
    const before = expectOk(await cluster.admin.create(DEPLOYMENTS, unmanaged('w')))
    await createWaypoint(cluster, 'w')
    await object(cluster, GATEWAYS, 'w', (text) =>
      /Deployment shop\/w .*is not of this Gateway/.test(text),
    )
    const after = expectOk(await cluster.admin.get(DEPLOYMENTS, { namespace: 'shop', name: 'w' }))
    t.equal(after.metadata?.resourceVersion, before.metadata?.resourceVersion)
  },
)
