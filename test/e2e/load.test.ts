// SPDX-License-Identifier: Apache-2.0
// Much traffic at once: a gibibyte arrives as it was sent, two thousand connections live side by side, a reader that
// does not read costs bounded memory, and a storm on a service without endpoints fails fast and harms nobody.

import t from 'tap'
import { missing } from '../helpers.ts'
import { HTTP_PORT, TCP_PORTS } from './programs/ports.ts'
import { agentMemory, agentPid } from './support/memory.ts'
import { until } from '../support/until.ts'
import { accessLines, applyAll, meshLab, NEEDS, waitForCapture } from './support/mesh-lab.ts'
import {
  get,
  namespaceManifest,
  podAddress,
  run,
  serverManifest,
  serverReport,
  serviceManifest,
  start,
} from './support/pods.ts'

const skip = missing(...NEEDS)
const GIBIBYTE = 1024 ** 3
/** The two cores also run both apps. Seconds. */
const TRANSFER_DEADLINE_S = 60
const CROWD = 2000
const BLOCKED_CONNECTIONS = 16
/** What each blocked connection would send if nobody stopped it. Bytes. */
const BLOCKED_BYTES = 24 * 1024 * 1024
/**
 * What 16 blocked connections may cost an agent: windows and stream buffers of a few hundred KiB each way and the
 * collector's slack, against 384 MiB that would pile up without back-pressure. MiB.
 */
const BLOCKED_MEMORY_MIB = 96
const STORM = 1000
/** For the slowest of a thousand calls: sooner than any time-out ends a call, the mesh's or the kernel's. Milliseconds. */
const STORM_SLOWEST_MS = 8_000
const READY_WITHIN_MS = 10_000

interface Transfer {
  readonly isIntact: boolean
  readonly bytes: number
  readonly seconds: number
}

interface Crowd {
  readonly ok: number
  readonly failures: Readonly<Record<string, number>>
  readonly slowestMs: number
}

/** What the agent's admin API says of its connections. */
interface ConfigDump {
  readonly workloadState: Readonly<
    Record<
      string,
      {
        readonly connections: {
          readonly inbound: readonly unknown[]
          readonly outbound: readonly unknown[]
        }
      }
    >
  >
}

await t.test('in a labelled namespace', { skip }, async (t) => {
  const lab = await meshLab(t)
  await applyAll(lab, [
    namespaceManifest('mesh'),
    serverManifest({ namespace: 'mesh', name: 'client', node: 'node-a' }),
    serverManifest({ namespace: 'mesh', name: 'near', node: 'node-a' }),
    serverManifest({ namespace: 'mesh', name: 'far', node: 'node-b' }),
    serviceManifest('mesh', 'far', { app: 'far' }),
    serviceManifest('mesh', 'empty', { app: 'nobody' }),
  ])
  await lab.waitForPods('mesh')
  await waitForCapture(lab, 'mesh', true)
  const address = {
    near: await podAddress(lab, 'mesh/near', 4),
    far: await podAddress(lab, 'mesh/far', 4),
  } as const

  for (const where of ['far', 'near'] as const) {
    await t.test(`a gibibyte to the ${where} pod arrives as it was sent`, async (t) => {
      const transfer = await run<Transfer>(
        lab,
        'mesh/client',
        'transfer',
        address[where],
        TCP_PORTS.digest,
        GIBIBYTE,
      )
      t.comment(`${Math.round(GIBIBYTE / 1024 ** 2 / transfer.seconds)} MiB/s`)
      t.equal(transfer.bytes, GIBIBYTE)
      t.ok(transfer.isIntact, 'the far side counted and summed the same')
      t.ok(transfer.seconds < TRANSFER_DEADLINE_S, `took ${transfer.seconds} s`)
    })

    await t.test(`${CROWD} connections to the ${where} pod all echo at once`, async (t) => {
      const crowd = await run<Crowd>(
        lab,
        'mesh/client',
        'crowd',
        address[where],
        TCP_PORTS.echo,
        CROWD,
      )
      t.comment(`slowest: ${Math.round(crowd.slowestMs)} ms`)
      t.strictSame({ ok: crowd.ok, failures: crowd.failures }, { ok: CROWD, failures: {} })
    })

    await t.test(
      `a ${where} reader that does not read stops the sender, not the agents`,
      async (t) => {
        const memory = async (): Promise<readonly number[]> =>
          await Promise.all(lab.nodes.map((node) => agentMemory(lab, node)))
        const before = await memory()
        const sender = start<Transfer>(
          lab,
          'mesh/client',
          'transfer',
          address[where],
          TCP_PORTS.sink,
          BLOCKED_BYTES,
          BLOCKED_CONNECTIONS,
        )
        t.teardown(() => sender.child.kill('SIGKILL'))
        const stalled = Number((await sender.said('stalled')).split(' ')[1])
        const total = BLOCKED_BYTES * BLOCKED_CONNECTIONS
        // What lies in between is the kernel's buffers, which grow as the machine lets them; the agents' are counted below.
        t.ok(stalled < total, `the sender was stopped after ${stalled} of ${total} bytes`)
        t.equal((await serverReport(lab, `mesh/${where}`)).blocked, BLOCKED_CONNECTIONS)
        const after = await memory()
        for (const [index, node] of lab.nodes.entries()) {
          const grown = (after[index] ?? NaN) - (before[index] ?? NaN)
          t.comment(`${node}: ${Math.round(grown)} MiB more`)
          t.ok(grown < BLOCKED_MEMORY_MIB, `the agent of ${node} grew by ${grown} MiB`)
        }
        const unblocked = await lab.exec(`mesh/${where}`, [
          'curl',
          '--silent',
          '--request',
          'POST',
          `http://127.0.0.1:${HTTP_PORT}/unblock`,
        ])
        t.equal(unblocked.code, 0)
        const transfer = await sender.finish()
        t.ok(transfer.isIntact, 'all of it arrived once it was read')
      },
    )
  }

  await t.test('a storm on a service without endpoints fails fast and harms nobody', async (t) => {
    const pid = await agentPid(lab, 'node-a')
    const before = await agentMemory(lab, 'node-a')
    const clusterIp = await lab.kubectl(
      'get',
      'service',
      '--namespace=mesh',
      'empty',
      '--output=jsonpath={.spec.clusterIP}',
    )
    const storm = await run<Crowd>(lab, 'mesh/client', 'crowd', clusterIp, 80, STORM)
    t.equal(storm.ok, 0)
    t.strictSame(
      Object.keys(storm.failures).filter((end) => !/^(ECONNRESET|ECONNREFUSED)$/.test(end)),
      [],
      'every call was refused, none was closed as if it had been answered or left waiting',
    )
    t.ok(storm.slowestMs < STORM_SLOWEST_MS, `the slowest took ${storm.slowestMs} ms`)
    const startedAt = Date.now()
    t.equal((await get(lab, 'mesh/client', 'http://far/')).pod, 'far', 'other calls go on')
    t.ok(Date.now() - startedAt < STORM_SLOWEST_MS)
    const ready = await lab.nodeExec('node-a', [
      'curl',
      '--silent',
      '--output',
      '/dev/null',
      '--max-time',
      String(READY_WITHIN_MS / 1000),
      '--write-out',
      '%{http_code}',
      'http://127.0.0.1:15021/healthz/ready',
    ])
    t.equal(ready.stdout, '200', 'the agent is ready')
    t.equal(await agentPid(lab, 'node-a'), pid, 'the agent did not restart')
    const grown = (await agentMemory(lab, 'node-a')) - before
    t.ok(grown < BLOCKED_MEMORY_MIB, `the agent grew by ${grown} MiB`)
    const refusals = async (): Promise<number> =>
      (await accessLines(lab, 'node-a')).filter(({ error }) =>
        error?.includes('service mesh/empty'),
      ).length
    let logged = 0
    await until(
      async () => (logged = await refusals()) >= STORM,
      () => `a line for each refusal; there are ${logged}`,
    )
    t.equal(logged, STORM, 'each refusal is in the log')
  })

  await t.test('when all is over, the agents hold no connection any more', async (t) => {
    for (const node of lab.nodes) {
      let held: readonly unknown[] = ['not asked yet']
      const isFree = async (): Promise<boolean> => {
        const argv = ['curl', '--silent', 'http://127.0.0.1:15000/config_dump']
        const dump = JSON.parse((await lab.nodeExec(node, argv)).stdout) as ConfigDump
        held = Object.values(dump.workloadState).flatMap(({ connections }) => [
          ...connections.inbound,
          ...connections.outbound,
        ])
        return held.length === 0
      }
      await until(isFree, () => `${node} to hold none of ${JSON.stringify(held)}`)
      t.strictSame(held, [], node)
    }
  })
})
