// SPDX-License-Identifier: Apache-2.0
// A pod calls and is called in every phase of its life: new connections and open ones, on its own node, across nodes and
// outside of the mesh. And it leaves the mesh without losing one, though its peers never hear of it.

import t, { type Test } from 'tap'
import { missing } from '../helpers.ts'
import { TCP_PORTS } from './programs/ports.ts'
import {
  type AccessLine,
  accessLines,
  agentOf,
  applyAll,
  linesWhere,
  meshLab,
  NEEDS,
  waitForCapture,
} from './support/mesh-lab.ts'
import {
  namespaceManifest,
  podAddress,
  type Running,
  serverManifest,
  serviceManifest,
  start,
} from './support/pods.ts'

const skip = missing(...NEEDS)
const HELD = 2
const ROUNDS_PER_PHASE = 10

interface Steady {
  readonly heldFailures: readonly string[]
  readonly opened: number
  readonly openFailures: readonly string[]
}

type Traffic = ReadonlyMap<string, Running<Steady>>

/** A shell that waits until there is a file in the volume that the pod's containers share. */
const untilFile = (name: string): string => `until [ -e /shared/${name} ]; do sleep 0.1; done`
const volumeMounts = [{ name: 'shared', mountPath: '/shared' }]

/** Its server and its callers run in the sidecar, which outlives the main container; what comes before is an init container. */
const SUBJECT = {
  terminationGracePeriodSeconds: 3600,
  volumes: [{ name: 'shared', emptyDir: {} }],
  initContainers: [
    {
      name: 'init',
      image: 'host',
      command: ['sh', '-c', `node test/e2e/programs/server.ts & ${untilFile('start')}`],
      volumeMounts,
    },
    {
      name: 'sidecar',
      image: 'host',
      restartPolicy: 'Always',
      command: [
        'sh',
        '-c',
        `trap "touch /shared/sidecar-term" TERM; node test/e2e/programs/server.ts & ${untilFile('end')}`,
      ],
      volumeMounts,
    },
  ],
  containers: [
    {
      name: 'main',
      image: 'host',
      command: ['sh', '-c', `trap "touch /shared/term" TERM; ${untilFile('main-end')}`],
      lifecycle: {
        preStop: {
          exec: { command: ['sh', '-c', `touch /shared/stopping; ${untilFile('stopped')}`] },
        },
      },
      volumeMounts,
    },
  ],
}

await t.test('a pod in every phase of its life', { skip }, async (t) => {
  const lab = await meshLab(t)
  await applyAll(lab, [
    namespaceManifest('mesh'),
    namespaceManifest('plain', false),
    namespaceManifest('flip'),
    serverManifest({ namespace: 'mesh', name: 'near', node: 'node-a' }),
    serverManifest({ namespace: 'mesh', name: 'far', node: 'node-b' }),
    serverManifest({ namespace: 'plain', name: 'outside', node: 'node-b' }),
    serverManifest({ namespace: 'flip', name: 'leaver', node: 'node-a' }),
    serviceManifest('mesh', 'far', { app: 'far' }),
    serviceManifest('mesh', 'subject', { app: 'subject' }, { publishNotReadyAddresses: true }),
    serverManifest({ namespace: 'mesh', name: 'subject', node: 'node-a', spec: SUBJECT }),
  ])
  const fileOf = async (name: string, container: string, verb: string): Promise<boolean> =>
    (await lab.exec('mesh/subject', [verb, `/shared/${name}`], { container })).code === 0
  const subject = await lab.waitFor('the init container', async () =>
    (await fileOf('', 'init', 'ls')) ? await podAddress(lab, 'mesh/subject', 4) : undefined,
  )
  const address = async (pod: string): Promise<string> => await podAddress(lab, pod, 4)
  const startAll = async (
    ways: readonly (readonly [string, string, string])[],
  ): Promise<Traffic> => {
    const running = new Map<string, Running<Steady>>()
    for (const [way, pod, target] of ways) {
      const each = start<Steady>(lab, pod, 'steady', target, TCP_PORTS.echo, HELD, ROUNDS_PER_PHASE)
      t.teardown(() => each.child.kill('SIGKILL'))
      running.set(way, each)
    }
    for (const each of running.values()) await each.said('steady')
    return running
  }
  /** Both kinds of connections have had their rounds since the last phase. */
  const phase = async (traffic: Traffic, name: string): Promise<void> => {
    const all = [...traffic.values()]
    for (const { child } of all) child.stdin?.write(`${name}\n`)
    await Promise.all(all.map((each) => each.said(`done ${name}`)))
  }
  const finish = async (t: Test, traffic: Traffic, phases: string): Promise<void> => {
    for (const [way, each] of traffic) {
      const { heldFailures, openFailures, opened } = await each.finish('SIGTERM')
      t.strictSame(heldFailures, [], `${phases}, ${way}: every open connection goes on`)
      t.strictSame(openFailures, [], `${phases}, ${way}: ${opened} new ones`)
    }
  }
  const ways = async (
    container: string,
  ): Promise<readonly (readonly [string, string, string])[]> => {
    const from = `mesh/subject/${container}`
    return [
      ['to another node', from, await address('mesh/far')],
      ['to a service', from, 'far.mesh'],
      ['to its own node', from, await address('mesh/near')],
      ['to the outside', from, await address('plain/outside')],
      ['from another node', 'mesh/far', subject],
      ['from its own node', 'mesh/near', subject],
      ['from the outside', 'plain/outside', subject],
    ]
  }

  /** As long as the pod is ready: who terminates and serves yet is called when its Service has nobody else. */
  const byService = ['from another node by its service', 'mesh/far', 'subject.mesh'] as const

  await t.test('in its init container', async (t) => {
    for (const pod of ['mesh/near', 'mesh/far', 'plain/outside'])
      await lab.waitFor(`${pod} to serve`, async () =>
        (await lab.exec(pod, ['curl', '-sf', 'http://127.0.0.1:8080/'])).code === 0
          ? true
          : undefined,
      )
    await waitForCapture(lab, 'mesh', true)
    const traffic = await startAll([...(await ways('init')), byService])
    await phase(traffic, 'init')
    await finish(t, traffic, 'init')
    await fileOf('start', 'init', 'touch')
  })

  await t.test(
    'while it runs, in its preStop hook, after TERM, and beside its sidecar',
    async (t) => {
      await lab.waitForPods('mesh')
      const traffic = await startAll(await ways('sidecar'))
      const called = await startAll([byService])
      await phase(traffic, 'running')
      await phase(called, 'running')
      await lab.kubectl('delete', 'pod', '-n', 'mesh', 'subject', '--wait=false')
      const reached = async (file: string): Promise<true | undefined> =>
        (await fileOf(file, 'sidecar', 'ls')) ? true : undefined
      await lab.waitFor('the preStop hook', () => reached('stopping'))
      await phase(traffic, 'preStop')
      await phase(called, 'preStop')
      await fileOf('stopped', 'sidecar', 'touch')
      await lab.waitFor('TERM', () => reached('term'))
      await phase(traffic, 'TERM')
      await phase(called, 'TERM')
      await finish(t, called, 'from running to TERM')
      await fileOf('main-end', 'sidecar', 'touch')
      await lab.waitFor('TERM of the sidecar', () => reached('sidecar-term'))
      await phase(traffic, 'sidecar')
      await finish(t, traffic, 'from running to the sidecar')
      const lines = [...(await accessLines(lab, 'node-a')), ...(await accessLines(lab, 'node-b'))]
      t.strictSame(
        lines.filter(({ error }) => error?.includes('drain') === true),
        [],
        'nothing of it was drained',
      )
    },
  )

  await t.test('while it ends, by the agent that comes after', async (t) => {
    const before = await agentOf(lab, 'node-a')
    await lab.kubectl('delete', 'pod', '-n', 'ambit-system', before.split('/')[1] ?? '')
    await lab.waitForPods('ambit-system')
    const traffic = await startAll(await ways('sidecar'))
    await phase(traffic, 'again')
    await finish(t, traffic, 'after the agent was restarted')
    await fileOf('end', 'sidecar', 'touch')
    await lab.waitFor('its end', async () => {
      const { code } = await lab.tryKubectl('get', 'pod', '-n', 'mesh', 'subject')
      return code === 0 ? undefined : true
    })
  })

  await t.test('it leaves the mesh, and its peers never hear of it', async (t) => {
    await waitForCapture(lab, 'flip', true)
    const leaver = await address('flip/leaver')
    const traffic = await startAll([
      ['from another node', 'mesh/far', leaver],
      ['from its own node', 'mesh/near', leaver],
      ['from the outside', 'plain/outside', leaver],
      ['to another node', 'flip/leaver', await address('mesh/far')],
      ['to its own node', 'flip/leaver', await address('mesh/near')],
    ])
    await phase(traffic, 'in the mesh')
    const controllers = await lab.kubectl(
      'get',
      'pods',
      '-n=ambit-system',
      '-l=app=ambit-controller',
      '-o=jsonpath={.items[*].metadata.name}',
    )
    const pids = controllers
      .split(' ')
      .map((name) => lab.pod(`ambit-system/${name}`).containers[0]?.process?.pid)
      .filter((pid) => pid !== undefined)
    t.ok(pids.length > 0)
    const thaw = (): void => {
      for (const pid of pids) process.kill(pid, 'SIGCONT')
    }
    t.teardown(thaw)
    for (const pid of pids) process.kill(pid, 'SIGSTOP')
    await lab.kubectl('label', 'namespace', 'flip', 'istio.io/dataplane-mode-')
    await waitForCapture(lab, 'flip', false)
    await phase(traffic, 'left')
    // Far longer than any wait for peers that was ever guessed.
    for (const round of ['long ago', 'longer ago', 'very long ago']) await phase(traffic, round)
    const isHbone = (line: AccessLine): boolean =>
      String(line['dst.addr']).startsWith(`${leaver}:15008`)
    const hbone = (await accessLines(lab, 'node-b')).filter(isHbone).length
    await phase(traffic, 'believed')
    await linesWhere(lab, 'node-b', 'lines of calls that are made now', isHbone, hbone + 1)
    t.pass('its peers call it by HBONE all the time')
    thaw()
    await phase(traffic, 'heard of')
    await finish(t, traffic, 'before, unknown to its peers, and known')
  })
})
