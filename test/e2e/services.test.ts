// SPDX-License-Identifier: Apache-2.0
// Whom a pod of the mesh reaches by a Service: those that the Service's slices name, whoever wrote them, and by every address
// that it has; with both identities, and nothing of it readable between the nodes.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { Lab } from '../../lab/cluster/index.ts'
import { OUTSIDE_IP4 } from '../../lab/network/addressing.ts'
import { missing } from '../helpers.ts'
import { HTTP_PORT } from './programs/ports.ts'
import {
  type AccessLine,
  accessLines,
  applyAll,
  captureFabric,
  meshLab,
  NEEDS,
  waitForCapture,
} from './support/mesh-lab.ts'
import {
  get,
  namespaceManifest,
  podAddress,
  serverManifest,
  serviceManifest,
} from './support/pods.ts'

const skip = missing(...NEEDS)
const SERVER = fileURLToPath(new URL('./programs/server.ts', import.meta.url))
const CALLS = 12
const EXTERNAL_IP = '198.51.100.7'
const BALANCER_IP = '198.51.100.8'
const NODE_PORT = 30_080
const WEB = 'web.mesh.svc.cluster.local'
/** Short enough to stand in one packet, and like nothing else. */
const SECRET = 'what-only-the-two-of-us-know'
const OPEN_SECRET = 'what-everybody-may-know'

const identityOf = (namespace: string): string =>
  `spiffe://cluster.local/ns/${namespace}/sa/default`

/** Calls so many times, each by a connection of its own; who answered each. */
async function answerers(lab: Lab, host: string): Promise<readonly string[]> {
  const url = `http://${host}/?[1-${CALLS}]`
  const curl = ['curl', '--silent', '--show-error', '--max-time', '5', '--write-out', '\\n']
  const { stdout, stderr } = await lab.exec(
    'mesh/client',
    [...curl, '--header', 'Connection: close', url],
    { timeoutMs: 60_000 },
  )
  const answers = stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => (JSON.parse(line) as { readonly pod: string }).pod)
  const failures = stderr.split('\n').filter((line) => line.startsWith('curl: '))
  return [...answers, ...failures]
}

const all = (name: string): readonly string[] => Array.from({ length: CALLS }, () => name)

/** Waits until the caller's agent knows that only this one answers. */
async function waitForAnswerer(lab: Lab, host: string, name: string): Promise<void> {
  let last: readonly string[] = []
  await lab
    .waitFor(`${host} to be answered by ${name} alone`, async () => {
      last = await answerers(lab, host)
      return last.every((each) => each === name) ? true : undefined
    })
    .catch((error: unknown) => {
      throw new Error(`answers: ${last.join(', ')}`, { cause: error })
    })
}

interface Endpoint {
  readonly address: string
  readonly ready: boolean
  readonly targetRef?: object | undefined
}

/** A slice as an operator writes it. */
function slice(namespace: string, service: string, endpoints: readonly Endpoint[]): object {
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      namespace,
      name: `${service}-by-operator`,
      labels: { 'kubernetes.io/service-name': service },
    },
    addressType: 'IPv4',
    ports: [{ name: 'http', port: HTTP_PORT, protocol: 'TCP' }],
    endpoints: endpoints.map(({ address, ready, targetRef }) => ({
      addresses: [address],
      conditions: { ready },
      targetRef,
    })),
  }
}

const IPV4 = { ipFamilyPolicy: 'SingleStack', ipFamilies: ['IPv4'] }
const NEVER_READY = {
  containers: [
    {
      name: 'main',
      image: 'host',
      command: ['node', 'test/e2e/programs/server.ts'],
      readinessProbe: { exec: { command: ['false'] }, periodSeconds: 1 },
    },
  ],
}
/** Serves in its preStop hook for as long as the test likes. */
const LINGERS = {
  terminationGracePeriodSeconds: 3600,
  volumes: [{ name: 'shared', emptyDir: {} }],
  containers: [
    {
      name: 'main',
      image: 'host',
      command: [
        'sh',
        '-c',
        "node test/e2e/programs/server.ts & trap 'kill -9 $!; exit' TERM; wait",
      ],
      readinessProbe: { httpGet: { path: '/', port: HTTP_PORT }, periodSeconds: 1 },
      lifecycle: {
        preStop: {
          exec: { command: ['sh', '-c', 'until [ -e /shared/end ]; do sleep 0.1; done'] },
        },
      },
      volumeMounts: [{ name: 'shared', mountPath: '/shared' }],
    },
  ],
}

await t.test('Services as a pod of the mesh sees them', { skip }, async (t) => {
  const lab = await meshLab(t)
  const far = { namespace: 'mesh', node: 'node-b' }
  await applyAll(lab, [
    namespaceManifest('mesh'),
    namespaceManifest('victim'),
    namespaceManifest('tenant'),
    namespaceManifest('plain', false),
    serverManifest({ namespace: 'mesh', name: 'client', node: 'node-a' }),
    serverManifest({ ...far, name: 'fit' }),
    serverManifest({ ...far, name: 'ill', spec: NEVER_READY }),
    serverManifest({ ...far, name: 'old', labels: { app: 'last' }, spec: LINGERS }),
    serverManifest({ namespace: 'victim', name: 'owner', node: 'node-b' }),
    serverManifest({ namespace: 'tenant', name: 'decoy', node: 'node-b' }),
    serverManifest({ namespace: 'plain', name: 'client', node: 'node-a' }),
    serviceManifest('mesh', 'leader', undefined, IPV4),
    serviceManifest('mesh', 'last', { app: 'last' }, IPV4),
    serviceManifest('tenant', 'trap', undefined, IPV4),
    serviceManifest('tenant', 'lure', undefined, IPV4),
    serviceManifest(
      'mesh',
      'web',
      { app: 'fit' },
      {
        ...IPV4,
        type: 'LoadBalancer',
        externalIPs: [EXTERNAL_IP],
        ports: [{ name: 'http', port: 80, targetPort: HTTP_PORT, nodePort: NODE_PORT }],
      },
    ),
  ])
  for (const namespace of ['victim', 'tenant', 'plain']) await lab.waitForPods(namespace)
  for (const pod of ['client', 'fit', 'old'])
    await lab.kubectl('wait', '-n=mesh', '--for=condition=Ready', `pod/${pod}`, '--timeout=120s')
  for (const namespace of ['mesh', 'victim', 'tenant']) await waitForCapture(lab, namespace, true)
  await lab.waitFor('the pod that never is ready to serve', async () =>
    get(lab, 'mesh/ill', `http://127.0.0.1:${HTTP_PORT}/`).catch(() => undefined),
  )
  const client = await podAddress(lab, 'mesh/client', 4)
  const uidOf = async (namespace: string, pod: string): Promise<string> =>
    await lab.kubectl('get', 'pod', `-n=${namespace}`, pod, '-o=jsonpath={.metadata.uid}')
  const endpoint = async (pod: string, ready: boolean): Promise<Endpoint> => ({
    address: await podAddress(lab, `mesh/${pod}`, 4),
    ready,
    targetRef: { kind: 'Pod', namespace: 'mesh', name: pod, uid: await uidOf('mesh', pod) },
  })
  /** What an agent said of calls to a service, from now on. */
  const linesSince = async (node: string): Promise<() => Promise<readonly AccessLine[]>> => {
    const before = (await accessLines(lab, node)).length
    return async () => (await accessLines(lab, node)).slice(before)
  }

  await t.test('an operator says who leads, whatever the probes say', async (t) => {
    await applyAll(lab, [
      slice('mesh', 'leader', [await endpoint('fit', true), await endpoint('ill', false)]),
    ])
    await waitForAnswerer(lab, 'leader.mesh', 'fit')
    t.strictSame(await answerers(lab, 'leader.mesh'), all('fit'))
    await applyAll(lab, [
      slice('mesh', 'leader', [await endpoint('fit', false), await endpoint('ill', true)]),
    ])
    await waitForAnswerer(lab, 'leader.mesh', 'ill')
    t.strictSame(await answerers(lab, 'leader.mesh'), all('ill'), 'its probe fails, and it leads')
  })

  await t.test('an endpoint may be outside of the cluster', async (t) => {
    const outside = spawn(
      'nsenter',
      [`--net=/run/netns/${lab.layout.fabricNetns}`, 'node', SERVER],
      { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, HOSTNAME: 'outside' } },
    )
    const gone = once(outside, 'exit')
    t.teardown(async () => {
      outside.kill('SIGKILL')
      await gone
    })
    await once(outside.stdout, 'data')
    const lines = await linesSince('node-a')
    await applyAll(lab, [slice('mesh', 'leader', [{ address: OUTSIDE_IP4, ready: true }])])
    await waitForAnswerer(lab, 'leader.mesh', 'outside')
    t.strictSame(await answerers(lab, 'leader.mesh'), all('outside'))
    const line = await lab.waitFor('the access line of a call', async () =>
      (await lines()).findLast((each) => String(each['dst.addr']).startsWith(`${OUTSIDE_IP4}:`)),
    )
    t.match(
      line,
      { 'dst.service': 'leader.mesh.svc.cluster.local', 'src.workload': 'client' },
      'it had pods of the mesh a moment ago, to which the node might lead yet',
    )
    t.equal(line['dst.identity'], undefined, 'nobody vouches for it')
  })

  await t.test('a tenant lists a pod of somebody else: it is called as who it is', async (t) => {
    const address = await podAddress(lab, 'victim/owner', 4)
    const decoy = {
      kind: 'Pod',
      namespace: 'tenant',
      name: 'decoy',
      uid: await uidOf('tenant', 'decoy'),
    }
    for (const [name, targetRef] of [
      ['trap', undefined],
      ['lure', decoy],
    ] as const) {
      const host = `${name}.tenant.svc.cluster.local`
      const [outbound, inbound] = [await linesSince('node-a'), await linesSince('node-b')]
      await applyAll(lab, [slice('tenant', name, [{ address, ready: true, targetRef }])])
      await waitForAnswerer(lab, host, 'owner')
      t.strictSame(await answerers(lab, host), all('owner'), 'as kube-proxy would')
      const carried = await lab.waitFor('the lines of the calling side', async () => {
        const found = (await outbound()).filter(
          (line) => line['dst.service'] === host && line['dst.hbone_addr'] !== undefined,
        )
        return found.length >= 2 * CALLS ? found : undefined
      })
      t.strictSame(
        [...new Set(carried.map((line) => line['dst.identity']))],
        [identityOf('victim')],
        'never by the identity of who listed it',
      )
      const served = await lab.waitFor('the lines of the serving side', async () => {
        const found = (await inbound()).filter((line) => line.direction === 'inbound')
        return found.length >= 2 * CALLS ? found : undefined
      })
      t.ok(
        served.every((line) => line['dst.workload'] === 'owner'),
        'the decoy got nothing',
      )
    }
  })

  await t.test(
    'a tenant claims the address of a pod outside the mesh: its Service leads to it all the same',
    async (t) => {
      const address = await podAddress(lab, 'plain/client', 4)
      await applyAll(lab, [
        serviceManifest('plain', 'open', { app: 'client' }, IPV4),
        serviceManifest(
          'tenant',
          'claim',
          { app: 'decoy' },
          {
            ...IPV4,
            externalIPs: [address],
            ports: [{ name: 'http', port: HTTP_PORT, targetPort: HTTP_PORT }],
          },
        ),
      ])
      await waitForAnswerer(lab, `${address}:${HTTP_PORT}`, 'decoy')
      t.pass('who calls it by its address is led away by the node, with or without a mesh')
      await waitForAnswerer(lab, 'open.plain', 'client')
      t.strictSame(
        await answerers(lab, 'open.plain'),
        all('client'),
        'who calls its Service is not',
      )
      await lab.kubectl('delete', 'service', '-n=tenant', 'claim')
    },
  )

  await t.test(
    'the last pod of a Service serves until it ends, behind any that is ready',
    async (t) => {
      await waitForAnswerer(lab, 'last.mesh', 'old')
      await lab.kubectl('delete', 'pod', '-n=mesh', 'old', '--wait=false')
      await lab.waitFor('its slice to say so', async () => {
        const conditions = await lab.kubectl(
          ...['get', 'endpointslices', '-n=mesh', '-l=kubernetes.io/service-name=last'],
          '-o=jsonpath={range .items[*].endpoints[*].conditions}{.ready} {.serving} {.terminating}{end}',
        )
        return conditions === 'false true true' ? true : undefined
      })
      t.strictSame(await answerers(lab, 'last.mesh'), all('old'))
      await applyAll(lab, [serverManifest({ ...far, name: 'new', labels: { app: 'last' } })])
      await waitForAnswerer(lab, 'last.mesh', 'new')
      t.strictSame(await answerers(lab, 'last.mesh'), all('new'), 'there is a better one')
      await lab.kubectl('delete', 'pod', '-n=mesh', 'new')
      await waitForAnswerer(lab, 'last.mesh', 'old')
      t.strictSame(await answerers(lab, 'last.mesh'), all('old'), 'and again there is none')
      await lab.exec('mesh/old', ['touch', '/shared/end'])
      await lab.waitFor('its end', async () =>
        (await lab.tryKubectl('get', 'pod', '-n=mesh', 'old')).code === 0 ? undefined : true,
      )
      await lab.waitFor('calls to be refused', async () => {
        const seen = await answerers(lab, 'last.mesh')
        return seen.every((each) => each.startsWith('curl: ')) ? true : undefined
      })
    },
  )

  await t.test(
    'by every address of a Service its calls are encrypted, both ends known',
    async (t) => {
      await lab.kubectl(
        ...['patch', 'service', '-n=mesh', 'web', '--subresource=status', '--type=merge'],
        `--patch=${JSON.stringify({ status: { loadBalancer: { ingress: [{ ip: BALANCER_IP }] } } })}`,
      )
      const node = await lab.kubectl(
        ...['get', 'node', 'node-b'],
        '-o=jsonpath={.status.addresses[?(@.type=="InternalIP")].address}',
      )
      const [ip4 = ''] = node.split(' ').filter((each) => !each.includes(':'))
      const fit = await podAddress(lab, 'mesh/fit', 4)
      const call = async (address: string, query = '') => {
        const [outbound, inbound] = [await linesSince('node-a'), await linesSince('node-b')]
        const answer = await get(lab, 'mesh/client', `http://${address}/?${query}`)
        const out = await lab.waitFor('the line of the calling side', async () =>
          (await outbound()).find(
            (line) => line['dst.service'] === WEB || line['dst.addr'] === `${BALANCER_IP}:80`,
          ),
        )
        const into = await lab.waitFor('the line of the serving side', async () =>
          (await inbound()).find((line) => line['dst.workload'] === 'fit'),
        )
        return { answer, out, into }
      }
      // Till the agent knows of the balancer's address calls to it go as without a mesh.
      await lab.waitFor('the agent to know the address', async () =>
        (await call(BALANCER_IP)).out['dst.service'] === WEB ? true : undefined,
      )
      const endCapture = await captureFabric(t, lab)
      for (const address of [EXTERNAL_IP, BALANCER_IP, `${ip4}:${NODE_PORT}`]) {
        const { answer, out, into } = await call(address, SECRET)
        t.match(answer, { pod: 'fit', client }, `${address} is answered, and sees who calls`)
        const both = { 'src.identity': identityOf('mesh'), 'dst.identity': identityOf('mesh') }
        const hbone = { 'dst.hbone_addr': `${fit}:${HTTP_PORT}`, 'dst.addr': `${fit}:15008` }
        t.match(out, { ...both, ...hbone, direction: 'outbound', 'dst.service': WEB })
        t.match(into, { ...both, direction: 'inbound', 'src.workload': 'client' })
        t.strictSame([out.error, into.error], [undefined, undefined])
      }
      await get(lab, 'plain/client', `http://${EXTERNAL_IP}/?${OPEN_SECRET}`)
      const packets = await endCapture()
      t.ok(packets.includes(OPEN_SECRET), 'who is not of the mesh is read on the way')
      t.notOk(packets.includes(SECRET), 'who is of it is not')
    },
  )
})
