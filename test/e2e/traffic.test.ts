// SPDX-License-Identifier: Apache-2.0
// TCP through the mesh is TCP as the apps know it: every habit of server.ts, by IPv4 and IPv6, from IPv4-only, IPv6-only
// and dual-stack pods, on one node and across two; by every kind of address; from every kind of caller.

import t from 'tap'
import { CLOSED_PORT, HTTP_PORT, TCP_PORTS, UDP_PORT } from './programs/ports.ts'
import { PODS } from '../../mesh/kube/index.ts'
import { missing } from '../helpers.ts'
import { until } from '../support/until.ts'
import {
  accessLines,
  agentOf,
  applyAll,
  meshLab,
  NEEDS,
  waitForCapture,
} from './support/mesh-lab.ts'
import { isCaptured, objectOf } from './support/objects.ts'
import {
  get,
  namespaceManifest,
  podAddress,
  run,
  serverManifest,
  serverReport,
  serviceManifest,
} from './support/pods.ts'

const skip = missing(...NEEDS)
/** Sooner than any time-out ends a call, the mesh's or the kernel's: what takes as long was waited for. Milliseconds. */
const AT_ONCE_MS = 8_000
const HALF_CLOSED_BYTES = 200_000
/** A Service whose endpoints somebody wrote by hand. */
const MANUAL = 'manual.operators.svc.cluster.local'

interface Manners {
  readonly serverFirst: string
  readonly clientHalfClose: { readonly bytes: number; readonly isIntact: boolean }
  readonly serverHalfClose: string
  readonly serverReset: string
  readonly clientReset: string
  readonly refused: { readonly end: string; readonly ms: number }
  readonly names: { readonly peer: string; readonly port: number; readonly local: string }
}

await t.test('in a labelled namespace', { skip }, async (t) => {
  const lab = await meshLab(t)
  const pod = { namespace: 'mesh' }
  await applyAll(lab, [
    namespaceManifest('mesh'),
    ...(['a', 'b'] as const).flatMap((node) => [
      serverManifest({ ...pod, name: `v4-${node}`, node: `node-${node}`, families: 'IPv4' }),
      serverManifest({ ...pod, name: `v6-${node}`, node: `node-${node}`, families: 'IPv6' }),
      serverManifest({ ...pod, name: `dual-${node}`, node: `node-${node}` }),
    ]),
    serviceManifest('mesh', 'dual-a', { app: 'dual-a' }),
    serviceManifest('mesh', 'dual-b', { app: 'dual-b' }),
    serviceManifest('mesh', 'headless', { app: 'dual-b' }, { clusterIP: 'None' }),
  ])
  await lab.waitForPods('mesh')
  await waitForCapture(lab, 'mesh', true)

  const routes = [
    ['mesh/v4-a', 'mesh/v4-b', 4],
    ['mesh/v6-a', 'mesh/v6-b', 6],
    ['mesh/dual-a', 'mesh/dual-b', 4],
    ['mesh/dual-a', 'mesh/dual-b', 6],
    ['mesh/v4-a', 'mesh/dual-a', 4],
    ['mesh/v6-a', 'mesh/dual-a', 6],
    ['mesh/dual-a', 'mesh/v4-a', 4],
    ['mesh/dual-a', 'mesh/v6-a', 6],
  ] as const

  for (const [client, server, family] of routes) {
    await t.test(`${client} calls ${server} by IPv${family}`, async (t) => {
      const address = await podAddress(lab, server, family)
      const own = await podAddress(lab, client, family)
      const seen = (await serverReport(lab, server)).endings.length
      const manners = await run<Manners>(lab, client, 'manners', address)
      t.equal(manners.serverFirst, '220 welcome\n', 'the server may speak first')
      t.strictSame(
        manners.clientHalfClose,
        { bytes: 8 * 1024 * 1024, isIntact: true },
        'the client may end its direction first and still get its answer',
      )
      t.equal(
        manners.serverHalfClose,
        'goodbye, then fin',
        'the server may end its direction first',
      )
      t.equal(manners.serverReset, 'ECONNRESET', "the server's reset reaches the client")
      t.equal(manners.clientReset, 'ping')
      t.match(manners.refused.end, /^(ECONNRESET|ECONNREFUSED)$/, 'a closed port refuses')
      t.ok(manners.refused.ms < AT_ONCE_MS, `refused after ${manners.refused.ms} ms`)
      t.strictSame(
        manners.names,
        { peer: address, port: TCP_PORTS.echo, local: own },
        'the sockets of the client show true addresses',
      )
      const endings = async (): Promise<Record<string, unknown>[]> =>
        (await serverReport(lab, server)).endings.slice(seen).map((ending) => ({ ...ending }))
      let all = await endings()
      await until(
        async () => (all = await endings()).length >= 6,
        () => `the server to see six endings; it saw ${JSON.stringify(all)}`,
      )
      t.ok(
        all.every(({ peer }) => peer === own),
        `the server saw ${own} only, not ${JSON.stringify(all)}`,
      )
      const listener = all.find(({ habit }) => habit === 'listener')
      t.match(
        listener,
        { received: HALF_CLOSED_BYTES, end: 'fin' },
        'what the client wrote after the server had ended its direction arrived',
      )
      t.match(
        all.find(({ habit, end }) => habit === 'echo' && end !== 'fin'),
        { end: 'ECONNRESET', received: 4 },
        "the client's reset reaches the server",
      )
    })
  }

  await t.test('a call finds its server by every kind of address', async (t) => {
    const ip = await podAddress(lab, 'mesh/dual-b', 4)
    const ip6 = await podAddress(lab, 'mesh/dual-b', 6)
    const clusterIps = (
      await lab.kubectl(
        'get',
        'service',
        '--namespace=mesh',
        'dual-b',
        '--output=jsonpath={.spec.clusterIPs[*]}',
      )
    ).split(' ')
    t.equal(clusterIps.length, 2, 'the service is dual-stack')
    const callers = [
      await podAddress(lab, 'mesh/dual-a', 4),
      await podAddress(lab, 'mesh/dual-a', 6),
    ]
    const urls = [
      ...clusterIps.map((address) => (address.includes(':') ? `[${address}]` : address)),
      'dual-b',
      'dual-b.mesh.svc.cluster.local',
      'headless:8080',
      `${ip}:8080`,
      `[${ip6}]:8080`,
    ]
    for (const url of urls) {
      const { pod, client } = await get(lab, 'mesh/dual-a', `http://${url}/`)
      t.equal(pod, 'dual-b', url)
      t.ok(callers.includes(client), `${url}: the server saw ${client}`)
    }
    const lines = await lab.waitFor('an access line of each call', async () => {
      const all = (await accessLines(lab, 'node-b')).filter(
        (line) =>
          line['src.workload'] === 'dual-a' && String(line['dst.hbone_addr']).endsWith(':8080'),
      )
      return all.length >= urls.length ? all : undefined
    })
    const identities = new Set(lines.map((line) => line['src.identity']))
    t.strictSame(
      [...identities],
      ['spiffe://cluster.local/ns/mesh/sa/default'],
      'every call was authenticated',
    )
  })

  await t.test('a pod that calls its own service reaches itself', async (t) => {
    const { pod, client } = await get(lab, 'mesh/dual-b', 'http://dual-b.mesh/')
    t.equal(pod, 'dual-b')
    const own = [await podAddress(lab, 'mesh/dual-b', 4), await podAddress(lab, 'mesh/dual-b', 6)]
    t.ok([...own, '127.0.0.1', '::1'].includes(client), `from ${client}`)
  })

  await t.test('UDP goes its own way', async (t) => {
    for (const family of [4, 6] as const) {
      const address = await podAddress(lab, 'mesh/dual-b', family)
      const own = await podAddress(lab, 'mesh/dual-a', family)
      const answer = await run<{ text: string }>(lab, 'mesh/dual-a', 'datagram', address, UDP_PORT)
      t.equal(answer.text, `${own} said hello`)
    }
  })

  await t.test("a hostNetwork pod is a plaintext caller with its node's address", async (t) => {
    await lab.apply(
      JSON.stringify(
        serverManifest({
          ...pod,
          name: 'host',
          node: 'node-a',
          spec: { hostNetwork: true },
          command: ['sleep', '1000'],
        }),
      ),
    )
    await lab.waitForPods('mesh')
    const nodeIps = (
      await lab.kubectl('get', 'node', 'node-a', '--output=jsonpath={.status.addresses[*].address}')
    ).split(' ')
    const target = await podAddress(lab, 'mesh/dual-b', 4)
    const targets = [`${target}:8080`, `[${await podAddress(lab, 'mesh/dual-b', 6)}]:8080`]
    for (const host of targets) {
      const { pod: answered, client } = await get(lab, 'mesh/host', `http://${host}/`)
      t.equal(answered, 'dual-b', host)
      t.ok(nodeIps.includes(client), `the server saw ${client}, the node is ${nodeIps.join(' ')}`)
      const line = await lab.waitFor('its access line', async () =>
        (await accessLines(lab, 'node-b')).find((each) =>
          String(each['src.addr']).replace(/[[\]]/g, '').startsWith(`${client}:`),
        ),
      )
      t.equal(line['src.identity'], undefined, 'nothing vouches for it')
    }
  })

  await t.test('a Service of bare addresses leads to their pods as themselves', async (t) => {
    // As operators and scripts write it: another namespace, no selector, and nobody named.
    const address = await podAddress(lab, 'mesh/dual-b', 4)
    await applyAll(lab, [
      { ...namespaceManifest('operators'), metadata: { name: 'operators' } },
      serviceManifest('operators', 'manual', undefined, {
        ipFamilyPolicy: 'SingleStack',
        ipFamilies: ['IPv4'],
      }),
      {
        apiVersion: 'discovery.k8s.io/v1',
        kind: 'EndpointSlice',
        metadata: {
          name: 'manual-1',
          namespace: 'operators',
          labels: { 'kubernetes.io/service-name': 'manual' },
        },
        addressType: 'IPv4',
        endpoints: [{ addresses: [address], conditions: { ready: true } }],
        ports: [{ name: 'http', port: HTTP_PORT, protocol: 'TCP' }],
      },
    ])
    const url = `http://${MANUAL}/`
    const answer = await lab.waitFor('an answer of the Service', async () => {
      const got = await get(lab, 'mesh/dual-a', url).catch(() => undefined)
      return got?.pod === 'dual-b' ? got : undefined
    })
    t.equal(answer.client, await podAddress(lab, 'mesh/dual-a', 4))
    const line = await lab.waitFor('the access line of the called pod', async () =>
      (await accessLines(lab, 'node-b')).findLast(
        (each) =>
          each['direction'] === 'inbound' &&
          String(each['src.addr']).startsWith(`${answer.client}:`),
      ),
    )
    t.match(line, {
      'src.identity': 'spiffe://cluster.local/ns/mesh/sa/default',
      'dst.namespace': 'mesh',
      'dst.workload': 'dual-b',
    })
  })

  await t.test('an app without root is served and may call', async (t) => {
    await lab.apply(
      JSON.stringify(
        serverManifest({
          ...pod,
          name: 'user',
          node: 'node-a',
          spec: { securityContext: { runAsUser: 1000, runAsGroup: 1000 } },
        }),
      ),
    )
    await lab.waitForPods('mesh')
    await waitForCaptureOf('user')
    const inside = await serverReport(lab, 'mesh/user')
    t.equal(inside.user, 1000, 'the server runs as that user')
    const called = await get(lab, 'mesh/user', 'http://dual-b/')
    t.equal(called.pod, 'dual-b')
    const address = await podAddress(lab, 'mesh/user', 4)
    const calling = await get(lab, 'mesh/v4-b', `http://${address}:8080/`)
    t.equal(calling.pod, 'user')
    t.equal(calling.client, await podAddress(lab, 'mesh/v4-b', 4))
    const line = await lab.waitFor('the access line of its call', async () =>
      (await accessLines(lab, 'node-b')).find((each) => each['src.workload'] === 'user'),
    )
    t.equal(line['src.identity'], 'spiffe://cluster.local/ns/mesh/sa/default')
  })

  await t.test(
    'a new pod is captured from the first connection of its first init container',
    async (t) => {
      const call = ['curl', '--silent', '--fail', '--max-time', '5', 'http://dual-b/']
      await lab.apply(
        JSON.stringify(
          serverManifest({
            ...pod,
            name: 'young',
            node: 'node-a',
            spec: {
              initContainers: [{ name: 'first', image: 'host', command: call }],
            },
          }),
        ),
      )
      await lab.waitForPods('mesh')
      const answer = JSON.parse(lab.log('mesh/young', 'first')) as { readonly client: string }
      const own = [await podAddress(lab, 'mesh/young', 4), await podAddress(lab, 'mesh/young', 6)]
      t.ok(own.includes(answer.client))
      const arrived = await lab.waitFor('the access line of its call', async () =>
        (await accessLines(lab, 'node-b')).find((each) =>
          String(each['src.addr']).includes(answer.client),
        ),
      )
      t.equal(arrived['src.identity'], 'spiffe://cluster.local/ns/mesh/sa/default')
      const restarts = await lab.kubectl(
        'get',
        'pod',
        '--namespace=mesh',
        'young',
        '--output=jsonpath={.status.initContainerStatuses[0].restartCount}',
      )
      t.equal(restarts, '0', 'its first try succeeded')
    },
  )

  await t.test(
    'the agents logged as failures what the stories meant to fail, and no more',
    async (t) => {
      const meant = [CLOSED_PORT, TCP_PORTS.echo, TCP_PORTS.resetter]
      for (const node of lab.nodes) {
        const failures = (await accessLines(lab, node)).filter(({ error }) => error !== undefined)
        const surprises = failures.filter((line) => {
          const target = String(line['dst.hbone_addr'] ?? line['dst.addr'])
          // Asked until it has endpoints.
          if (line['dst.service'] === MANUAL && /no healthy upstream/.test(String(line.error)))
            return false
          return !meant.some((port) => target.endsWith(`:${port}`))
        })
        t.strictSame(surprises, [], node)
        t.ok(failures.length > 0, `${node} logged the failures that were meant`)
        const errors = lab
          .log(await agentOf(lab, node))
          .split('\n')
          .filter(
            (line) => line.includes('"level":"error"') && !line.includes('"component":"access"'),
          )
        t.strictSame(errors, [], `the agent of ${node} had no trouble of its own`)
      }
    },
  )

  async function waitForCaptureOf(name: string): Promise<void> {
    await lab.waitFor(`mesh/${name} to be captured`, async () => {
      return isCaptured(await objectOf(lab, PODS, `mesh/${name}`)) ? true : undefined
    })
  }
})
