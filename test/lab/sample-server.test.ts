// SPDX-License-Identifier: Apache-2.0
// The sample server ends as an application that loses no request does: a rollout of it tells of the mesh, not of the sample.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { Agent, get, type IncomingMessage } from 'node:http'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'

const SERVER = fileURLToPath(new URL('../../lab/samples/server.ts', import.meta.url))

/** Longer than this test. */
const LONG_MS = 600_000

async function startServer(
  t: Test,
  idleGraceMs: number,
): Promise<{ child: ChildProcess; url: string }> {
  const env = { ...process.env, PORT: '0', IDLE_GRACE_MS: String(idleGraceMs) }
  const child = spawn(process.execPath, [SERVER], { env, stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
  return { child, url: `http://127.0.0.1:${/port (\d+)$/.exec(line)?.[1] ?? ''}/` }
}

async function ask(url: string, agent: Agent): Promise<IncomingMessage> {
  const [response] = (await once(get(url, { agent }), 'response')) as [IncomingMessage]
  await once(response.resume(), 'end')
  return response
}

/** Resolves when nobody can connect any more: the server has heard that it is to end. */
async function untilClosed(url: string): Promise<void> {
  for (;;) {
    try {
      await ask(url, new Agent({ keepAlive: false }))
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'ECONNREFUSED') return
      // One that was still in the queue of the listener as that closed.
      if (code !== 'ECONNRESET') throw error
    }
  }
}

void t.test('told to end, the sample server answers on a connection that was kept', async (t) => {
  const { child, url } = await startServer(t, LONG_MS)
  const exited = once(child, 'exit')
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  t.equal((await ask(url, agent)).headers.connection, 'keep-alive')
  child.kill('SIGTERM')
  await untilClosed(url)
  const last = await ask(url, agent)
  t.equal(last.statusCode, 200)
  t.equal(last.headers.connection, 'close', 'and tells its client not to keep it')
  t.strictSame(await exited, [0, null], 'it ends when everybody has heard')
})

void t.test('told to end, the sample server waits for no client that says nothing', async (t) => {
  const { child, url } = await startServer(t, 1)
  const exited = once(child, 'exit')
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  await ask(url, agent)
  child.kill('SIGTERM')
  t.strictSame(await exited, [0, null])
})
