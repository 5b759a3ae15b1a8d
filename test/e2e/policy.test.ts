// SPDX-License-Identifier: Apache-2.0
// Who may talk to whom, in a cluster, by objects that a platform team applies: only the frontend gets in, mutual TLS is required, a change
// closes what is open, every refusal is on record, `why` says the same; and while the mesh's own parts die, nothing is ever open.

import t from 'tap'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { CommandOutput, Lab } from '../../lab/cluster/index.ts'
import { tryCommand } from '../../lab/machine/command.ts'
import { missing } from '../helpers.ts'
import { agentOf, applyAll, meshLab, NEEDS, waitForCapture } from './support/mesh-lab.ts'
import { type Call, startTraffic } from './support/pod-traffic.ts'

const skip = missing(...NEEDS)
const SHOP = fileURLToPath(new URL('../../lab/samples/shop.yaml', import.meta.url))
const AMBIT = fileURLToPath(new URL('../../cli/bin/ambit', import.meta.url))
const API = 'security.istio.io/v1'
const CATALOG = 'http://catalog.shop/'
/** A refused caller is told at once; an agent that starts without a controller lets callers wait for it. Seconds. */
const PATIENCE_S = '10'

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
const IDLE = 'setInterval(() => undefined, 60_000)'

t.setTimeout(240_000)

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
    const { stdout } = await ambit('audit', '--namespace', 'shop', '-o', 'json')
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

  await t.test('without policy everybody is served', async (t) => {
    await served(t, lab, ['shop/frontend', 'shop/far', 'shop/near', 'legacy/batch'])
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
      ...['--for=condition=Ready', '--timeout=5s'],
    )
    const events = await lab.waitFor('an event of the pod', async () => {
      const found = await lab.kubectl(
        ...['get', 'events', '-n', 'shop', '--field-selector=reason=CallsDenied'],
        ...['-o', 'jsonpath={.items[*].message}'],
      )
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

  await t.test('while agent and controller die, nobody else gets in', async (t) => {
    const monitor = await lab.kubectl(
      ...['get', 'pod', '-n', 'legacy', 'batch', '-o', 'jsonpath={.status.podIPs[0].ip}'],
    )
    const oldMonitor = only('old-monitor', {
      selector: { matchLabels: { app: 'catalog' } },
      action: 'ALLOW',
      rules: [{ from: [{ source: { ipBlocks: [monitor] } }] }],
    })
    await inForce(lab, oldMonitor)
    const attempts: Promise<readonly Call[]>[] = []
    const ends = new AbortController()
    for (const other of ['shop/far', 'shop/near', 'legacy/other'])
      attempts.push(attempt(lab, other, CATALOG, ends.signal))
    const frontend = await startTraffic(t, lab, 'shop/frontend', CATALOG)
    /** Its kubelet starts it anew; the frontend's calls fail, and succeed again. */
    const killAgent = async (node: string): Promise<void> => {
      const killedAt = Date.now()
      process.kill(agentPid(lab, await agentOf(lab, node)), 'SIGKILL')
      await lab.waitFor('a call that fails', () =>
        frontend.calls.some((call) => call.error !== undefined && call.endedAt >= killedAt)
          ? true
          : undefined,
      )
      await frontend.firstGood(Date.now())
    }
    await killAgent('node-b')
    await killAgent('node-a')
    const scale = (replicas: number): Promise<string> =>
      lab.kubectl(
        ...['scale', '-n', 'ambit-system', 'deployment/ambit-controller'],
        `--replicas=${replicas}`,
      )
    await scale(0)
    await lab.kubectl(
      ...['wait', '-n', 'ambit-system', 'pod', '-l', 'app=ambit-controller'],
      ...['--for=delete', '--timeout=20s'],
    )
    // Without a controller, an agent that starts anew has the policies that it kept.
    const before = agentPid(lab, await agentOf(lab, 'node-b'))
    process.kill(before, 'SIGKILL')
    const target = await podIp('catalog-v2')
    // Pods call nobody before a control plane has told who is who; who calls in plaintext needs only the policies.
    await lab.waitFor(
      'the old monitor to be served by the policies that the agent kept',
      async () => ((await isServed('legacy/batch', `http://${target}:8080/`)) ? true : undefined),
    )
    t.not(agentPid(lab, await agentOf(lab, 'node-b')), before, 'by the new agent')
    t.notOk(await isServed('legacy/other', `http://${target}:8080/`), 'which keeps others out')
    await scale(1)
    await lab.waitForPods('ambit-system')
    await frontend.firstGood(Date.now())
    await frontend.stop()
    ends.abort()
    const calls = (await Promise.all(attempts)).flat()
    t.ok(calls.length > 30, `${calls.length} attempts`)
    t.strictSame(
      calls.filter(({ error }) => error === undefined),
      [],
      'none of them was served',
    )
    for (const policy of [FRONTEND_ONLY, oldMonitor]) await removed(lab, policy)
  })

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

  await t.test('STRICT keeps plaintext out, of pods and of the node, on every port', async (t) => {
    await inForce(lab, strict())
    await served(t, lab, ['shop/frontend', 'shop/far', 'shop/near'])
    t.notOk(await isServed('legacy/batch'), 'a pod outside the mesh')
    for (const node of lab.nodes) t.not((await fromNode(node)).code, 0, `a process of ${node}`)
    const target = await podIp('catalog-v2')
    for (const port of [15_001, 15_006, 15_008, 8080])
      t.notOk(await isServed('legacy/batch', `http://${target}:${port}/`), `port ${port}`)
    await onRecord('the refusal', { object: 'PeerAuthentication shop/strict' })
    await lab.kubectl(
      ...['wait', '-n', 'shop', 'pod/catalog-v1', 'pod/catalog-v2'],
      ...['--for=condition=Ready', '--timeout=5s'],
    )
  })

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

/** Calls again and again, until the signal; gives what came of each. */
async function attempt(
  lab: Lab,
  from: string,
  url: string,
  signal: AbortSignal,
): Promise<readonly Call[]> {
  const child = lab.spawn(from, ['node', 'test/e2e/programs/caller.ts', url, '', '100'])
  const calls: Call[] = []
  if (child.stdout === null) throw new Error('Cannot read the caller: it has no output')
  createInterface({ input: child.stdout }).on('line', (line) => {
    calls.push(JSON.parse(line) as Call)
  })
  const exited = once(child, 'exit')
  const end = (): void => void child.kill('SIGKILL')
  signal.addEventListener('abort', end, { once: true })
  if (signal.aborted) end()
  await exited
  return calls
}

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

function agentPid(lab: Lab, agent: string): number {
  const pid = lab.pod(agent).containers[0]?.process?.pid
  if (pid === undefined) throw new Error(`${agent} does not run`)
  return pid
}

interface PolicyObject {
  readonly kind: string
  readonly metadata: { readonly namespace: string; readonly name: string }
}

/** Applies it, and waits until agents have acknowledged it. */
async function inForce(lab: Lab, object: PolicyObject): Promise<void> {
  const { kind, metadata } = object
  await lab.apply(JSON.stringify(object))
  const generation = await lab.kubectl(
    ...['get', '-n', metadata.namespace, kind.toLowerCase(), metadata.name],
    ...['-o', 'jsonpath={.metadata.generation}'],
  )
  await lab.waitFor(`${kind} ${metadata.name} in force`, async () => {
    const enforced = await lab.kubectl(
      ...['get', '-n', metadata.namespace, kind.toLowerCase(), metadata.name],
      ...[
        '-o',
        'jsonpath={range .status.conditions[?(@.type=="Enforced")]}{.status} {.observedGeneration}{end}',
      ],
    )
    return enforced === `True ${generation}` ? true : undefined
  })
}

async function removed(lab: Lab, { kind, metadata }: PolicyObject): Promise<void> {
  await lab.kubectl('delete', '-n', metadata.namespace, kind.toLowerCase(), metadata.name)
}
