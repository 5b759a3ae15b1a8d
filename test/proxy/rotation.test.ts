// SPDX-License-Identifier: Apache-2.0
// Given two pods of different nodes that talk, when the root of the mesh is replaced step by step, then no call notices; and
// when the old root is gone, so is what hung on it.

import { once } from 'node:events'
import { connect as connectTcp, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import type { WorkloadCertificate } from '../../mesh/identity/types.ts'
import type { IpAddress, MeshChange } from '../../mesh/model/types.ts'
import { clientTlsOptions, makeCertificate, makeRoot, type TestRoot } from '../hbone/certs.ts'
import {
  inService,
  type ServedPod,
  startAgent,
  startApp,
  type TestAgent,
  testPod,
  testService,
  workloadOf,
} from './loopback-world.ts'

const WORD_DEADLINE_MS = 10_000
/** New connections while a step is under way. */
const CALLS = 25
const HELD = 4

/** Says a word and resolves when its echo is there; rejects on anything else. */
async function say(socket: Socket, word: string): Promise<void> {
  const deadline = AbortSignal.timeout(WORD_DEADLINE_MS)
  const gone = once(socket, 'close', { signal: deadline }).then(() => {
    throw new Error(`closed before the echo of ${word}`)
  })
  gone.catch(() => undefined)
  socket.write(word)
  let heard = ''
  while (heard.length < word.length) {
    const [chunk] = (await Promise.race([once(socket, 'data', { signal: deadline }), gone])) as [
      Buffer,
    ]
    heard += String(chunk)
  }
  if (heard !== word) throw new Error(`said ${word}, heard ${heard}`)
}

await t.test('the root of the mesh is replaced under traffic', async (t) => {
  const old = await makeRoot('CN=old root')
  const young = await makeRoot('CN=young root')
  const [near, far] = [await startAgent(t, { root: old }), await startAgent(t, { root: old })]
  const frontend = await near.servePod(testPod('frontend'))
  const catalog = await far.servePod(testPod('catalog'))
  const [serverAddress] = catalog.pod.addresses as [IpAddress]
  const appPort = await startApp(t, serverAddress, (socket) => socket.pipe(socket))
  const vip = { address: '10.96.0.20' as IpAddress, port: 80 }
  const service = testService('catalog', vip.address)
  const changes: MeshChange[] = [
    { kind: 'service', service },
    { kind: 'workload', workload: workloadOf(frontend.pod) },
    { kind: 'workload', workload: workloadOf(catalog.pod, inService(service, appPort)) },
  ]
  for (const agent of [near, far]) {
    agent.send({ kind: 'mesh', changes })
    agent.send({ kind: 'meshSynced' })
  }

  let opened = 0
  const failures: string[] = []
  /** New connections, one after the other, each with its word. */
  const callAgain = async (): Promise<void> => {
    for (let call = 0; call < CALLS; call += 1) {
      const socket = await frontend.call(vip)
      try {
        await say(socket, `call ${call}`)
        opened += 1
      } catch (thrown) {
        failures.push(String(thrown))
      }
      socket.destroy()
      // Paces the calls: they are to go on for as long as the steps take, not to be many.
      await delay(2)
    }
  }
  const hold = async (): Promise<readonly Socket[]> => {
    const sockets: Socket[] = []
    for (let each = 0; each < HELD; each += 1) sockets.push(await frontend.call(vip))
    await Promise.all(sockets.map((socket) => say(socket, 'held')))
    return sockets
  }
  /** One pod after the other gets its certificate of the next step, in the midst of calls. */
  const step = async (signer: TestRoot, ...roots: readonly TestRoot[]): Promise<void> => {
    for (const [agent, { pod }] of [
      [near, frontend],
      [far, catalog],
    ] as readonly (readonly [TestAgent, ServedPod])[]) {
      const calls = callAgain()
      const made = await makeCertificate(signer, pod.identity)
      const rootsPem = roots.map(({ pem }) => `${pem}\n`).join('')
      const certificate: WorkloadCertificate = { ...made, rootsPem }
      agent.send({ kind: 'certificate', certificate })
      await calls
    }
    await callAgain()
  }

  await callAgain()
  const early = await hold()
  await step(old, old, young)
  await step(young, young, old)
  await Promise.all(early.map((socket) => say(socket, 'still here')))
  t.pass('what was open before lives on while both roots are trusted')
  const late = await hold()
  const cut = early.map(
    (socket) =>
      // A reset is what is expected here.
      new Promise((resolve) => socket.on('error', () => undefined).once('close', resolve)),
  )
  await step(young, young)
  await Promise.all(cut)
  t.pass('what hung on the old root is cut when it goes')
  await Promise.all(late.map((socket) => say(socket, 'untouched')))
  t.pass('what was made after the change of issuer is not')
  t.same(failures, [], 'no call failed at any step')
  t.equal(opened, 10 * CALLS)
  await near.line(
    (line) => line['reason'] === 'DISTRUST' || /not trusted any more/.test(String(line['error'])),
  )
  t.pass('and the log says why')

  const rogue = {
    ...(await makeCertificate(old, frontend.pod.identity)),
    rootsPem: `${old.pem}\n${young.pem}`,
  }
  const raw = connectTcp({ host: serverAddress, port: 15008, localAddress: '127.0.0.1' })
  const tls = connectTls({ ...clientTlsOptions(rogue), socket: raw })
  t.teardown(() => tls.destroy())
  // Refused by the server, after a handshake that looked good from here.
  await new Promise((resolve) => tls.on('error', () => undefined).once('close', resolve))
  const refused = await far.line(
    (line) => line['direction'] === 'inbound' && 'error' in line && !('src.identity' in line),
  )
  t.match(
    refused['error'],
    /root this workload (does not )?trust|not signed|issuer/,
    'a certificate of the old root gets no tunnel',
  )
})
