// SPDX-License-Identifier: Apache-2.0
// An agent comes to a node where pods run already, and one of them wants to be taken for another: its processes have
// gone to cgroups with the other's name, to namespaces with the other's address, and are older than the other's own.

import t from 'tap'
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { RemoteProcess } from '../capture/support/rpc.ts'
import { ADDRESS, BPF_OBJECT, World, type App, type CgroupName } from '../capture/support/world.ts'
import { missing } from '../helpers.ts'
import { until } from '../support/until.ts'
import type { NodeRequest } from './node-process.ts'
import { AMBIENT, stateFiles } from './node-setting.ts'

const VICTIM = '5f0c1c52-8a3e-4bd1-9d6f-0a53b7d8a001'
const ATTACKER = '11111111-2222-3333-4444-555555555555'
const SERVICE = { address: '10.96.0.80', port: 80 } as const
const CAPTURED = 'captured 10.96.0.80 80'
const skip = missing('root', 'cgroup2')

// The file's own limit, which is tap's 30 s otherwise, must not be less than its story's.
void t.test('given pods older than the agent', { skip }, async (t) => {
  if (!existsSync(BPF_OBJECT))
    execFileSync('make', ['-s', '-C', path.join(import.meta.dirname, '../../bpf')])
  const world = new World(t)
  const directory = await mkdtemp(path.join(tmpdir(), 'ambit-node-'))
  const agents: RemoteProcess[] = []
  t.teardown(async () => {
    for (const agent of agents) await agent.stop('SIGKILL')
    await rm(directory, { recursive: true, force: true })
  })
  const stateDirectory = path.join(directory, 'state')
  const startAgent = async (isApiAway: boolean): Promise<RemoteProcess> => {
    const agent = new RemoteProcess(new URL('./node-process.ts', import.meta.url), {
      netns: world.netns('node'),
      cgroup: `${world.cgroup}/agent`,
    })
    agents.push(agent)
    const request: NodeRequest = {
      cgroupPath: world.cgroup,
      bpffsDir: world.bpffs,
      bpfObjectPath: BPF_OBJECT,
      socketPath: path.join(directory, 'cni.sock'),
      stateDirectory,
      isApiAway,
    }
    const failure = await agent.ask<string | undefined>('open', request)
    if (failure !== undefined) throw new Error(failure)
    return agent
  }
  /** A process in a namespace that it made for itself, with the victim's address. */
  const impostor = async (cgroup: CgroupName): Promise<App> => {
    const script = `ip link set lo up; ip addr add ${ADDRESS.aV4}/32 dev lo
      ip route add unreachable default; exec "$@"`
    const app = world.app('b', cgroup, ['unshare', '-Urn', 'sh', '-ec', script, 'sh'])
    await app.process.ask('close')
    return app
  }
  const told = (agent: RemoteProcess): Promise<readonly string[]> => agent.ask('told')

  // All that pod B can do of itself: a cgroup below its own, named as the victim's.
  const forged = await impostor(`kubepods/pod${ATTACKER}/app/kubepods/pod${VICTIM}/app`)
  // What it cannot do: stands for a hole that nobody has found yet.
  const intruder = await impostor(`kubepods/pod${VICTIM}/app`)
  const victim = world.app('a', `kubepods/pod${VICTIM}/app`)
  await victim.process.ask('close')
  const attacker = world.app('b', `kubepods/pod${ATTACKER}/app`)
  await attacker.process.ask('close')
  const agent = await startAgent(false)
  await agent.ask('label', AMBIENT)

  await t.test('the victim is enrolled, and none who would be it', async (t) => {
    await agent.ask('pod', { name: 'victim', uid: VICTIM, ip: ADDRESS.aV4 })
    await until(async () => (await told(agent)).includes('enrolled victim'), 'the victim')
    t.equal((await victim.connect(SERVICE)).received, CAPTURED)
    for (const [who, app] of Object.entries({ forged, intruder }))
      t.not((await app.connect(SERVICE)).received, CAPTURED, who)
    const plain = await attacker.connect({ address: ADDRESS.remoteV4, port: 7070 })
    t.equal(plain.error, 'ECONNREFUSED', 'the attacker is not in the mesh')
    await until(
      async () => (await agent.ask('annotation', 'victim')) === 'enabled',
      'the word of it',
    )
  })

  await t.test('the attacker is what it is', async (t) => {
    await agent.ask('pod', { name: 'attacker', uid: ATTACKER, ip: ADDRESS.bV4 })
    await until(async () => (await told(agent)).includes('enrolled attacker'), 'the attacker')
    t.equal((await attacker.connect(SERVICE)).received, CAPTURED)
    t.not((await forged.connect(SERVICE)).received, CAPTURED, 'in its pod, not in its namespace')
  })

  await t.test(
    'a victim whose own processes are gone is nobody, and its owner hears why',
    async (t) => {
      await victim.process.stop('SIGKILL')
      await agent.ask('deletePod', 'victim')
      await until(async () => (await told(agent)).includes('withdrawn'), 'the withdrawal')
      const again = '77777777-8888-9999-aaaa-bbbbbbbbbbbb'
      const alone = await impostor(`kubepods/pod${again}/app`)
      await agent.ask('pod', { name: 'again', uid: again, ip: ADDRESS.aV4 })
      const events = (): Promise<readonly string[]> => agent.ask('events')
      await until(async () => (await events()).length > 0, 'the event')
      t.match(await events(), [
        /^again: Cannot enrol pod shop\/again: no network namespace of its processes proved to be its own: one was made in a user namespace that is not the node's/,
      ])
      t.notOk((await told(agent)).includes('enrolled again'))
      t.not((await alone.connect(SERVICE)).received, CAPTURED)
      t.equal(await agent.ask('annotation', 'again'), undefined)
      t.same(await stateFiles(stateDirectory), [`${ATTACKER}.json`])
    },
  )

  await t.test('the next agent proves again what the last one had found', async (t) => {
    await agents.at(-1)?.stop('SIGKILL')
    const next = await startAgent(true)
    await until(
      async () => (await told(next)).includes('enrolled attacker'),
      'the pod found before',
    )
    t.equal((await attacker.connect(SERVICE)).received, CAPTURED)
  })
})
