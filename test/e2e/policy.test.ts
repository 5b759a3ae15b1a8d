// SPDX-License-Identifier: Apache-2.0
// Who may talk to whom, in a cluster, by objects that a platform team applies: only the frontend gets in, mutual TLS is required, a change
// closes what is open, every refusal is on record, `why` says the same; and while the mesh's own parts die, nothing is ever open.

import t from 'tap'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { CommandOutput, Lab } from '../../lab/cluster/index.ts'
import { command, tryCommand } from '../../lab/machine/command.ts'
import { isRunning, type ProcessRecord } from '../../lab/machine/process-record.ts'
import { LEASES, PODS } from '../../mesh/kube/index.ts'
import { missing } from '../helpers.ts'
import { agentOf, applyAll, meshLab, NEEDS, waitForCapture } from './support/mesh-lab.ts'
import { eventsIn, objectOf, objectsIn } from './support/objects.ts'
import { podAddress, run } from './support/pods.ts'
import { inForce, removed } from './support/policy-objects.ts'
import { attempts, type Call, startTraffic } from './support/pod-traffic.ts'

const skip = missing(...NEEDS)
const SHOP = fileURLToPath(new URL('../../lab/samples/shop.yaml', import.meta.url))
const AMBIT = fileURLToPath(new URL('../../cli/bin/ambit', import.meta.url))
const API = 'security.istio.io/v1'
const CATALOG = 'http://catalog.shop/'
/** A refused caller is told at once; an agent that starts without a controller lets callers wait for it. Seconds. */
const PATIENCE_S = '10'
/** A lease that nobody gives back runs out after 15 s. Milliseconds. */
const FAILOVER_MS = 60_000

const only = (name: string, spec: object) => ({
  apiVersion: API,
  kind: 'AuthorizationPolicy',
  metadata: { namespace: 'shop', name },
  spec,
})
const FRONTEND_ONLY = only('frontend-only', {
  selector: { matchLabels: { app: 'catalog' } },
  action: 'ALLOW',
  rules: [{ from: [{ source: { principals: ['cluster.local/ns/shop/sa/frontend'] } }] }],
})
const NO_INTRUDERS = only('no-intruders', {
  action: 'DENY',
  rules: [
    { from: [{ source: { namespaces: ['nowhere'] } }] },
    { from: [{ source: { serviceAccounts: ['shop/intruder'] } }] },
  ],
})
const strict = (ports?: object) => ({
  apiVersion: API,
  kind: 'PeerAuthentication',
  metadata: { namespace: 'shop', name: 'strict' },
  spec: {
    ...(ports && { selector: { matchLabels: { app: 'catalog' } }, portLevelMtls: ports }),
    mtls: { mode: 'STRICT' },
  },
})

const networkPolicy = (name: string, spec: object) => ({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { namespace: 'shop', name },
  spec,
})
const CATALOG_FOR_FRONTEND = networkPolicy('catalog-for-frontend', {
  podSelector: { matchLabels: { app: 'catalog' } },
  policyTypes: ['Ingress'],
  ingress: [
    { from: [{ podSelector: { matchLabels: { app: 'frontend' } } }], ports: [{ port: 'http' }] },
    { ports: [{ port: 15_008 }] },
  ],
})
const KEPT_IN = networkPolicy('kept-in', {
  podSelector: { matchLabels: { app: 'frontend' } },
  policyTypes: ['Egress'],
})

const pod = (name: string, node: string) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { namespace: 'shop', name, labels: { app: name } },
  spec: {
    nodeName: node,
    serviceAccountName: 'intruder',
    terminationGracePeriodSeconds: 1,
    containers: [{ name: 'main', image: 'host', command: ['node', '-e', IDLE] }],
  },
})
/** Of the node's own network, and no kubelet. */
const hostPod = (node: string): object => {
  const { spec, ...rest } = pod('host', node)
  return {
    ...rest,
    metadata: { namespace: 'legacy', name: 'host' },
    spec: { ...spec, hostNetwork: true },
  }
}
const IDLE = 'setInterval(() => undefined, 60_000)'

await t.test('given the shop in the mesh, and an intruder on each node', { skip }, async (t) => {
  const lab = await meshLab(t, [SHOP])
  await applyAll(lab, [
    ...['shop', 'legacy'].map((namespace) => ({
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { namespace, name: 'intruder' },
    })),
    pod('far', 'node-a'),
    pod('near', 'node-b'),
    { ...pod('other', 'node-b'), metadata: { namespace: 'legacy', name: 'other' } },
    hostPod('node-b'),
  ])
  await lab.waitForPods()
  await lab.kubectl('label', 'namespace', 'shop', 'istio.io/dataplane-mode=ambient')
  await waitForCapture(lab, 'shop', true)

  const curl = (from: string, url = CATALOG): Promise<CommandOutput> =>
    lab.exec(from, ['curl', '-s', '-m', PATIENCE_S, url])
  const isServed = async (from: string, url = CATALOG): Promise<boolean> =>
    (await curl(from, url)).stdout.includes('"catalog"')
  const ambit = (...args: readonly string[]): Promise<CommandOutput> =>
    tryCommand([AMBIT, ...args, '--name', lab.name])
  const podIp = (name: string): Promise<string> =>
    lab.kubectl('get', 'pod', '-n', 'shop', name, '-o', 'jsonpath={.status.podIPs[0].ip}')
  const fromNode = async (node: string): Promise<CommandOutput> =>
    lab.nodeExec(node, [
      ...['curl', '-s', '-m', PATIENCE_S],
      `http://${await podIp('catalog-v2')}:8080/`,
    ])
  const denials = async (): Promise<readonly Readonly<Record<string, unknown>>[]> => {
    const { stdout } = await ambit('audit', '-n', 'shop', '-o', 'json')
    return stdout
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as Record<string, unknown>)
  }
  const onRecord = (what: string, fields: Readonly<Record<string, unknown>>): Promise<unknown> =>
    lab.waitFor(`${what} in the audit`, async () =>
      (await denials()).find((line) =>
        Object.entries(fields).every(([name, value]) => line[name] === value),
      ),
    )

  /** What comes of every trick, at an app of the same node. */
  const sneak = async (
    from: string,
    ...tricks: readonly string[]
  ): Promise<Readonly<Record<string, string>>> =>
    run(
      lab,
      from,
      'sneak',
      8080,
      await podAddress(lab, 'shop/catalog-v2', 4),
      await podAddress(lab, 'shop/catalog-v2', 6),
      await podAddress(lab, 'shop/near', 4),
      await podAddress(lab, 'shop/near', 6),
      ...tricks,
    )

  await t.test('without policy everybody is served', async (t) => {
    await served(t, lab, ['shop/frontend', 'shop/far', 'shop/near', 'legacy/batch'])
    for (const from of ['legacy/other', 'legacy/host'])
      t.match(
        await sneak(from, 'plain4', 'plain6', 'mapped', 'mark4'),
        { plain4: 'answered', plain6: 'answered', mapped: 'answered', mark4: 'answered' },
        `${from} can try them`,
      )
  })

  await t.test('a NetworkPolicy that lets 15008 through opens no other port', async (t) => {
    await applyAll(lab, [CATALOG_FOR_FRONTEND])
    const object = 'NetworkPolicy shop/catalog-for-frontend'
    for (const [caller, name] of [
      ['shop/far', 'far'],
      ['shop/near', 'near'],
      ['legacy/batch', 'batch'],
    ] as const) {
      await lab.waitFor(`${caller} kept out`, async () => !(await isServed(caller)))
      await onRecord(`the refusal of ${name}`, {
        audit: 'connection.denied',
        'src.workload': name,
        object,
      })
    }
    t.ok(await isServed('shop/frontend'), 'a peer, at the port of that name')
    const why = await ambit('why', 'shop/far', 'catalog.shop:80')
    t.not(why.code, 0)
    t.match(why.stdout, object)
    t.match((await ambit('policies')).stdout, /catalog-for-frontend +Ingress +NetworkPolicy/)
    await applyAll(lab, [KEPT_IN])
    await lab.waitFor('the frontend kept in', async () => !(await isServed('shop/frontend')))
    await onRecord('the frontend’s own policy', {
      'src.workload': 'frontend',
      object: 'NetworkPolicy shop/kept-in',
    })
    await lab.kubectl(
      ...['delete', 'networkpolicy', '-n', 'shop', 'catalog-for-frontend', 'kept-in'],
    )
    for (const caller of ['shop/frontend', 'shop/far', 'shop/near', 'legacy/batch'])
      await lab.waitFor(`${caller} served again`, () => isServed(caller))
  })

  await t.test('an ALLOW for the frontend keeps all others out, on either node', async (t) => {
    await inForce(lab, FRONTEND_ONLY)
    t.ok(await isServed('shop/frontend'), 'the frontend')
    for (const other of ['shop/far', 'shop/near', 'legacy/batch'])
      t.notOk(await isServed(other), other)
    t.not((await fromNode('node-b')).code, 0, 'a process of the node itself')
    t.match(
      (await curl('shop/far', 'http://frontend.shop/')).stdout,
      '"frontend"',
      'another service is open',
    )
    await onRecord('the refusal', {
      audit: 'connection.denied',
      who: 'spiffe://cluster.local/ns/shop/sa/intruder',
      object: 'AuthorizationPolicy shop/frontend-only',
    })
    await lab.kubectl(
      ...['wait', '-n', 'shop', 'pod/catalog-v1', 'pod/catalog-v2'],
      ...['--for=condition=Ready', '--timeout=120s'],
    )
    const events = await lab.waitFor('an event of the pod', async () => {
      const found = await eventsIn(lab, 'shop', { reason: 'CallsDenied' })
      return found === '' ? undefined : found
    })
    t.match(events, 'frontend-only')
  })

  await t.test('why says the same, and names the object', async (t) => {
    const refused = await ambit('why', 'shop/far', 'catalog.shop:80')
    t.not(refused.code, 0)
    t.match(refused.stdout, 'shop/frontend-only')
    const allowed = await ambit('why', 'shop/frontend', 'catalog.shop:80')
    t.equal(allowed.code, 0, allowed.stdout + allowed.stderr)
  })

  await t.test('and why --live tries it, and says where reality differs', async (t) => {
    const live = async (from: string, to: string) => {
      const { code, stdout, stderr } = await ambit('why', from, to, '--live', '-o', 'json')
      t.equal(stderr, '')
      const { outcome, live } = JSON.parse(stdout) as { outcome: string; live: object }
      return { code, outcome, live }
    }
    t.match(await live('shop/frontend', 'shop/catalog-v2:8080'), {
      code: 0,
      outcome: 'connects',
      live: {
        outcome: 'connected',
        agreement: 'agrees',
        seen: {
          security: 'mutual_tls',
          workload: 'shop/catalog-v2',
          peerIdentity: 'spiffe://cluster.local/ns/shop/sa/catalog',
        },
      },
    })
    const none = { outcome: 'connects', live: { outcome: 'refused', agreement: 'differs' } }
    t.match(await live('shop/frontend', 'shop/catalog-v2:9999'), {
      ...none,
      code: 1,
      live: { ...none.live, likely: /nobody listens/ },
    })
    const [far, near, outside] = await Promise.all([
      live('shop/far', 'catalog.shop:80'),
      live('shop/near', 'catalog.shop:80'),
      ambit('why', 'legacy/batch', 'catalog.shop:80', '--live'),
    ])
    const foretold = { outcome: 'refused', agreement: 'agrees' }
    t.match(far, { code: 0, outcome: 'fails', live: foretold })
    t.match(near, {
      code: 0,
      outcome: 'fails',
      live: { ...foretold, seen: { reason: 'policyDenied', security: 'node_local' } },
    })
    t.equal(outside.code, 1)
    t.match(outside.stderr, /no pod legacy\/batch is served here/)
    // As the CNI does by a NetworkPolicy that does not know of the mesh.
    const fabric = (script: string): Promise<string> =>
      command(['nsenter', `--net=/run/netns/${lab.layout.fabricNetns}`, 'nft', script])
    await fabric(
      'add table inet closed; add chain inet closed through { type filter hook forward priority -5; }; add rule inet closed through tcp dport 15008 drop',
    )
    const { stdout, code } = await ambit(
      ...['why', 'shop/frontend', 'shop/catalog-v2:8080', '--live'],
    ).finally(() => fabric('delete table inet closed'))
    t.equal(code, 1)
    t.match(stdout, /It connects, with mutual TLS\.\n\nTried from the pod, .*: No answer within/)
    t.match(stdout, /Reality differs\. Likely: .*drops port 15008 between the nodes/)
  })

  await t.test(
    'while controllers, agents and the API server die in turn, nobody else gets in',
    async (t) => {
      const address = (kind: string, namespace: string, name: string, path: string) =>
        lab.kubectl('get', kind, '-n', namespace, name, '-o', `jsonpath={${path}}`)
      const [monitor, target, clusterIp] = await Promise.all([
        address('pod', 'legacy', 'batch', '.status.podIPs[0].ip'),
        podIp('catalog-v2'),
        address('service', 'shop', 'catalog', '.spec.clusterIP'),
      ])
      // By address: cluster DNS is in the process of the API server.
      const catalog = `http://${clusterIp}/`
      const oldMonitor = only('old-monitor', {
        selector: { matchLabels: { app: 'catalog' } },
        action: 'ALLOW',
        rules: [{ from: [{ source: { ipBlocks: [monitor] } }] }],
      })
      await inForce(lab, oldMonitor)
      await lab.kubectl(
        ...['scale', '-n', 'ambit-system', 'deployment/ambit-controller', '--replicas=2'],
      )
      await lab.waitFor('two controllers', async () =>
        (await objectsIn(lab, PODS, 'ambit-system', 'app=ambit-controller')).length === 2
          ? true
          : undefined,
      )
      await lab.waitForPods('ambit-system')
      const attempted: Promise<readonly Call[]>[] = []
      const ends = new AbortController()
      t.teardown(() => ends.abort())
      for (const other of ['shop/far', 'shop/near', 'legacy/other'])
        attempted.push(attempts(lab, other, catalog, ends.signal))
      const frontend = await startTraffic(t, lab, 'shop/frontend', catalog)

      // The leader dies without a word, and its pod does not come back: its lease has to run out.
      const leader = await leaderOf(lab)
      process.kill(processOf(lab, `ambit-system/${leader}`).pid, 'SIGKILL')
      await lab.kubectl(
        ...['delete', 'pod', '-n', 'ambit-system', leader],
        ...['--force', '--grace-period=0', '--wait=false'],
      )
      /** Its kubelet starts it anew; the frontend's calls fail, and succeed again. */
      const killAgent = async (node: string): Promise<void> => {
        const killedAt = Date.now()
        process.kill(processOf(lab, await agentOf(lab, node)).pid, 'SIGKILL')
        await lab.waitFor('a call that fails', () =>
          frontend.calls.some((call) => call.error !== undefined && call.endedAt >= killedAt)
            ? true
            : undefined,
        )
        await frontend.firstGood(Date.now())
      }
      await killAgent('node-b')
      await killAgent('node-a')
      await lab.waitFor(
        'another leader',
        async () => ((await leaderOf(lab)) === leader ? undefined : true),
        FAILOVER_MS,
      )
      // What a leader writes is back, counted from what the agents told the others.
      await inForce(lab, NO_INTRUDERS, FAILOVER_MS)
      await removed(lab, NO_INTRUDERS)

      // The API server hangs; a controller and an agent die meanwhile. The agent has the policies that it kept.
      const agent = processOf(lab, await agentOf(lab, 'node-b'))
      const controller = processOf(lab, `ambit-system/${await leaderOf(lab)}`)
      const daemon = lab.state.processes.find(({ role }) => role === 'daemon')?.pid
      if (daemon === undefined) throw new Error('the lab has no daemon')
      process.kill(daemon, 'SIGSTOP')
      t.teardown(() => process.kill(daemon, 'SIGCONT'))
      for (const { pid } of [controller, agent]) process.kill(pid, 'SIGKILL')
      await lab.waitFor('the end of both', () =>
        [controller, agent].some(isRunning) ? undefined : true,
      )
      // Pods call nobody before a control plane has told who is who; who calls in plaintext needs only the policies.
      await lab.waitFor(
        'the old monitor to be served by a new agent, by the policies that the old one kept',
        async () => ((await isServed('legacy/batch', `http://${target}:8080/`)) ? true : undefined),
        FAILOVER_MS,
      )
      t.notOk(await isServed('legacy/other', `http://${target}:8080/`), 'which keeps others out')
      // As after a restart of its own: watches are broken, and their history is gone.
      process.kill(daemon, 'SIGUSR2')
      process.kill(daemon, 'SIGCONT')
      await frontend.firstGood(Date.now())
      await lab.waitForPods('ambit-system')

      await frontend.stop()
      ends.abort()
      const calls = (await Promise.all(attempted)).flat()
      t.ok(calls.length > 30, `${calls.length} attempts`)
      t.strictSame(
        calls.filter(({ error }) => error === undefined),
        [],
        'none of them was served',
      )
      for (const policy of [FRONTEND_ONLY, oldMonitor]) await removed(lab, policy)
    },
  )

  await t.test('a policy that comes closes what it forbids, and nothing else', async (t) => {
    await lab.waitFor('the intruders to be served again', async () =>
      (await isServed('shop/far')) && (await isServed('shop/near')) ? true : undefined,
    )
    const target = await podIp('catalog-v2')
    const held = await Promise.all(
      ['shop/far', 'shop/near', 'shop/frontend'].map((from) => hold(t, lab, from, target)),
    )
    const [far, near, frontend] = held
    await lab.apply(JSON.stringify(NO_INTRUDERS))
    await far?.closed
    await near?.closed
    t.equal(frontend?.isOpen, true, 'the frontend keeps its connection')
    await onRecord('the closing', {
      audit: 'connection.closed',
      object: 'AuthorizationPolicy shop/no-intruders',
      rule: 1,
    })
    await removed(lab, NO_INTRUDERS)
  })

  await t.test(
    'STRICT keeps plaintext out on every port, by every trick: nobody is the kubelet by an address',
    async (t) => {
      await inForce(lab, strict())
      await served(t, lab, ['shop/frontend', 'shop/far', 'shop/near'])
      t.notOk(await isServed('legacy/batch'), 'a pod outside the mesh')
      for (const node of lab.nodes) t.not((await fromNode(node)).code, 0, `a process of ${node}`)
      const target = await podIp('catalog-v2')
      // What is dropped is waited for: both wait at once.
      const sneaks = ['legacy/other', 'legacy/host'].map(
        async (from) => [from, await sneak(from)] as const,
      )
      for (const [from, results] of await Promise.all(sneaks)) {
        const tried = Object.entries(results)
        t.ok(tried.length > 10, `${from} tried ${tried.length} tricks`)
        t.strictSame(
          tried.filter(([, result]) => !result.includes(': errno ')),
          [],
          'none of them is answered, or let in a word',
        )
      }
      for (const port of [15_001, 15_006, 15_008, 8080])
        t.notOk(await isServed('legacy/batch', `http://${target}:${port}/`), `port ${port}`)
      await onRecord('the refusal', { object: 'PeerAuthentication shop/strict' })
      await lab.kubectl(
        ...['wait', '-n', 'shop', 'pod/catalog-v1', 'pod/catalog-v2'],
        ...['--for=condition=Ready', '--timeout=120s'],
      )
    },
  )

  await t.test('an exception for one port lets plaintext in there, and only there', async (t) => {
    await inForce(lab, strict({ 8080: { mode: 'PERMISSIVE' } }))
    await lab.waitFor('plaintext to port 8080', async () =>
      (await isServed('legacy/batch')) ? true : undefined,
    )
    t.match((await ambit('policies')).stdout, /converted_peer_authentication_strict/)
    const other = `http://${await podIp('catalog-v2')}:8081/`
    t.not((await curl('legacy/batch', other)).code, 0)
    await onRecord('the refusal at the other port', {
      audit: 'connection.denied',
      object: 'PeerAuthentication shop/strict',
    })
  })
})

interface Held {
  isOpen: boolean
  readonly closed: Promise<unknown>
}

/** A connection of the pod's that says nothing, and tells of its end. */
async function hold(t: Teardown, lab: Lab, from: string, host: string): Promise<Held> {
  const script = `
    const socket = require('node:net').connect(8080, '${host}', () => socket.write('GET /slow HTTP/1.1\\r\\n'))
    socket.on('connect', () => console.log('open'))
    socket.on('error', () => undefined)
    socket.on('close', () => { console.log('closed'); process.exit(0) })`
  const child = lab.spawn(from, ['node', '-e', script])
  t.teardown(() => void child.kill('SIGKILL'))
  if (child.stdout === null) throw new Error('Cannot read the holder: it has no output')
  const lines = createInterface({ input: child.stdout })
  const held: Held = { isOpen: false, closed: once(child, 'exit') }
  void held.closed.then(() => {
    held.isOpen = false
  })
  await once(lines, 'line')
  held.isOpen = true
  return held
}

interface Teardown {
  teardown(fn: () => void): void
}

async function served(
  t: { ok(is: boolean, what: string): unknown },
  lab: Lab,
  callers: readonly string[],
): Promise<void> {
  for (const from of callers) {
    const { stdout } = await lab.exec(from, ['curl', '-s', '-m', PATIENCE_S, CATALOG])
    t.ok(stdout.includes('"catalog"'), `${from} is served`)
  }
}

/** Of the first container of a pod. */
function processOf(lab: Lab, pod: string): ProcessRecord {
  const running = lab.pod(pod).containers[0]?.process
  if (running === undefined) throw new Error(`${pod} does not run`)
  return running
}

/** The pod of the controller that writes: its lease is held by a process of it. */
async function leaderOf(lab: Lab): Promise<string> {
  const { spec } = await objectOf(lab, LEASES, 'ambit-system/ambit-controller')
  return spec?.holderIdentity?.split('_')[0] ?? ''
}
