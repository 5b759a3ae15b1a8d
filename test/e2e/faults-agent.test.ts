// SPDX-License-Identifier: Apache-2.0
// Faults of the mesh's own parts, on a real lab and under traffic: a port that is taken, a pod that goes, an agent that
// is killed, a controller and an API server that are away.

import t from 'tap'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { PIN_VERSION } from '../../agent/capture/pins.ts'
import type { Lab } from '../../lab/cluster/index.ts'
import { PODS } from '../../mesh/kube/index.ts'
import { missing } from '../helpers.ts'
import {
  accessLines,
  agentOf,
  captureFabric,
  meshLab,
  NEEDS,
  waitForCapture,
  waitForNews,
} from './support/mesh-lab.ts'
import { eventsIn, isCaptured, objectsIn } from './support/objects.ts'
import { failures, startTraffic } from './support/pod-traffic.ts'
import { tracesOf } from './support/traces.ts'

const skip = missing(...NEEDS)
const SHOP = fileURLToPath(new URL('../../lab/samples/shop.yaml', import.meta.url))
const MARKER = 'ambit-marker-of-the-faults'
/** How long the outages of this file last: many calls long. Milliseconds. */
const OUTAGE_MS = 1_500

/** What a frame of the calls takes in a capture at least. */
const SMALLEST_PACKET_BYTES = 54
/** The app closes its socket with connections in the queue that it has not looked at: lost with or without a mesh. */
const MAX_LOST_CALLS = 5

/** Holds port 15008 before it is labelled, until it is told to let go. */
const SQUATTER = `
apiVersion: v1
kind: Pod
metadata: { name: squatter, namespace: shop, labels: { app: squatter } }
spec:
  nodeName: node-b
  terminationGracePeriodSeconds: 1
  containers:
    - name: app
      image: host
      command:
        - node
        - -e
        - |
          const { createServer } = require('node:http')
          const mine = createServer((_, response) => response.end('squatter')).listen(15008)
          createServer((request, response) => {
            if (request.url === '/free') mine.close()
            response.end('squatter')
          }).listen(8080)
      readinessProbe: { httpGet: { path: /, port: 8080 }, periodSeconds: 1 }
`

const LATECOMER = (name: string): string => `
apiVersion: v1
kind: Pod
metadata: { name: ${name}, namespace: shop, labels: { app: ${name} } }
spec:
  nodeName: node-b
  terminationGracePeriodSeconds: 1
  containers:
    - name: app
      image: host
      command: [node, lab/samples/server.ts]
      readinessProbe: { httpGet: { path: /healthz, port: 8080 }, periodSeconds: 1 }
`

await t.test('given the shop, and a pod that holds port 15008', { skip }, async (t) => {
  const lab = await meshLab(t, [SHOP])
  await lab.apply(SQUATTER)
  await lab.waitForPods('shop')
  const clusterIp = await lab.kubectl(
    'get',
    'service',
    '-n',
    'shop',
    'catalog',
    '-o',
    'jsonpath={.spec.clusterIP}',
  )
  /** By address: cluster DNS is in the same process as the API server, which is stopped below. */
  const catalog = `http://${clusterIp}/`

  await t.test(
    'the label enrols the others; that pod is reported, left in plaintext and reachable',
    async (t) => {
      await lab.kubectl('label', 'namespace', 'shop', 'istio.io/dataplane-mode=ambient')
      await lab.waitFor('the others', async () =>
        (await captured(lab)) === 'catalog-v1 catalog-v2 frontend' ? true : undefined,
      )
      const events = await lab.waitFor('an event', async () => {
        const concerned = { object: 'squatter', reason: 'EnrolmentFailed' }
        const found = await eventsIn(lab, 'shop', concerned)
        return found === '' ? undefined : found
      })
      t.match(events, /15008/)
      t.match(events, /AMB_PORT_TAKEN/)
      t.match(events, /stays outside the mesh/)
      const said = /"pod":"shop\/squatter".*AMB_PORT_TAKEN|AMB_PORT_TAKEN.*"pod":"shop\/squatter"/
      await lab.waitFor('the log to say so', async () =>
        said.test(lab.log(await agentOf(lab, 'node-b'))) ? true : undefined,
      )
      t.pass('and so does the log')
      const address = await podIp(lab, 'squatter')
      t.match(await curl(lab, 'shop/frontend', `http://${address}:8080/`), 'squatter')
      t.match(await curl(lab, 'legacy/batch', `http://${address}:8080/`), 'squatter')
      t.match(await curl(lab, 'legacy/batch', `http://${address}:15008/`), 'squatter')
      t.match(await curl(lab, 'shop/frontend', catalog), '"catalog"')
      t.match(await captured(lab), /^catalog-v1 catalog-v2 frontend$/)
    },
  )

  await t.test('once the port is free that pod is enrolled, too', async (t) => {
    const address = await podIp(lab, 'squatter')
    t.match(await curl(lab, 'legacy/batch', `http://${address}:8080/free`), 'squatter')
    await waitForCapture(lab, 'shop', true)
    await waitForNews(lab, 'node-a', 'shop', {})
    t.match(await curl(lab, 'shop/frontend', `http://${address}:8080/`), 'squatter')
    const line = await lab.waitFor('its access line', async () =>
      (await accessLines(lab, 'node-a')).find(
        (each) => each['dst.hbone_addr'] === `${address}:8080`,
      ),
    )
    t.equal(line.direction, 'outbound')
  })

  await t.test(
    'a pod deleted while it is enrolled leaves nothing, and its service goes on',
    async (t) => {
      const traffic = await startTraffic(t, lab, 'shop/frontend', catalog)
      const { uid } = lab.pod('shop/catalog-v1')
      const linksBefore = (await tracesOf(lab.name)).bpfLinks.length
      t.equal(pinsOf(lab, 'node-b', uid).length, 1)
      await lab.kubectl('delete', 'pod', '-n', 'shop', 'catalog-v1')
      await lab.waitFor('its pin and state to go', () =>
        pinsOf(lab, 'node-b', uid).length === 0 && statesOf(lab, 'node-b', uid).length === 0
          ? true
          : undefined,
      )
      t.equal((await tracesOf(lab.name)).bpfLinks.length, linksBefore - 1)
      const goneAt = Date.now()
      await traffic.firstGood(goneAt + 500)
      const calls = await traffic.stop()
      t.comment(`${calls.length} calls, failed: ${JSON.stringify(failures(calls))}`)
      t.strictSame(failures(calls.filter((call) => call.startedAt > goneAt)), {}, 'none after it')
      const failed = calls.filter((call) => call.error !== undefined)
      t.ok(failed.length <= MAX_LOST_CALLS, `${failed.length} calls failed while it went`)
      // At once, without any grace: the sandbox is gone before anybody could drain.
      const { uid: forced } = lab.pod('shop/squatter')
      await lab.kubectl('delete', 'pod', '-n', 'shop', 'squatter', '--force', '--grace-period=0')
      const group = join(lab.layout.cgroup, 'node-b', 'kubepods', `pod${forced}`)
      await lab.waitFor('its pin, state and cgroup to go', () =>
        pinsOf(lab, 'node-b', forced).length === 0 &&
        statesOf(lab, 'node-b', forced).length === 0 &&
        !existsSync(group)
          ? true
          : undefined,
      )
      t.match(await curl(lab, 'shop/frontend', catalog), '"catalog"')
    },
  )

  for (const node of ['node-a', 'node-b'] as const) {
    const side = node === 'node-a' ? "the client's" : "the server's"
    await t.test(
      `${side} agent is killed under traffic: capture resumes, nothing is doubled`,
      async (t) => {
        const before = await kernelState(lab)
        const agent = await agentOf(lab, node)
        const pid = agentPid(lab, agent)
        const endCapture = await captureFabric(t, lab)
        const traffic = await startTraffic(t, lab, 'shop/frontend', catalog, { marker: MARKER })
        const killedAt = Date.now()
        process.kill(pid, 'SIGKILL')
        // The agent that lives may have answered a call or two that was under way.
        await lab.waitFor('a call that fails', () =>
          traffic.calls.some((call) => call.error !== undefined) ? true : undefined,
        )
        const failed = traffic.calls.find((call) => call.error !== undefined)
        const good = await traffic.firstGood(failed?.endedAt ?? killedAt)
        const calls = await traffic.stop()
        const tookMs = good.endedAt - killedAt
        t.comment(
          `${side} agent: ${tookMs} ms from the kill to the first new connection; ${JSON.stringify(failures(calls))}`,
        )
        t.strictSame(
          failures(calls.filter((call) => call.startedAt >= good.startedAt)),
          {},
          'and all after it',
        )
        const packets = await endCapture()
        t.ok(packets.length > calls.length * SMALLEST_PACKET_BYTES, 'the capture saw the traffic')
        t.notOk(packets.includes(MARKER), 'nothing was said in plaintext meanwhile')
        t.equal(await agentOf(lab, node), agent, 'the same pod, restarted by the kubelet')
        await lab.waitForPods('ambit-system')
        t.not(agentPid(lab, agent), pid)
        t.strictSame(
          await kernelState(lab),
          before,
          'links, programs, maps, rules, routes and listeners are as many',
        )
      },
    )
  }

  await t.test(
    'while an agent is down its pods are closed, out and in, and say nothing in plaintext',
    async (t) => {
      const kubelet = processOf(lab, 'kubelet-node-b')
      const agent = await agentOf(lab, 'node-b')
      const catalogIp = await podIp(lab, 'catalog-v2')
      const outsider = await podIp(lab, 'batch', 'legacy')
      t.match(await curl(lab, 'legacy/batch', `http://${catalogIp}:8080/`), '"catalog"')
      // Stopped, the kubelet restarts nothing.
      process.kill(kubelet, 'SIGSTOP')
      t.teardown(() => process.kill(kubelet, 'SIGCONT'))
      process.kill(agentPid(lab, agent), 'SIGKILL')
      const endCapture = await captureFabric(t, lab)
      await sleep(OUTAGE_MS)
      const client = ['node', 'lab/samples/client.ts', `http://${outsider}:8080/`, MARKER]
      t.match((await lab.exec('shop/catalog-v2', client)).stdout, /EPERM|ENETUNREACH/, 'no way out')
      t.not((await tryCurl(lab, 'legacy/batch', `http://${catalogIp}:8080/`)).code, 0, 'no way in')
      t.not((await tryCurl(lab, 'shop/frontend', catalog)).code, 0, 'nor from the mesh')
      t.match(
        await curl(lab, 'shop/catalog-v2', 'http://127.0.0.1:8080/'),
        '"catalog"',
        'but loopback',
      )
      t.notOk((await endCapture()).includes(MARKER))
      process.kill(kubelet, 'SIGCONT')
      await lab.waitFor('the agent', async () =>
        (await tryCurl(lab, 'shop/frontend', catalog)).code === 0 ? true : undefined,
      )
      await lab.waitForPods('ambit-system')
      t.match(await curl(lab, 'legacy/batch', `http://${catalogIp}:8080/`), '"catalog"')
    },
  )

  await t.test(
    'the controller is away: identities and traffic go on, and it is found again',
    async (t) => {
      const scale = async (replicas: number): Promise<void> => {
        await lab.kubectl(
          'scale',
          '-n',
          'ambit-system',
          'deployment/ambit-controller',
          `--replicas=${replicas}`,
        )
      }
      const traffic = await startTraffic(t, lab, 'shop/frontend', catalog)
      await scale(0)
      await lab.kubectl(
        'wait',
        '-n',
        'ambit-system',
        'pod',
        '-l',
        'app=ambit-controller',
        '--for=delete',
        '--timeout=120s',
      )
      const downAt = Date.now()
      await lab.apply(LATECOMER('early'))
      await sleep(OUTAGE_MS)
      t.match(await curl(lab, 'legacy/batch', catalog), '"catalog"', 'plaintext comes in')
      await traffic.firstGood(downAt + OUTAGE_MS)
      await scale(1)
      await lab.waitForPods()
      await reachedByHbone(lab, 'early')
      await lab.apply(LATECOMER('late'))
      await lab.waitForPods('shop')
      await reachedByHbone(lab, 'late')
      const calls = await traffic.stop()
      t.strictSame(failures(calls), {}, `none of ${calls.length} calls failed`)
    },
  )

  await t.test(
    'the API server hangs, then breaks all watches and has forgotten its history (410)',
    async (t) => {
      const daemon = processOf(lab, 'daemon')
      const traffic = await startTraffic(t, lab, 'shop/frontend', catalog)
      process.kill(daemon, 'SIGSTOP')
      t.teardown(() => process.kill(daemon, 'SIGCONT'))
      const hungAt = Date.now()
      await sleep(OUTAGE_MS)
      await traffic.firstGood(hungAt + OUTAGE_MS / 2)
      process.kill(daemon, 'SIGUSR2')
      process.kill(daemon, 'SIGCONT')
      // Told while nobody watches: what came and what went must both be found by listing anew.
      await lab.kubectl('delete', 'pod', '-n', 'shop', 'early', '--wait=false')
      await lab.apply(LATECOMER('after-gone'))
      await lab.waitForPods('shop')
      await reachedByHbone(lab, 'after-gone')
      await lab.kubectl('wait', '-n', 'shop', 'pod/early', '--for=delete', '--timeout=120s')
      await lab.kubectl('label', 'namespace', 'shop', 'istio.io/dataplane-mode-')
      await waitForCapture(lab, 'shop', false)
      await lab.kubectl('label', 'namespace', 'shop', 'istio.io/dataplane-mode=ambient')
      await waitForCapture(lab, 'shop', true)
      const calls = await traffic.stop()
      t.strictSame(failures(calls), {}, `none of ${calls.length} calls failed`)
      const restarts = await lab.kubectl(
        'get',
        'pods',
        '-n',
        'ambit-system',
        '-l',
        'app=ambit-controller',
        '-o',
        'jsonpath={.items[*].status.containerStatuses[*].restartCount}',
      )
      t.equal(restarts, '0', 'the controller lived through it')
    },
  )
})

/** Who is captured, by what the agents annotated. */
async function captured(lab: Lab): Promise<string> {
  return (await objectsIn(lab, PODS, 'shop'))
    .filter((pod) => isCaptured(pod))
    .map(({ metadata }) => metadata?.name)
    .toSorted()
    .join(' ')
}

async function podIp(lab: Lab, name: string, namespace = 'shop'): Promise<string> {
  return await lab.kubectl('get', 'pod', '-n', namespace, name, '-o', 'jsonpath={.status.podIP}')
}

async function tryCurl(
  lab: Lab,
  pod: string,
  url: string,
): Promise<Awaited<ReturnType<Lab['exec']>>> {
  return await lab.exec(pod, ['curl', '-sS', '-m', '3', url])
}

async function curl(lab: Lab, pod: string, url: string): Promise<string> {
  const { code, stdout, stderr } = await tryCurl(lab, pod, url)
  if (code !== 0) throw new Error(`${pod} cannot get ${url}: ${stderr.trim()}`)
  return stdout
}

/** Waits until the frontend reaches a pod, and does it through a tunnel. */
async function reachedByHbone(lab: Lab, name: string): Promise<void> {
  const address = await podIp(lab, name)
  await lab.waitFor(`a tunnel to ${name}`, async () => {
    await curl(lab, 'shop/frontend', `http://${address}:8080/`)
    const lines = await accessLines(lab, 'node-a')
    return lines.find((line) => line['dst.hbone_addr'] === `${address}:8080`)
  })
}

function agentPid(lab: Lab, agent: string): number {
  const pid = lab.pod(agent).containers[0]?.process?.pid
  if (pid === undefined) throw new Error(`${agent} does not run`)
  return pid
}

function processOf(lab: Lab, role: string): number {
  const found = lab.state.processes.find((each) => each.role === role)
  if (found === undefined) throw new Error(`the lab has no ${role}`)
  return found.pid
}

/** Pins of a pod's links. */
function pinsOf(lab: Lab, node: string, uid: string): readonly string[] {
  return readdirSync(join(lab.layout.bpfDir, node, PIN_VERSION, 'pods')).filter((pin) =>
    pin.startsWith(uid),
  )
}

/** What the agent remembers of a pod. */
function statesOf(lab: Lab, node: string, uid: string): readonly string[] {
  const directory = join(lab.layout.runDir, 'nodes', node, 'agent', 'state')
  return existsSync(directory)
    ? readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter((file) =>
        file.includes(uid),
      )
    : []
}

/** Everything of capture that could be there twice. */
async function kernelState(lab: Lab): Promise<object> {
  const inPod = async (pod: string): Promise<object> => {
    const run = async (script: string): Promise<string> => {
      const { stdout } = await lab.exec(pod, ['sh', '-c', script])
      return stdout.trim()
    }
    return {
      rules: await run('ip rule; ip -6 rule'),
      routes: await run('ip route show table 100; ip -6 route show table 100'),
      listeners: await run("ss -Htln | awk '{print $4}' | sort"),
    }
  }
  const { bpfLinks, bpfPrograms, bpfMaps } = await tracesOf(lab.name)
  return {
    links: bpfLinks.length,
    programs: bpfPrograms.length,
    maps: bpfMaps.length,
    pins: lab.nodes.map(
      (node) => readdirSync(join(lab.layout.bpfDir, node), { recursive: true }).length,
    ),
    frontend: await inPod('shop/frontend'),
    catalog: await inPod('shop/catalog-v2'),
  }
}
