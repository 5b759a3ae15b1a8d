// SPDX-License-Identifier: Apache-2.0
// When a kubelet of the lab looks, and which of its looks count.

import { once } from 'node:events'
import { type AddressInfo, createServer, type Server } from 'node:net'
import t, { type Test } from 'tap'
import { type Probe, ProbeLoop, type ProbeOutcome } from '../../lab/kubelet/probe.ts'

const HOUR_S = 3_600

/** A server's port of loopback on which nobody listens yet. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await new Promise((closed) => server.close(closed))
  return port
}

interface Watched {
  readonly verdicts: ProbeOutcome[]
  /** Resolves with the first verdict. */
  readonly first: Promise<ProbeOutcome>
  /** How often it has been looked. */
  readonly looks: () => number
  /** Resolves once it has been looked so often. */
  looked(times: number): Promise<void>
}

/** Watches by a probe whose look fails until the port answers. */
function watch(
  t: Test,
  port: number,
  probe: Partial<Probe>,
  options: { readonly eager: boolean; readonly startedAt: Date },
): Watched {
  const verdicts: ProbeOutcome[] = []
  const first = Promise.withResolvers<ProbeOutcome>()
  let looks = 0
  let told: () => void = () => undefined
  const target = {
    get podIp() {
      looks += 1
      told()
      return '127.0.0.1'
    },
    ports: new Map<string, number>(),
    exec: () => Promise.reject(new Error('nothing is run here')),
  }
  const onVerdict = (outcome: ProbeOutcome): void => {
    verdicts.push(outcome)
    first.resolve(outcome)
  }
  const loop = new ProbeLoop({ tcpSocket: { port }, ...probe }, target, onVerdict, options)
  t.teardown(() => loop.stop())
  const looked = async (times: number): Promise<void> => {
    while (looks < times) await new Promise<void>((resolve) => (told = resolve))
  }
  return { verdicts, first: first.promise, looks: () => looks, looked }
}

async function listen(t: Test, port: number): Promise<Server> {
  const server = createServer((socket) => socket.destroy()).listen(port, '127.0.0.1')
  t.teardown(() => void server.close())
  await once(server, 'listening')
  return server
}

void t.test(
  'a container that starts is seen long before the next look of its period',
  async (t) => {
    const port = await freePort()
    const probe = { periodSeconds: HOUR_S, failureThreshold: 2 }
    const watched = watch(t, port, probe, { eager: true, startedAt: new Date() })
    await watched.looked(4)
    t.strictSame(watched.verdicts, [], 'looks between those of the period fail without counting')
    await listen(t, port)
    t.strictSame(await watched.first, { passed: true })
  },
)

void t.test('a look of the period that fails counts', async (t) => {
  const port = await freePort()
  const probe = { periodSeconds: HOUR_S, failureThreshold: 1 }
  const watched = watch(t, port, probe, { eager: true, startedAt: new Date() })
  t.match(await watched.first, { passed: false, reason: /ECONNREFUSED/ })
})

void t.test("the initial delay counts from the container's start, as in Kubernetes", async (t) => {
  const port = await freePort()
  await listen(t, port)
  const delayed = { initialDelaySeconds: HOUR_S, periodSeconds: HOUR_S }
  const early = watch(t, port, delayed, { eager: true, startedAt: new Date() })
  const startedAt = new Date(Date.now() - HOUR_S * 1_000)
  const due = watch(t, port, delayed, { eager: false, startedAt })
  t.strictSame(await due.first, { passed: true })
  t.equal(early.looks(), 0, 'and nobody looks before')
})
