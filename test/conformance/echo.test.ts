// SPDX-License-Identifier: Apache-2.0
// The workload that stands for upstream's in the conformance suite of the Gateway API: what its client prints is what the suite reads.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { tryCommand } from '../../lab/machine/command.ts'

const ECHO = fileURLToPath(new URL('../../lab/samples/echo', import.meta.url))
const NAME = 'echo-v1-0'

const client = (...words: readonly string[]) =>
  tryCommand([process.execPath, `${ECHO}/client.ts`, ...words])

/** Of this process, below the ports that the kernel gives out: nobody takes one in between. */
let nextPort = 10_000 + (process.pid % 1_000) * 20

/** Starts the workload; resolves once it says that it listens on each of its ports. */
async function startEcho(t: Test) {
  const [http, grpc, tls, tcp] = [nextPort, nextPort + 1, nextPort + 2, nextPort + 3]
  nextPort += 4
  const words = [`--port=${http}`, `--port=${tls}`, `--tls=${tls}`, `--grpc=${grpc}`]
  const child = spawn(process.execPath, [`${ECHO}/server.ts`, ...words, `--tcp=${tcp}`], {
    env: { ...process.env, HOSTNAME: NAME },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.teardown(async () => {
    child.kill()
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  })
  let listening = 0
  for await (const line of createInterface({ input: child.stdout }))
    if (/ on port \d+$/.test(line) && (listening += 1) === 4) break
  return { http, grpc, tls, tcp }
}

void t.test('an HTTP call is told of as the server saw it, once for each time', async (t) => {
  const { http } = await startEcho(t)
  const url = `http://localhost:${http}/a/b?c=d`
  const words = ['--method=POST', '-H', 'Host:shop', '-H', 'X-A:1', '-H', 'X-A:2', '--count=2']
  const { code, stdout } = await client(url, ...words)
  t.equal(code, 0)
  const answers = stdout.split('\n\n').filter((answer) => answer !== '')
  t.equal(answers.length, 2, 'an empty line after each and nowhere else')
  for (const [index, answer] of answers.entries()) {
    const lines = answer.split('\n')
    for (const line of [`[${index}] Url=${url}`, `[${index}] StatusCode=200`])
      t.ok(lines.includes(line), line)
    for (const field of [
      'Host=shop',
      'URL=/a/b?c=d',
      'Method=POST',
      'Proto=HTTP/1.1',
      'RequestHeader=X-A:1',
      'RequestHeader=X-A:2',
      `ServicePort=${http}`,
      `Hostname=${NAME}`,
    ])
      t.ok(lines.includes(`[${index} body] ${field}`), field)
    t.match(answer, /ResponseHeader=content-type:text\/plain/)
  }
})

void t.test('a gRPC call is told of in the same words', async (t) => {
  const { grpc } = await startEcho(t)
  const { code, stdout } = await client(`grpc://localhost:${grpc}`, '-H', 'x-a:1')
  t.equal(code, 0)
  for (const field of ['StatusCode=200', 'RequestHeader=x-a:1', `Hostname=${NAME}`])
    t.match(stdout, `[0 body] ${field}\n`)
})

void t.test('a redirect is not followed, and no answer is a failure', async (t) => {
  const server = createServer((_request, response) => {
    response.writeHead(302, { location: 'http://elsewhere/' }).end()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const { stdout } = await client(`http://127.0.0.1:${port}/`)
  t.match(stdout, '[0] StatusCode=302\n')
  t.match(stdout, 'ResponseHeader=location:http://elsewhere/\n')
  server.close()
  await once(server, 'close')
  const { code, stderr } = await client(`http://127.0.0.1:${port}/`)
  t.equal(code, 1)
  t.match(stderr, /cannot call http:\/\/127.0.0.1:\d+\/: .*ECONNREFUSED/)
})
