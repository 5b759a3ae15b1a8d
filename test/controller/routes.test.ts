// SPDX-License-Identifier: Apache-2.0
// From a route to its status, on a cluster: what is said at each of its parents, and what follows when Services, waypoints and grants change.

import t from 'tap'
import { GATEWAY_CLASSES, HTTP_ROUTES, REFERENCE_GRANTS, SERVICES } from '../../mesh/kube/index.ts'
import { HBONE_LISTENER, gatewayClass } from '../gateway-api/gateway-objects.ts'
import { backend, serviceParent } from '../gateway-api/route-objects.ts'
import { createWaypoint, gatewayCluster, object } from './gateway-cluster.ts'
import { expectOk, type SmallCluster } from './small-cluster.ts'

const OURS = 'ambit.io/waypoint-controller'

interface Parent {
  readonly parentRef: { readonly name: string }
  readonly controllerName: string
  readonly conditions: readonly Readonly<Record<'type' | 'status' | 'reason', string>>[]
}

/** What our controller says at each parent in a route's text. */
function saidIn(text: string): readonly string[] {
  const { status } = JSON.parse(text) as { status?: { parents?: readonly Parent[] } }
  return (status?.parents ?? [])
    .filter(({ controllerName }) => controllerName === OURS)
    .map(({ parentRef, conditions }) => {
      const said = conditions.map(({ type, status: is, reason }) => `${type}=${is}/${reason}`)
      return [`${parentRef.name}:`, ...said.map((each) => shorten(each))].join(' ')
    })
}

const shorten = (condition: string): string => condition.replace(/^(\w+)=True\/\1$/, '$1')

const says =
  (...expected: readonly string[]) =>
  (text: string): boolean =>
    JSON.stringify(saidIn(text)) === JSON.stringify(expected)

async function service(cluster: SmallCluster, name: string, labels = {}): Promise<void> {
  const metadata = { namespace: 'shop', name, labels }
  const spec = { ports: [{ name: 'http', port: 80 }] }
  expectOk(await cluster.admin.create(SERVICES, { metadata, spec }))
}

/** A route of the mesh with one rule. */
async function route(
  cluster: SmallCluster,
  namespace: string,
  name: string,
  parentRefs: readonly object[],
  backendRefs: readonly object[],
): Promise<void> {
  const metadata = { namespace, name }
  const spec = { parentRefs, rules: [{ backendRefs }] }
  expectOk(await cluster.admin.create(HTTP_ROUTES, { metadata, spec }))
}

void t.test("a route's status says at each parent who does what it says", async (t) => {
  const cluster = await gatewayCluster(t)
  await createWaypoint(cluster, 'w')
  const { metadata: _own, ...others } = gatewayClass('other', 'a.test/other')
  expectOk(await cluster.admin.create(GATEWAY_CLASSES, { ...others, metadata: { name: 'other' } }))
  await createWaypoint(cluster, 'theirs', { gatewayClassName: 'other' })
  await service(cluster, 'catalog', { 'istio.io/use-waypoint': 'w' })
  await service(cluster, 'foreign', { 'istio.io/use-waypoint': 'theirs' })
  await service(cluster, 'plain')

  await route(cluster, 'shop', 'own', [serviceParent('catalog')], [backend('plain')])
  const whole = 'Accepted ResolvedRefs ResolvedWaypoints'
  await object(cluster, HTTP_ROUTES, 'own', says(`catalog: ${whole}`))

  const both = [serviceParent('foreign'), serviceParent('catalog')]
  await route(cluster, 'shop', 'both', both, [backend('plain')])
  const ofBoth = await object(cluster, HTTP_ROUTES, 'both', says(`catalog: ${whole}`))
  t.match(
    ofBoth,
    { status: { parents: [{ parentRef: { name: 'catalog' } }] } },
    "nothing is said where a waypoint of somebody else's class is in charge",
  )

  await route(cluster, 'shop', 'early', [serviceParent('plain')], [backend('gone')])
  const early = 'Accepted ResolvedRefs=False/BackendNotFound'
  const without = `plain: ${early} ResolvedWaypoints=False/MissingUseWaypointLabel`
  await object(cluster, HTTP_ROUTES, 'early', says(without))
  await service(cluster, 'gone')
  const labels = { 'istio.io/use-waypoint': 'w' }
  const plain = { namespace: 'shop', name: 'plain' }
  expectOk(await cluster.admin.patch(SERVICES, plain, { metadata: { labels } }))
  await object(cluster, HTTP_ROUTES, 'early', says(`plain: ${whole}`))
})

void t.test(
  "a consumer's route is accepted, whoever runs the waypoint, and sends where it is let",
  async (t) => {
    const cluster = await gatewayCluster(t)
    await cluster.namespace('front')
    await createWaypoint(cluster, 'w')
    const listeners = [{ ...HBONE_LISTENER, allowedRoutes: { namespaces: { from: 'All' } } }]
    await createWaypoint(cluster, 'fw', { listeners }, 'front')
    await service(cluster, 'catalog', { 'istio.io/use-waypoint': 'w' })
    await service(cluster, 'cart', {
      'istio.io/use-waypoint': 'fw',
      'istio.io/use-waypoint-namespace': 'front',
    })
    const shop = { namespace: 'shop' }

    await route(cluster, 'front', 'late', [serviceParent('catalog', shop)], [])
    const whole = 'catalog: Accepted ResolvedRefs ResolvedWaypoints'
    await object(cluster, HTTP_ROUTES, 'late', says(whole), 'front')

    const parents = [serviceParent('cart', shop)]
    const refs = [backend('cart', shop), backend('catalog', shop)]
    await route(cluster, 'front', 'consumer', parents, refs)
    const refusedRef = 'cart: Accepted ResolvedRefs=False/RefNotPermitted ResolvedWaypoints'
    const refusal = await object(cluster, HTTP_ROUTES, 'consumer', says(refusedRef), 'front')
    const text = JSON.stringify(refusal)
    t.match(text, /backendRefs\[1\] names Service/, 'its own parent needs no grant')
    t.notMatch(text, /backendRefs\[0\] names/)
    const group = 'gateway.networking.k8s.io'
    const grant = {
      metadata: { ...shop, name: 'g' },
      spec: {
        from: [{ group, kind: 'HTTPRoute', namespace: 'front' }],
        to: [{ group: '', kind: 'Service', name: 'catalog' }],
      },
    }
    const given = 'cart: Accepted ResolvedRefs ResolvedWaypoints'
    for (const version of ['v1', 'v1beta1']) {
      const resource = { ...REFERENCE_GRANTS, version }
      expectOk(await cluster.admin.create(resource, grant))
      await object(cluster, HTTP_ROUTES, 'consumer', says(given), 'front')
      expectOk(await cluster.admin.delete(resource, { ...shop, name: 'g' }))
      await object(cluster, HTTP_ROUTES, 'consumer', says(refusedRef), 'front')
    }
  },
)
