// SPDX-License-Identifier: Apache-2.0
// The whole way on a real kernel: a runtime calls the plugin, the agent captures the pod, its connections arrive.

import t from 'tap'
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { RemoteProcess } from '../capture/support/rpc.ts'
import { ADDRESS, BPF_OBJECT, World } from '../capture/support/world.ts'
import { pluginBinary, pluginConfig, runPlugin } from '../cni/plugin.ts'
import { missing } from '../helpers.ts'
import type { NodeRequest } from './node-process.ts'
import { AMBIENT } from './node-setting.ts'

const skip = missing('root', 'cgroup2')
const UID = '5f0c1c52-8a3e-4bd1-9d6f-0a53b7d8a001'
const SERVICE = { address: '10.96.0.80', port: 80 } as const
const REMOTE = { address: ADDRESS.remoteV4, port: 7070 } as const
const CAPTURED = 'captured 10.96.0.80 80'
const PLAIN = `app saw ${ADDRESS.aV4} at ${ADDRESS.remoteV4}`
const ROUNDS = 10

// The file's own limit, which is tap's 30 s otherwise, must not be less than its story's.
void t.test('given a node with a pod', { skip }, async (t) => {
  pluginBinary()
  if (!existsSync(BPF_OBJECT))
    execFileSync('make', ['-s', '-C', path.join(import.meta.dirname, '../../bpf')])
  const world = new World(t)
  const directory = await mkdtemp(path.join(tmpdir(), 'ambit-node-'))
  const agents: RemoteProcess[] = []
  t.teardown(async () => {
    for (const agent of agents) await agent.stop('SIGKILL')
    await rm(directory, { recursive: true, force: true })
  })
  const socketPath = path.join(directory, 'run', 'cni.sock')
  const startAgent = async (isApiAway: boolean): Promise<RemoteProcess> => {
    const script = new URL('./node-process.ts', import.meta.url)
    const agent = new RemoteProcess(script, {
      netns: world.netns('node'),
      cgroup: `${world.cgroup}/agent`,
    })
    agents.push(agent)
    const request: NodeRequest = {
      cgroupPath: world.cgroup,
      bpffsDir: world.bpffs,
      bpfObjectPath: BPF_OBJECT,
      socketPath,
      stateDirectory: path.join(directory, 'state'),
      isApiAway,
    }
    const failure = await agent.ask<string | undefined>('open', request)
    if (failure !== undefined) throw new Error(failure)
    return agent
  }
  const sandbox = world.netns('a')
  const config = pluginConfig(socketPath, {
    timeoutMs: 8000,
    prevResult: {
      cniVersion: '1.0.0',
      interfaces: [{ name: 'eth0', sandbox }],
      ips: [
        { interface: 0, address: `${ADDRESS.aV4}/32` },
        { interface: 0, address: `${ADDRESS.aV6}/128` },
      ],
    },
  })
  const environment = {
    CNI_NETNS: sandbox,
    CNI_ARGS: `K8S_POD_NAMESPACE=shop;K8S_POD_NAME=a;K8S_POD_UID=${UID}`,
  }
  const remote = world.app('remote')
  await remote.serve('0.0.0.0', REMOTE.port)
  const app = world.app('a')
  const first = await startAgent(false)
  await first.ask('label', AMBIENT)
  await first.ask('pod', { name: 'a', uid: UID })

  await t.test('CNI ADD answers when its connections are captured', async (t) => {
    const startedAt = performance.now()
    const run = await runPlugin('ADD', config, environment)
    t.equal(run.code, 0, run.stdout)
    t.comment(`ADD took ${(performance.now() - startedAt).toFixed(1)} ms with the plugin's start`)
    t.equal((await app.connect(SERVICE)).received, CAPTURED)
  })

  await t.test('labels take it out and in, and it is so when the agent says it', async (t) => {
    const times: number[] = []
    for (let round = 0; round < ROUNDS; round += 1) {
      await first.ask('relabel', { labels: {}, what: 'withdrawn' })
      t.equal((await app.connect(REMOTE)).received, PLAIN)
      times.push(await first.ask('relabel', { labels: AMBIENT, what: 'enrolled a' }))
      t.equal((await app.connect(SERVICE)).received, CAPTURED)
    }
    times.sort((a, b) => a - b)
    t.comment(
      `label to captured: median ${times[ROUNDS / 2]?.toFixed(1)} ms, longest ${times.at(-1)?.toFixed(1)} ms`,
    )
  })

  await t.test('after a crash it is captured again though the API server is away', async (t) => {
    await first.stop('SIGKILL')
    t.equal((await app.connect(REMOTE)).error, 'EPERM', 'closed while the agent is down')
    t.match(await runPlugin('ADD', config, environment), { code: 1, json: { code: 11 } })
    const second = await startAgent(true)
    t.same(await second.ask('told'), ['enrolled a'])
    t.equal((await app.connect(SERVICE)).received, CAPTURED)
    t.match(await runPlugin('STATUS', config), { code: 1, json: { code: 50 } })
  })

  await t.test('CNI DEL takes it out', async (t) => {
    t.equal((await runPlugin('DEL', config, environment)).code, 0)
    t.equal((await app.connect(REMOTE)).received, PLAIN)
  })
})
