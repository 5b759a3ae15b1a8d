// SPDX-License-Identifier: Apache-2.0
// kubectl port-forward, as a user of the lab types it: bytes of many connections both ways, and what is told of a closed port.

import t from 'tap'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { missing } from '../helpers.ts'
import { until, within } from '../support/until.ts'
import { podManifest, testLab } from './fixture.ts'

const skip = missing('root', 'cgroup2')

t.setTimeout(90_000)

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

await t.test('kubectl port-forward', { skip, timeout: 80_000 }, async (t) => {
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
})
