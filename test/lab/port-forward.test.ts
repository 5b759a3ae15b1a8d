// SPDX-License-Identifier: Apache-2.0
// Ports of pods through the API server: kubectl port-forward as a user of the lab types it, and the mesh's own client as its commands
// use it. Bytes of many connections both ways, and what is told of a closed port.

import t from 'tap'
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:net'
import type { Duplex } from 'node:stream'
import { portForward } from '../../mesh/kube/port-forward.ts'
import { missing } from '../helpers.ts'
import { until, within } from '../support/until.ts'
import { podManifest, testLab } from './fixture.ts'

const skip = missing('root', 'cgroup2')

/** Sends back what it gets, on the loopback of its pod alone. */
const ECHO = [
  'node',
  '-e',
  `require('node:net').createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket)).listen(9000, '127.0.0.1')`,
]

/** Sends and half-closes; gives how many bytes came back and whether they are the same. */
async function echoed(port: number, text: string): Promise<string> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  const chunks: Buffer[] = []
  socket.on('data', (chunk: Buffer) => chunks.push(chunk))
  socket.end(text)
  await once(socket, 'close')
  return Buffer.concat(chunks).toString()
}

await t.test('kubectl port-forward', { skip }, async (t) => {
  const lab = await testLab(t, { nodes: 1 })
  await lab.apply(podManifest('echo', ECHO, { node: 'node-a' }))
  await lab.waitForPods('default')
  const forward = async (target: string) => {
    const child = spawn(
      'kubectl',
      [`--kubeconfig=${lab.layout.kubeconfig}`, 'port-forward', 'pod/echo', `:${target}`],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    )
    t.teardown(() => child.kill('SIGKILL'))
    let said = ''
    for (const output of [child.stdout, child.stderr])
      output.setEncoding('utf8').on('data', (text: string) => {
        said += text
      })
    const port = (): number => Number(/127\.0\.0\.1:(\d+) ->/.exec(said)?.[1] ?? 0)
    await until(
      () => port() > 0,
      () => `the forwarding to begin: ${said}`,
    )
    return { port: port(), said: () => said }
  }

  await t.test('carries each connection whole, many at once', async (t) => {
    const { port } = await forward('9000')
    const texts = ['hello', 'x'.repeat(3_000_000), '', ...Array.from({ length: 5 }, String)]
    const answers = await within(Promise.all(texts.map((text) => echoed(port, text))), 'all echoes')
    for (const [at, text] of texts.entries()) t.ok(answers[at] === text, `${text.length} bytes`)
  })

  await t.test('says which port refuses, and ends the connection', async (t) => {
    const { port, said } = await forward('9001')
    t.equal(await within(echoed(port, 'hello'), 'its end'), '')
    await until(() => /port 9001: failed to connect .* ECONNREFUSED/.test(said()), said)
  })

  const open = async (pod: string, port: number): Promise<Duplex> => {
    const opened = await portForward(lab.api.access, { namespace: 'default', pod, port }, 20_000)
    if (!opened.ok) throw new Error(opened.error.message)
    t.teardown(() => opened.value.destroy())
    return opened.value
  }

  await t.test('our own client carries bytes both ways, at the reader’s pace', async (t) => {
    const forwarded = await open('echo', 9000)
    const sent = randomBytes(2_000_000)
    // In pieces that need each of the three lengths of a frame.
    const pieces = [sent.subarray(0, 100), sent.subarray(100, 10_000), sent.subarray(10_000)]
    for (const piece of pieces) forwarded.write(piece)
    const received: Buffer[] = []
    let size = 0
    await within(
      (async () => {
        for await (const chunk of forwarded as AsyncIterable<Buffer>) {
          received.push(chunk)
          size += chunk.length
          if (size >= sent.length) return
        }
      })(),
      'the echo',
    )
    t.ok(Buffer.concat(received).equals(sent), `${size} bytes came back as they were`)
  })

  await t.test('our own client says why there is no connection', async (t) => {
    const refused = await open('echo', 9001)
    const [error] = (await within(once(refused, 'error'), 'the error')) as [Error]
    t.match(error.message, /localhost:9001 inside the pod: .*ECONNREFUSED/)
    t.match(
      await portForward(lab.api.access, { namespace: 'default', pod: 'none', port: 1 }, 20_000),
      { ok: false, error: { kind: 'notFound', message: /reach port 1 of pod default\/none/ } },
    )
  })
})
