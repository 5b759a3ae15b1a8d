// SPDX-License-Identifier: Apache-2.0
// `ambit waypoint`: what it asks of a cluster, what it says of it, and where it refuses. The controller's part is played by the test.

import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { waypointTable } from '../../cli/tables/waypoints.ts'
import { namespaceStanding, requireFree } from '../../cli/waypoint/enrol-namespace.ts'
import { readWaypoints, requireOurs } from '../../cli/waypoint/read-waypoints.ts'
import { waypointGateway } from '../../cli/waypoint/waypoint-gateway.ts'
import {
  isProgrammed,
  waypointReport,
  whyNotProgrammed,
} from '../../cli/waypoint/waypoint-report.ts'
import { applyManifests } from '../../lab/cluster/apply.ts'
import { absentKinds } from '../../lab/cluster/mesh.ts'
import {
  GATEWAY_CLASSES,
  GATEWAYS,
  NAMESPACES,
  PODS,
  SERVICES,
  watchResource,
} from '../../mesh/kube/index.ts'
import { expectOk, log, type SmallCluster, smallCluster } from '../controller/small-cluster.ts'

const MAIN = fileURLToPath(new URL('../../cli/main.ts', import.meta.url))

interface Ran {
  readonly code: number
  readonly out: string
  readonly err: string
}

/** Runs `ambit waypoint` there. */
async function waypoint({ kubeconfig }: SmallCluster, ...args: readonly string[]): Promise<Ran> {
  return await new Promise((resolve) => {
    const env = { PATH: process.env.PATH, KUBECONFIG: kubeconfig }
    execFile(
      process.execPath,
      [MAIN, 'waypoint', ...args],
      { env, timeout: 30_000 },
      (error, out, err) =>
        resolve({
          code: typeof error?.code === 'number' ? error.code : error === null ? 0 : -1,
          out,
          err,
        }),
    )
  })
}

async function clusterWithKinds(t: Parameters<typeof smallCluster>[0]): Promise<SmallCluster> {
  const cluster = await smallCluster(t)
  await applyManifests(cluster.admin, await absentKinds(cluster.admin))
  return cluster
}

/** Says of each Gateway that comes what a controller says in the end. */
function playController(
  t: { teardown(fn: () => Promise<void>): void },
  { admin }: SmallCluster,
  isReady: boolean,
): void {
  const watch = watchResource(admin, GATEWAYS, {
    logger: log,
    added: ({ metadata }) => {
      const { namespace = '', name = '', generation = 0 } = metadata ?? {}
      const condition = (type: string, is: boolean, reason: string, message: string) => ({
        type,
        status: is ? 'True' : 'False',
        reason,
        message,
        observedGeneration: generation,
        lastTransitionTime: new Date(0).toISOString(),
      })
      const status = {
        addresses: isReady ? [{ type: 'IPAddress', value: '10.96.0.9' }] : [],
        conditions: [
          condition('Accepted', true, 'Accepted', 'it is a waypoint'),
          isReady
            ? condition('Programmed', true, 'Programmed', 'a pod is ready')
            : condition('Programmed', false, 'Pending', 'no pod of it is ready.'),
        ],
      }
      const target = { namespace, name }
      void admin.patch(GATEWAYS, target, { status }, { subresource: 'status' })
    },
  })
  t.teardown(() => watch.close())
}

const labelsOf = async ({ admin }: SmallCluster, name: string) =>
  expectOk(await admin.get(NAMESPACES, { name })).metadata?.labels ?? {}

void t.test('apply makes a waypoint, waits for it, and binds the namespace to it', async (t) => {
  const cluster = await clusterWithKinds(t)
  playController(t, cluster, true)
  const args = ['-n', 'shop', '--for', 'all', '--enroll-namespace', '--wait'] as const
  t.strictSame(await waypoint(cluster, 'apply', ...args), {
    code: 0,
    out: [
      'waypoint shop/waypoint applied',
      'waypoint shop/waypoint is ready',
      'namespace shop uses waypoint waypoint',
      'namespace shop is not in the mesh: kubectl label namespace shop istio.io/dataplane-mode=ambient\n',
    ].join('\n'),
    err: '',
  })
  const { metadata, spec } = expectOk(
    await cluster.admin.get(GATEWAYS, { namespace: 'shop', name: 'waypoint' }),
  )
  t.match(metadata?.labels, { 'istio.io/waypoint-for': 'all' })
  t.match(spec, {
    gatewayClassName: 'ambit-waypoint',
    listeners: [{ port: 15008, protocol: 'HBONE' }],
  })
  t.match(await labelsOf(cluster, 'shop'), { 'istio.io/use-waypoint': 'waypoint' })

  const [report] = (await readWaypoints(cluster.admin, undefined)).map(waypointReport)
  if (report === undefined) throw new Error('the waypoint is not among those of the cluster')
  t.strictSame(waypointTable([report]).rows, [
    ['shop', 'waypoint', 'ambit-waypoint', '10.96.0.9', 'True'],
  ])
  t.match(await waypoint(cluster, 'delete', '--all', '-n', 'shop'), {
    code: 0,
    out: /^waypoint shop\/waypoint deleted\nnamespace shop still uses waypoint waypoint, so that/,
  })
  t.strictSame(await readWaypoints(cluster.admin, 'shop'), [])
})

void t.test(
  'who deletes a waypoint is told who names it still, and what comes of it',
  async (t) => {
    const cluster = await clusterWithKinds(t)
    playController(t, cluster, true)
    const { admin } = cluster
    const make = async (namespace: string, name: string, labels: Record<string, string>) => {
      const ports = [{ port: 80 }]
      const metadata = { namespace, name, labels }
      expectOk(await admin.create(SERVICES, { metadata, spec: { ports } }))
    }
    expectOk(
      await admin.create(NAMESPACES, {
        metadata: {
          name: 'other',
          annotations: { 'ambit.io/waypoint-fail-open': 'true' },
          labels: { 'istio.io/use-waypoint': 'one', 'istio.io/use-waypoint-namespace': 'shop' },
        },
      }),
    )
    await make('shop', 'catalog', { 'istio.io/use-waypoint': 'one' })
    await make('shop', 'cart', { 'istio.io/use-waypoint-canary': 'two' })
    await make('shop', 'kept', { 'istio.io/use-waypoint': 'three' })
    await make('other', 'own', { 'istio.io/use-waypoint': 'one' })
    const labels = { 'istio.io/use-waypoint': 'two' }
    expectOk(
      await admin.create(PODS, {
        metadata: { namespace: 'shop', name: 'db', labels },
        spec: { containers: [{ name: 'app', image: 'app' }] },
      }),
    )
    for (const name of ['one', 'two', 'three'])
      t.match(await waypoint(cluster, 'apply', '-n', 'shop', '--name', name), { code: 0 })
    const { code, out } = await waypoint(cluster, 'delete', '-n', 'shop', 'one', 'two')
    t.equal(code, 0)
    t.strictSame(out.trim().split('\n'), [
      'waypoint shop/one deleted',
      'waypoint shop/two deleted',
      'namespace other still uses waypoint shop/one, so that its traffic passes without one: kubectl label namespace other istio.io/use-waypoint-',
      'service shop/catalog still uses waypoint one, so that its traffic is refused: kubectl label service -n shop catalog istio.io/use-waypoint-',
      'service shop/cart still has waypoint two for a canary, which takes nothing any more: kubectl label service -n shop cart istio.io/use-waypoint-canary-',
      'pod shop/db still uses waypoint two, so that its traffic is refused: take the label istio.io/use-waypoint from it, and from the template that it is made of',
    ])
  },
)

void t.test(
  'a waypoint that does not become ready is told with its reason, and binds nobody',
  async (t) => {
    const cluster = await clusterWithKinds(t)
    playController(t, cluster, false)
    const args = ['-n', 'shop', '--enroll-namespace', '--wait', '--timeout', '2'] as const
    const { code, err } = await waypoint(cluster, 'apply', ...args)
    t.equal(code, 1)
    t.match(
      err,
      /^ambit: Waypoint shop\/waypoint is not ready after 2 s: Programmed is False, Pending: no pod of it is ready\. [^\n]*\[AMB_WAYPOINT_NOT_READY\]\n$/,
    )
    t.notMatch(await labelsOf(cluster, 'shop'), { 'istio.io/use-waypoint': String })
    t.match(await waypoint(cluster, 'status', '-n', 'shop'), {
      code: 1,
      out: /shop +waypoint +False +Programmed +Pending +no pod of it is ready\.\n/,
      err: '',
    })
  },
)

void t.test('a namespace is taken from another waypoint only where that is said', (t) => {
  const ask = (uses: string | undefined, isOverwriting: boolean) => () =>
    requireFree({ uses, isInMesh: true }, { namespace: 'shop', waypoint: 'own', isOverwriting })
  t.throws(ask('theirs', false), {
    code: 'AMB_WAYPOINT_TAKEN',
    message: /^Cannot enrol namespace shop: .*"theirs" already; say --overwrite/,
  })
  for (const [uses, isOverwriting] of [
    ['theirs', true],
    ['own', false],
    [undefined, false],
  ] as const)
    t.doesNotThrow(ask(uses, isOverwriting))
  t.end()
})

void t.test("another's Gateway is no waypoint, and is not made one", async (t) => {
  const cluster = await clusterWithKinds(t)
  const { admin } = cluster
  const target = { namespace: 'shop', name: 'edge' }
  await t.resolves(requireOurs(admin, target))
  const listeners = [{ name: 'http', port: 80, protocol: 'HTTP' }]
  const gatewayClass = (name: string, controllerName: string) =>
    admin.create(GATEWAY_CLASSES, { metadata: { name }, spec: { controllerName } })
  const gateway = (name: string, gatewayClassName: string) =>
    admin.create(GATEWAYS, {
      metadata: { namespace: 'shop', name },
      spec: { gatewayClassName, listeners },
    })
  expectOk(await gatewayClass('somebody', 'a.test/gateway'))
  expectOk(await gatewayClass('of-ours', 'ambit.io/waypoint-controller'))
  expectOk(await gateway('edge', 'somebody'))
  expectOk(await gateway('by-class', 'of-ours'))
  await t.rejects(requireOurs(admin, target), {
    code: 'AMB_WAYPOINT_TAKEN',
    message: /the Gateway of this name is of class "somebody", which is none of our waypoints/,
  })
  t.match(await readWaypoints(admin, 'shop'), [{ metadata: { name: 'by-class' } }])
})

void t.test('what a cluster lacks is said by its name', async (t) => {
  const cluster = await smallCluster(t)
  t.match(await waypoint(cluster, 'list', '-A'), {
    code: 1,
    out: '',
    err: /^ambit: Cannot look for waypoints: the cluster has not the kinds of the Gateway API\. Install them: [^\n]*\[AMB_GATEWAY_API\]\n$/,
  })
  await t.rejects(requireOurs(cluster.admin, { namespace: 'shop', name: 'waypoint' }), {
    code: 'AMB_GATEWAY_API',
  })
  await t.rejects(namespaceStanding(cluster.admin, 'nowhere'), {
    message: 'Cannot look at namespace nowhere: there is no namespace nowhere',
  })
})

void t.test('a word of an earlier Gateway counts for nothing, nor does what is no status', (t) => {
  const condition = { type: 'Programmed', status: 'True', reason: 'Programmed', message: '' }
  const report = (
    observedGeneration: unknown,
    conditions: unknown = [{ ...condition, observedGeneration }],
  ) => waypointReport({ metadata: { generation: 2 }, spec: {}, status: { conditions } })
  t.equal(isProgrammed(report(2)), true)
  t.equal(isProgrammed(report(undefined)), true)
  t.equal(isProgrammed(report(1)), false)
  for (const nothing of [null, 'True', {}, [null], [{ type: 1 }]])
    t.equal(isProgrammed(report(2, nothing)), false)
  t.equal(whyNotProgrammed(report(1)), 'the controller has said nothing of it yet')
  t.end()
})

void t.test('generate prints the Gateway and asks nobody', async (t) => {
  const nowhere = { kubeconfig: '/nowhere' } as SmallCluster
  const { code, out } = await waypoint(nowhere, 'generate', '--name', 'edge', '-o', 'json')
  t.equal(code, 0)
  t.strictSame(
    JSON.parse(out),
    waypointGateway({ name: 'edge', namespace: undefined, traffic: undefined }),
  )
  t.match(await waypoint(nowhere, 'generate', '--name', 'Bad_Name'), {
    code: 2,
    err: /^ambit: [^\n]*"Bad_Name" is no name[^\n]*\[AMB_USAGE\]\n$/,
  })
})
