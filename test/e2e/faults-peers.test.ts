// SPDX-License-Identifier: Apache-2.0
// Bad peers, on a real lab: what knocks at an enrolled pod's ports with the wrong papers or none, with garbage or too
// slowly, and what answers a captured client in place of the pod it meant. All the while a client calls, unharmed.

import t, { type Test } from 'tap'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Lab } from '../../lab/cluster/index.ts'
import { missing } from '../helpers.ts'
import type { Knock, Outcome, PeerCertificate } from './programs/stranger.ts'
import { certificateOf, rootOfLab, selfSigned, strangeRoot } from './support/impostors.ts'
import {
  accessLines,
  agentOf,
  linesWhere,
  meshLab,
  NEEDS,
  waitForCapture,
} from './support/mesh-lab.ts'
import { failures, startTraffic } from './support/pod-traffic.ts'

const skip = missing(...NEEDS)
const SHOP = fileURLToPath(new URL('../../lab/samples/shop.yaml', import.meta.url))
const FRONTEND = 'spiffe://cluster.local/ns/shop/sa/frontend'
const ROGUE_IDENTITY = 'spiffe://cluster.local/ns/legacy/sa/default'
/** Nearly the mesh's deadline for a peer to say who it is; the slack is for clocks that started before. Milliseconds. */
const HANDSHAKE_DEADLINE_MS = 8_000
/** What a storm or a crowd of silent peers may cost the agent, of which it gives most back later. */
const MEMORY_ALLOWANCE_MB = 96

/** A pod outside the mesh that claims to speak HBONE, as the label of an own tunnel allows. */
const ROGUE = `
apiVersion: v1
kind: Pod
metadata:
  name: rogue
  namespace: legacy
  labels: { app: rogue, networking.istio.io/tunnel: http }
spec:
  nodeName: node-b
  terminationGracePeriodSeconds: 1
  containers: [{ name: app, image: host, command: [sleep, '1000'] }]
---
apiVersion: v1
kind: Service
metadata: { name: nobody, namespace: shop }
spec:
  selector: { app: nobody }
  ports: [{ port: 80 }]
`

await t.test('given the shop in the mesh and strangers outside', { skip }, async (t) => {
  const lab = await meshLab(t, [SHOP])
  await lab.apply(ROGUE)
  await lab.kubectl('label', 'namespace', 'shop', 'istio.io/dataplane-mode=ambient')
  await Promise.all([waitForCapture(lab, 'shop', true), lab.waitForPods('legacy')])
  const root = await rootOfLab(lab)
  const [catalog, other, rogue] = await Promise.all([
    podIp(lab, 'shop', 'catalog-v1'),
    podIp(lab, 'shop', 'catalog-v2'),
    podIp(lab, 'legacy', 'rogue'),
  ])
  const papers = await certificateOf(root, FRONTEND)
  const knock = async (
    knocks: readonly Knock[],
    from = 'legacy/batch',
  ): Promise<readonly Outcome[]> => {
    const command = ['node', 'test/e2e/programs/stranger.ts']
    const { code, stdout, stderr } = await lab.exec(from, command, {
      input: JSON.stringify(knocks),
    })
    if (code !== 0) throw new Error(`the stranger failed: ${stderr}`)
    return JSON.parse(stdout) as readonly Outcome[]
  }
  const connect = (
    authority: string,
    certificate: PeerCertificate | undefined,
    change: {
      readonly method?: string
      readonly floodHeaders?: number
      readonly path?: string
    } = {},
  ): Knock => ({
    kind: 'request',
    host: catalog,
    method: change.method ?? 'CONNECT',
    authority,
    floodHeaders: change.floodHeaders ?? 0,
    body: `GET ${change.path ?? '/refused'} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`,
    ...(certificate === undefined ? {} : { certificate }),
  })
  const heardByApps = (): string => lab.log('shop/catalog-v1') + lab.log('shop/catalog-v2')
  // Catalog's answers to the well-behaved are the measure of everything below.
  const bystander = await startTraffic(t, lab, 'shop/frontend', 'http://catalog.shop/')
  const unharmed = (t: Test, since: number): void => {
    t.strictSame(failures(bystander.calls.slice(since)), {}, 'no call of a bystander failed')
    t.ok(bystander.calls.length > since, 'and calls were made')
  }

  await t.test(
    'a certificate of the mesh opens a tunnel, so that what follows proves something',
    async (t) => {
      const [outcome] = await knock([connect(`${catalog}:8080`, papers, { path: '/welcome' })])
      t.equal(outcome?.status, 200)
      t.match(outcome?.body, /"service":"catalog"/)
      t.match(heardByApps(), /GET \/welcome/)
    },
  )

  await t.test('a peer with bad papers gets no tunnel, and the access log says why', async (t) => {
    const strange = await strangeRoot()
    const seen = (await accessLines(lab, 'node-b')).length
    const bearers: Readonly<Record<string, PeerCertificate | undefined>> = {
      'no certificate': undefined,
      'another trust domain': await certificateOf(
        root,
        'spiffe://elsewhere.example/ns/shop/sa/frontend',
      ),
      'an expired certificate': await certificateOf(root, FRONTEND, { isExpired: true }),
      'a certificate of an unknown root': await certificateOf(strange, FRONTEND, { trusts: root }),
      'a self-signed certificate': await selfSigned(FRONTEND, root),
      'a name that is no identity': await certificateOf(root, 'frontend.shop.svc.cluster.local'),
    }
    const outcomes = await knock(
      Object.values(bearers).map((certificate) => connect(`${catalog}:8080`, certificate)),
    )
    for (const [at, who] of Object.keys(bearers).entries()) {
      t.equal(outcomes[at]?.status, undefined, `${who}: no answer`)
      t.type(outcomes[at]?.error, 'string', `${who}: an end`)
    }
    const refused = await lab.waitFor('a line for each', async () => {
      const lines = (await accessLines(lab, 'node-b'))
        .slice(seen)
        .filter((line) => line.direction === 'inbound' && line.error !== undefined)
      return lines.length >= outcomes.length ? lines : undefined
    })
    t.equal(refused.length, outcomes.length)
    const said = refused.map((line) => String(line.error)).join('\n')
    for (const word of [/expired/i, /elsewhere\.example/, /self.signed/i]) t.match(said, word)
    t.notMatch(heardByApps(), /refused/, 'the app heard nothing')
  })

  await t.test(
    'CONNECT to another pod, to loopback or to a mesh port, other methods and header floods',
    async (t) => {
      const since = bystander.calls.length
      const outcomes = await knock([
        connect(`${other}:8080`, papers),
        connect('127.0.0.1:8080', papers),
        connect('catalog.shop:80', papers),
        connect(`${catalog}:15001`, papers),
        connect(`${catalog}:15006`, papers),
        connect(`${catalog}:15008`, papers),
        connect(`${catalog}:8080`, papers, { method: 'GET' }),
        connect(`${catalog}:8080`, papers, { method: 'POST' }),
        connect(`${catalog}:9`, papers),
      ])
      t.strictSame(
        outcomes.map(({ status }) => status),
        [400, 400, 400, 503, 503, 503, 400, 400, 503],
      )
      const [flood, torrent] = await knock([
        connect(`${catalog}:8080`, papers, { floodHeaders: 800 }),
        connect(`${catalog}:8080`, papers, { floodHeaders: 20_000 }),
      ])
      t.ok(
        flood?.status === 431 || flood?.status === undefined,
        `80 KB of headers: ${JSON.stringify(flood)}`,
      )
      t.equal(torrent?.status, undefined, '2 MB of headers end the connection')
      t.notMatch(heardByApps(), /refused/, 'no app heard any of it')
      unharmed(t, since)
    },
  )

  await t.test(
    'direct calls to 15001 and 15006 reach nothing, from outside, from the mesh and from itself',
    async (t) => {
      const calls = (host: string, ports = [15_001, 15_006]): readonly Knock[] =>
        ports.map((port) => ({ kind: 'raw', host, port, send: 'http' }))
      for (const [from, host] of [
        ['legacy/batch', catalog],
        ['shop/frontend', catalog],
        ['shop/catalog-v1', '127.0.0.1'],
        ['shop/catalog-v1', catalog],
      ] as const) {
        for (const outcome of await knock(calls(host), from)) {
          t.ok(
            outcome.ended === 'reset' || outcome.ended === 'refused',
            `${from} to ${host}: ${JSON.stringify(outcome)}`,
          )
          t.equal(outcome.received, 0)
        }
      }
    },
  )

  await t.test(
    'garbage, half a TLS hello, a slow-loris and silence are cut by a deadline',
    async (t) => {
      const since = bystander.calls.length
      const memoryBefore = await agentMemoryMb(lab, 'node-b')
      const to15008 = { kind: 'raw', host: catalog, port: 15_008 } as const
      const crowd = (count: number, each: Knock): readonly Knock[] =>
        Array.from({ length: count }, () => each)
      await lab.waitFor('the end of the ban for the header flood', async () => {
        const [outcome] = await knock([connect(`${catalog}:9`, papers)])
        return outcome?.status === 503 ? true : undefined
      })
      const slow = await knock([
        ...crowd(30, { ...to15008, send: 'halfHello' }),
        ...crowd(30, { ...to15008, send: 'hello', everyMs: 200 }),
        ...crowd(30, { ...to15008, send: 'nothing' }),
      ])
      // Of one source so many handshakes come to nothing; what is more is reset before it begins.
      const garbage = await knock(crowd(300, { ...to15008, send: 'garbage' }))
      const isOpen = ({ ended }: Outcome): boolean => ended === 'open'
      t.strictSame([...garbage, ...slow].filter(isOpen), [], 'none is open for ever')
      const times = (outcomes: readonly Outcome[]): readonly number[] =>
        outcomes.map(({ afterMs }) => afterMs ?? 0)
      const [first, last] = [Math.min(...times(slow)), Math.max(...times(slow))]
      t.comment(`cut after ${first} to ${last} ms`)
      t.ok(first > HANDSHAKE_DEADLINE_MS, 'who is merely slow has the time of the deadline')
      t.ok(
        Math.max(...times(garbage)) < HANDSHAKE_DEADLINE_MS,
        'what is no TLS is found out by its first bytes, and waits for no deadline',
      )
      unharmed(t, since)
      const memory = await agentMemoryMb(lab, 'node-b')
      t.comment(`agent: ${memoryBefore} MB before, ${memory} MB after`)
      t.ok(
        memory - memoryBefore < MEMORY_ALLOWANCE_MB,
        `${memoryBefore} MB before, ${memory} MB after`,
      )
    },
  )

  await t.test(
    'a storm of requests to a service without endpoints is refused one by one',
    async (t) => {
      const since = bystander.calls.length
      const memoryBefore = await agentMemoryMb(lab, 'node-a')
      const startedAt = Date.now()
      const address = await lab.kubectl(
        'get',
        'service',
        '-n',
        'shop',
        'nobody',
        '-o',
        'jsonpath={.spec.clusterIP}',
      )
      const storm: readonly Knock[] = Array.from({ length: 1000 }, () => ({
        kind: 'raw',
        host: address,
        port: 80,
        send: 'http',
      }))
      const outcomes = await knock(storm, 'shop/frontend')
      const ends = new Set(outcomes.map(({ ended }) => ended))
      t.strictSame([...ends], ['reset'])
      t.strictSame(
        outcomes.filter(({ received }) => received !== 0),
        [],
      )
      t.comment(`${outcomes.length} resets in ${Date.now() - startedAt} ms`)
      unharmed(t, since)
      const memory = await agentMemoryMb(lab, 'node-a')
      t.ok(
        memory - memoryBefore < MEMORY_ALLOWANCE_MB,
        `${memoryBefore} MB before, ${memory} MB after`,
      )
      await linesWhere(lab, 'node-a', 'the access line that names the reason', ({ error }) =>
        String(error).includes('no healthy upstream'),
      )
      t.pass('the access log names the reason')
    },
  )

  await t.test(
    'a server that answers for a pod without its identity hears nothing of the app',
    async (t) => {
      const strange = await strangeRoot()
      const variants: readonly (readonly [string, Partial<PeerCertificate>])[] = [
        ['the identity of another', await certificateOf(root, FRONTEND)],
        [
          'another trust domain',
          await certificateOf(root, 'spiffe://elsewhere.example/ns/legacy/sa/default'),
        ],
        ['an expired certificate', await certificateOf(root, ROGUE_IDENTITY, { isExpired: true })],
        ['a certificate of an unknown root', await certificateOf(strange, ROGUE_IDENTITY)],
        ['no TLS at all', {}],
      ]
      for (const [who, certificate] of variants) {
        const heard = await rogueHears(lab, rogue, certificate)
        t.match(heard.client, /ECONNRESET|socket hang up/, `${who}: the client is reset`)
        t.notMatch(heard.server, /CONNECT|secret|GET|PRI \*/, `${who}: nothing was heard of it`)
      }
      const rightful = await rogueHears(lab, rogue, await certificateOf(root, ROGUE_IDENTITY))
      t.match(rightful.server, /PRI \* HTTP\/2/, 'with the right identity it is spoken to')
    },
  )

  await t.test('after all of it the mesh is as it was', async (t) => {
    const [outcome] = await knock([connect(`${catalog}:8080`, papers)])
    t.equal(outcome?.status, 200)
    const restarts = await lab.kubectl(
      'get',
      'pods',
      '-A',
      '-o',
      'jsonpath={.items[*].status.containerStatuses[*].restartCount}',
    )
    t.match(restarts, /^[0 ]+$/, 'nothing restarted')
    t.strictSame(failures(await bystander.stop()), {})
  })
})

async function podIp(lab: Lab, namespace: string, name: string): Promise<string> {
  return await lab.kubectl('get', 'pod', '-n', namespace, name, '-o', 'jsonpath={.status.podIP}')
}

/** Resident memory of a node's agent. */
async function agentMemoryMb(lab: Lab, node: string): Promise<number> {
  const pid = lab.pod(await agentOf(lab, node)).containers[0]?.process?.pid
  const status = readFileSync(`/proc/${String(pid)}/status`, 'utf8')
  return Math.round(Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024)
}

/** Lets the rogue answer with a certificate while the frontend calls it; gives what each end has to tell. */
async function rogueHears(
  lab: Lab,
  address: string,
  certificate: Partial<PeerCertificate>,
): Promise<{ readonly client: string; readonly server: string }> {
  const child = lab.spawn('legacy/rogue', ['node', 'test/e2e/programs/rogue.ts'])
  const exited = once(child, 'exit')
  try {
    const said: string[] = []
    if (child.stdout === null) throw new Error('Cannot read the rogue: it has no output')
    createInterface({ input: child.stdout }).on('line', (line) => said.push(line))
    child.stdin?.end(JSON.stringify(certificate))
    await lab.waitFor('the rogue', () => (said.includes('listening') ? true : undefined))
    const call = ['node', 'lab/samples/client.ts', `http://${address}:8080/secret`, 'secret-marker']
    const { stdout } = await lab.exec('shop/frontend', call)
    await lab.waitFor('the rogue to be called', () => (said.length > 1 ? true : undefined))
    return { client: stdout, server: said.join('\n') }
  } finally {
    child.kill('SIGKILL')
    await exited
  }
}
