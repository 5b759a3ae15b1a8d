// SPDX-License-Identifier: Apache-2.0
// How the mesh spreads a pod's connections over the endpoints of a Service: by how busy they are, past one that is dead until it
// is well again, and always to the same one where the Service asks for that.

import t from 'tap'
import type { Lab } from '../../lab/cluster/index.ts'
import { missing } from '../helpers.ts'
import {
  agentOf,
  applyAll,
  meshLab,
  NEEDS,
  waitForCapture,
  waitForNews,
} from './support/mesh-lab.ts'
import { namespaceManifest, serverManifest } from './support/pods.ts'

const skip = missing(...NEEDS)

const PORT = 8080
const CONTROL = 9000

/** Tells its name so many milliseconds after a connection came; listens at once, or when somebody asks on its loopback. */
const SERVER = `
const [, name, delayMs, isLate] = process.argv
const server = require('node:net').createServer((socket) => {
  socket.on('error', () => undefined)
  setTimeout(() => socket.end(name), Number(delayMs))
})
const listen = () => server.listen(${PORT}, '::')
require('node:http').createServer((request, response) => {
  if (!server.listening) listen()
  response.end('listening')
}).listen(${CONTROL}, '127.0.0.1')
if (isLate !== 'late') listen()`

/** Opens so many connections, one each so many milliseconds (at once after the last when 0), and tells how often who answered. */
const CLIENT = `
const [, host, count, gapMs] = process.argv
const answers = {}
const call = () => new Promise((resolve) => {
  let text = ''
  const socket = require('node:net').connect(80, host)
  socket.on('data', (data) => (text += data))
  socket.on('error', (error) => (text = error.code))
  socket.on('close', () => resolve(answers[text] = (answers[text] ?? 0) + 1))
})
void (async () => {
  const calls = []
  for (let made = 0; made < Number(count); made += 1) {
    const called = call()
    calls.push(called)
    await (Number(gapMs) === 0 ? called : new Promise((next) => setTimeout(next, Number(gapMs))))
  }
  await Promise.all(calls)
  console.log(JSON.stringify(answers))
})()`

type Answers = Readonly<Record<string, number>>

async function calls(lab: Lab, host: string, count: number, gapMs = 0): Promise<Answers> {
  const argv = ['node', '-e', CLIENT, host, String(count), String(gapMs)]
  const { code, stdout, stderr } = await lab.exec('mesh/client', argv, { timeoutMs: 60_000 })
  if (code !== 0) throw new Error(`the caller ended with ${String(code)}: ${stderr}`)
  return JSON.parse(stdout) as Answers
}

function server(name: string, app: string, node: string, delayMs: number, late = ''): object {
  return serverManifest({
    namespace: 'mesh',
    name,
    node,
    labels: { app },
    command: ['node', '-e', SERVER, name, String(delayMs), late],
  })
}

function service(name: string, spec: object = {}): object {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { namespace: 'mesh', name },
    spec: {
      selector: { app: name },
      ports: [{ port: 80, targetPort: PORT }],
      ipFamilyPolicy: 'PreferDualStack',
      ...spec,
    },
  }
}

await t.test('connections of a pod to a Service', { skip }, async (t) => {
  const lab = await meshLab(t)
  await applyAll(lab, [
    namespaceManifest('mesh'),
    serverManifest({ namespace: 'mesh', name: 'client', node: 'node-a' }),
    server('quick', 'uneven', 'node-b', 0),
    server('slow', 'uneven', 'node-b', 2_000),
    server('well', 'ill', 'node-b', 0),
    server('fine', 'ill', 'node-a', 0),
    server('dead', 'ill', 'node-b', 0, 'late'),
    server('one', 'sticky', 'node-b', 0),
    server('two', 'sticky', 'node-a', 0),
    server('three', 'sticky', 'node-b', 0),
    service('uneven'),
    service('ill'),
    service('sticky', { sessionAffinity: 'ClientIP' }),
  ])
  await lab.waitForPods('mesh')
  await waitForCapture(lab, 'mesh', true)
  const agentSays = async (text: string): Promise<number> =>
    lab.log(await agentOf(lab, 'node-a')).split(text).length - 1
  const answerersOf = async (host: string): Promise<string> => {
    const answers = await calls(lab, host, 40, 5)
    return Object.keys(answers).toSorted().join()
  }
  await lab.waitFor('the endpoints that serve', async () => {
    const seen = [await answerersOf('uneven'), await answerersOf('ill')]
    return seen.join(' ') === 'quick,slow fine,well' ? true : undefined
  })

  await t.test('the endpoint that holds its connections longer gets fewer', async (t) => {
    const answers = await calls(lab, 'uneven', 100, 20)
    const [quick = 0, slow = 0] = [answers['quick'], answers['slow']]
    t.equal(quick + slow, 100, JSON.stringify(answers))
    t.ok(quick > 2 * slow, JSON.stringify(answers))
    t.ok(slow > 0, 'it is not shut out')
  })

  await t.test('a dead endpoint costs no call, and comes back once it is well', async (t) => {
    const answers = await calls(lab, 'ill', 60)
    t.equal((answers['well'] ?? 0) + (answers['fine'] ?? 0), 60, JSON.stringify(answers))
    t.equal(await agentSays('an endpoint is ejected'), 1, 'told once')
    await lab.exec('mesh/dead', ['curl', '-s', `http://127.0.0.1:${CONTROL}/`])
    await lab.waitFor('an answer of the one that is well again', async () =>
      (await answerersOf('ill')) === 'dead,fine,well' ? true : undefined,
    )
    // The worker that has found out tells the agent, which says so.
    const recovered = 'an ejected endpoint has recovered'
    await lab.waitFor('word of it', async () => (await agentSays(recovered)) > 0 || undefined)
    t.equal(await agentSays(recovered), 1)
  })

  await t.test('with sessionAffinity the pod stays, in either family', async (t) => {
    const vips = await lab.kubectl(
      ...['get', 'service', '-n', 'mesh', 'sticky', '-o', 'jsonpath={.spec.clusterIPs[*]}'],
    )
    const own: string[] = []
    for (const vip of vips.split(' ')) {
      const answers = await calls(lab, vip, 20)
      t.strictSame(Object.values(answers), [20], `${vip}: ${JSON.stringify(answers)}`)
      own.push(...Object.keys(answers))
    }
    await applyAll(lab, [server('four', 'sticky', 'node-b', 0)])
    await lab.waitForPods('mesh')
    await waitForCapture(lab, 'mesh', true)
    // While it becomes known, calls may go first to one and then to the other.
    await waitForNews(lab, 'node-a', 'mesh', { sticky: 4 })
    for (const [at, vip] of vips.split(' ').entries()) {
      const answers = await calls(lab, vip, 20)
      const [now = '', ...others] = Object.keys(answers)
      t.strictSame(others, [], `${vip}: ${JSON.stringify(answers)}`)
      t.ok(now === own[at] || now === 'four', `${own[at]}, or the one that came: ${now}`)
    }
  })
})
