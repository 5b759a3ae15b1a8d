// SPDX-License-Identifier: Apache-2.0
// Given a node whose agent runs as a process of its own, when it is told to end, then open connections may finish and
// pods stay closed until the next agent; with --unpin-on-exit nothing of the mesh is left on the node.

import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import t from 'tap'
import { Pins } from '../../agent/capture/pins.ts'
import type { RawResult } from '../capture/support/raw-socket.ts'
import { RemoteProcess } from '../capture/support/rpc.ts'
import { ADDRESS, type App, BPF_OBJECT, World } from '../capture/support/world.ts'
import { pluginBinary, pluginConfig, runPlugin } from '../cni/plugin.ts'
import { missing } from '../helpers.ts'
import { until } from '../support/until.ts'
import { AgentCommand } from './support/agent-command.ts'
import type { ClusterFiles } from './support/cluster-process.ts'

const skip = missing('root', 'cgroup2') || (existsSync(BPF_OBJECT) ? false : 'needs bpf/build')
const UID = {
  a: '5f0c1c52-8a3e-4bd1-9d6f-0a53b7d8a00a',
  b: '5f0c1c52-8a3e-4bd1-9d6f-0a53b7d8a00b',
} as const
/** Serves one answer and ends. */
const ONCE_PORT = 7070
/** Echoes for as long as the caller likes. */
const ECHO_PORT = 7071
const OUTSIDE = { address: ADDRESS.remoteV4, port: ONCE_PORT } as const
const POD = { address: ADDRESS.aV4, port: ONCE_PORT } as const
/** More than a test takes: an agent that waits for it has not seen that its connections are over. */
const PATIENT_S = 20
const HASTY_S = 0.5
const CONFLIST = `${JSON.stringify({ cniVersion: '1.0.0', name: 'pods', plugins: [{ type: 'ptp' }] }, undefined, 2)}\n`

// The file's own limit, which is tap's 30 s otherwise, must not be less than its story's.
void t.test('an agent that is told to end', { skip }, async (t) => {
  pluginBinary()
  const world = new World(t)
  const directory = await mkdtemp(path.join(tmpdir(), 'ambit-stopping-'))
  const conflist = path.join(directory, 'net.d', '10-pods.conflist')
  const socket = path.join(directory, 'cni.sock')
  await mkdir(path.dirname(conflist))
  await writeFile(conflist, CONFLIST)
  const agents: AgentCommand[] = []
  const cluster = new RemoteProcess(new URL('./support/cluster-process.ts', import.meta.url), {
    netns: world.netns('node'),
    cgroup: `${world.cgroup}/other`,
  })
  t.teardown(async () => {
    for (const agent of agents) {
      agent.signal('SIGKILL')
      await agent.exited
    }
    await cluster.stop('SIGKILL')
    await rm(directory, { recursive: true, force: true })
  })
  const files = await cluster.ask<ClusterFiles>('open', directory)

  const startAgent = async (drainSeconds: number, unpinOnExit = false): Promise<AgentCommand> => {
    const agent = new AgentCommand(
      { netns: world.netns('node'), cgroup: `${world.cgroup}/agent` },
      {
        'node-name': 'node-a',
        kubeconfig: files.kubeconfig,
        cgroup: world.cgroup,
        'kubelet-cgroup': `${world.cgroup}/kubelet`,
        bpffs: world.bpffs,
        'bpf-object': BPF_OBJECT,
        'cni-bin-dir': path.join(directory, 'bin'),
        'cni-conf-dir': path.dirname(conflist),
        'cni-socket': socket,
        'state-dir': path.join(directory, 'state'),
        'xds-address': files.xdsAddress,
        'ca-root-file': files.rootFile,
        'token-file': files.tokenFile,
        workers: '1',
        'drain-deadline': String(drainSeconds),
        'unpin-on-exit': unpinOnExit,
      },
    )
    agents.push(agent)
    await agent.says('the mesh state is complete')
    return agent
  }
  const addPod = async (site: 'a' | 'b'): Promise<void> => {
    const { addresses } = world.pod(site)
    await cluster.ask('pod', { name: site, uid: UID[site], addresses })
    const sandbox = world.netns(site)
    const [v4, v6] = addresses
    const run = await runPlugin(
      'ADD',
      pluginConfig(socket, {
        timeoutMs: 8000,
        prevResult: {
          cniVersion: '1.0.0',
          interfaces: [{ name: 'eth0', sandbox }],
          ips: [
            { interface: 0, address: `${v4}/32` },
            { interface: 0, address: `${v6}/128` },
          ],
        },
      }),
      {
        CNI_NETNS: sandbox,
        CNI_CONTAINERID: `sandbox-${site}`,
        CNI_ARGS: `K8S_POD_NAMESPACE=shop;K8S_POD_NAME=${site};K8S_POD_UID=${UID[site]}`,
      },
    )
    if (run.code !== 0) throw new Error(`CNI ADD failed: ${run.stdout}`)
  }
  const podPins = (): readonly string[] =>
    new Pins(world.bpffs)
      .listPods()
      .map(({ uid }) => uid)
      .sort()

  const server = world.app('a')
  const remoteServer = world.app('remote')
  for (const app of [server, remoteServer]) {
    await app.serve('0.0.0.0', ONCE_PORT)
    await app.serve('0.0.0.0', ECHO_PORT, true)
  }
  /** Two open connections through the agent: one of the pod's, one to it. */
  const openBoth = async (): Promise<OpenPair> => OpenPair.open(world.app('a'), world.app('remote'))
  const app = world.app('a')
  const other = world.app('b')
  const remote = world.app('remote')

  const first = await startAgent(PATIENT_S)
  await addPod('a')
  await addPod('b')
  await until(async () => (await readFile(conflist, 'utf8')).includes('"ambit-cni"'), 'the chain')
  t.match((await app.connect(OUTSIDE)).received, /^app saw/)

  await t.test('lets open connections finish, and refuses new ones meanwhile', async (t) => {
    const open = await openBoth()
    t.same(await open.echo('before'), ['before', 'before'])
    first.signal('SIGTERM')
    await first.says('stopping')
    t.equal(await firstRefusal(app, OUTSIDE), 'EPERM', 'out of the pod')
    t.equal(await firstRefusal(remote, POD), 'ECONNREFUSED', 'into the pod')
    t.ok(first.isRunning, 'it waits for the two')
    t.same(await open.echo('after'), ['after', 'after'])
    await open.close()
    t.equal(await first.exited, 0)
    t.ok(first.logged('stopped'), 'in good order')
    t.notOk(first.logged('connections were cut at the drain deadline'))
  })

  await t.test('leaves its pods closed and its place kept', async (t) => {
    for (const each of [app, other]) t.equal((await each.connect(OUTSIDE)).error, 'EPERM')
    t.equal((await remote.connect(POD)).error, 'ECONNREFUSED')
    t.same(podPins(), [UID.a, UID.b])
    t.match(await readFile(conflist, 'utf8'), /"ambit-cni"/)
    t.equal(await cluster.ask('redirection', 'a'), 'enabled', 'peers go on speaking HBONE to it')
  })

  await t.test('cuts what is still open at the drain deadline, and says so', async (t) => {
    const second = await startAgent(HASTY_S)
    t.match((await app.connect(OUTSIDE)).received, /^app saw/, 'taken over without CNI')
    const open = await openBoth()
    t.same(await open.echo('before'), ['before', 'before'])
    second.signal('SIGTERM')
    t.equal(await second.exited, 0)
    t.match(second.logged('connections were cut at the drain deadline'), { cut: 2 })
    await open.close()
    t.same(podPins(), [UID.a, UID.b])
    t.equal((await app.connect(OUTSIDE)).error, 'EPERM')
  })

  await t.test('takes everything out of the mesh with --unpin-on-exit', async (t) => {
    const last = await startAgent(PATIENT_S, true)
    const open = await openBoth()
    t.same(await open.echo('before'), ['before', 'before'])
    last.signal('SIGTERM')
    await until(() => podPins().length === 0, 'the pins of all pods to go')
    t.same(await open.echo('after'), ['after', 'after'], 'what is open may finish here, too')
    t.ok(last.isRunning)
    await open.close()
    t.equal(await last.exited, 0)
    t.ok(last.logged('stopped'), 'in good order')

    t.same(
      (await readdir(world.bpffs)).filter((name) => !name.endsWith('.debug')),
      [],
      'nothing is pinned',
    )
    t.equal(attachedPrograms(world.cgroup), '', 'nothing is attached')
    t.equal(await readFile(conflist, 'utf8'), CONFLIST, 'the CNI configuration is what it was')
    t.same(await readdir(path.join(directory, 'bin')), [], 'the plugin is gone')
    t.notOk(existsSync(path.join(directory, 'state')), 'nothing is remembered of any pod')
    t.same(
      (await readdir(directory)).filter((name) => name.includes('.sock')),
      [],
      'nobody could knock at a socket',
    )
    for (const site of ['a', 'b'] as const) {
      t.not(await cluster.ask('redirection', site), 'enabled', 'peers are told')
      t.equal(world.inside(site, 'ip rule show table 100').trim(), '', 'no rule is left')
    }
    const out = await app.connect(OUTSIDE)
    t.equal(out.received, `app saw ${ADDRESS.aV4} at ${ADDRESS.remoteV4}`)
    t.match((await other.connect(OUTSIDE)).received, /^app saw/)
    const into = await remote.connect(POD)
    t.equal(into.received, `app saw ${ADDRESS.remoteV4} at ${ADDRESS.aV4}`)
  })
})

/** A connection out of the pod and one into it. */
class OpenPair {
  readonly #held: readonly { readonly app: App; readonly index: number }[]

  private constructor(held: readonly { readonly app: App; readonly index: number }[]) {
    this.#held = held
  }

  static async open(inPod: App, outside: App): Promise<OpenPair> {
    const hold = async (app: App, address: string) => ({
      app,
      index: await app.process.ask<number>('hold', { address, port: ECHO_PORT }),
    })
    return new OpenPair([await hold(inPod, ADDRESS.remoteV4), await hold(outside, ADDRESS.aV4)])
  }

  /** Says something over both and gives what comes back. */
  echo(text: string): Promise<readonly string[]> {
    return Promise.all(
      this.#held.map(({ app, index }) => app.process.ask<string>('echo', { index, text })),
    )
  }

  async close(): Promise<void> {
    for (const { app } of this.#held) await app.process.ask('close')
  }
}

/** Connects until it is refused, which is soon after the agent was told to end; until then it must be served. */
async function firstRefusal(app: App, target: typeof OUTSIDE | typeof POD): Promise<string> {
  let refusal = ''
  await until(async () => {
    const { error, received }: RawResult = await app.connect(target)
    if (error !== undefined) refusal = error
    else if (received?.startsWith('app saw') !== true)
      refusal = `accepted, and answered "${received}"`
    return refusal !== ''
  }, 'a refusal')
  return refusal
}

function attachedPrograms(cgroup: string): string {
  return execFileSync('bpftool', ['cgroup', 'show', cgroup], { encoding: 'utf8' }).trim()
}
