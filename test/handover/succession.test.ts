// SPDX-License-Identifier: Apache-2.0
// Agents of one node hand it to one another: who has it, who frees the ports when, and who takes it back.

import t, { type Test } from 'tap'
import { mkdtemp, rm } from 'node:fs/promises'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { pino } from 'pino'
import { meetPredecessor, type Predecessor, Succession } from '../../agent/handover/index.ts'
import { AmbitError } from '../../mesh/errors.ts'
import type { PodUid, SpiffeId } from '../../mesh/model/types.ts'
import { until } from '../support/until.ts'
import { stopTime } from '../support/stop-time.ts'

const log = pino({ level: 'silent' })
const WEB = 'spiffe://cluster.local/ns/shop/sa/web' as SpiffeId
const WEB_POD = { uid: '6f0c' as PodUid, identity: WEB }
/** It waits for its first certificate. */
const NEW = 'spiffe://cluster.local/ns/shop/sa/new' as SpiffeId
const NEW_POD = { uid: '7a1d' as PodUid, identity: NEW }
const PATIENCE_MS = 200

async function socketIn(t: Test): Promise<string> {
  const directory = await mkdtemp(path.join(tmpdir(), 'ambit-handover-'))
  t.teardown(() => rm(directory, { recursive: true, force: true }))
  return path.join(directory, 'agent.sock')
}

interface Agent {
  readonly told: string[]
  /** Those that it serves. */
  readonly pods: { readonly uid: PodUid; readonly identity: SpiffeId }[]
  readonly succession: Succession
}

/** An agent in charge, and what it was told to do. */
async function inCharge(t: Test, socketPath: string): Promise<Agent> {
  const told: string[] = []
  const pods = [WEB_POD, NEW_POD]
  const note = (what: string) => (): Promise<void> => {
    told.push(what)
    return Promise.resolve()
  }
  const succession = new Succession({
    socketPath,
    version: '1.0.0',
    log,
    patienceMs: PATIENCE_MS,
    handlers: {
      pods: () => pods,
      isCertified: (identity) => identity === WEB,
      makeRoom: note('make room'),
      stay: note('stay'),
      resume: note('resume'),
      standDown: note('stand down'),
      takeBack: note('take back'),
    },
  })
  await succession.listen()
  t.teardown(() => succession.close())
  return { told, pods, succession }
}

const meet = (socketPath: string, trustDomain = 'cluster.local') =>
  meetPredecessor({ socketPath, version: '2.0.0', trustDomain, log })

/** As soon as it has heard that the successor before is gone. */
async function metAgain(socketPath: string): Promise<Predecessor> {
  let met: Predecessor | undefined
  await until(async () => {
    try {
      met = await meet(socketPath)
    } catch (thrown) {
      if (!(thrown instanceof AmbitError)) throw thrown
    }
    return met !== undefined
  }, 'it to take another successor')
  if (met === undefined) throw new Error('nobody was met')
  return met
}

/** A successor that wants the ports before it has the node. */
async function helloOfEarlier(
  socketPath: string,
): Promise<{ readonly offer: unknown; leave(): void }> {
  const socket = connect({ path: socketPath })
  socket.write('{"kind":"hello","protocol":1,"version":"0.9.0"}\n')
  const [line] = (await once(socket.setEncoding('utf8'), 'data')) as [string]
  return { offer: JSON.parse(line), leave: () => void socket.destroy() }
}

void t.test('where nobody is, nobody is met', async (t) => {
  const socketPath = await socketIn(t)
  t.equal(await meet(socketPath), undefined)
  const { succession } = await inCharge(t, socketPath)
  await succession.close()
  t.equal(await meet(socketPath), undefined, 'nor after the end of one that was')
})

void t.test('given an agent in charge', async (t) => {
  const socketPath = await socketIn(t)
  const first = await inCharge(t, socketPath)

  await t.test('its successor is told whose pods it serves, and takes nothing yet', async (t) => {
    const predecessor = await meet(socketPath)
    t.same(first.told, [])
    t.same(predecessor?.identities, [WEB, NEW])
    t.same(predecessor?.certified, [WEB], 'and which of them it can serve with HBONE')
    t.same(predecessor?.pods, [WEB_POD, NEW_POD])
    t.equal(predecessor?.keepsPorts, true)
    t.equal(predecessor?.gone.aborted, false)

    first.pods.shift()
    t.equal(await predecessor?.tellAgain(), true)
    t.same(predecessor?.pods, [NEW_POD], 'and anew, for it may take a while to get ready')
    t.same(predecessor?.certified, [])
    first.pods.unshift(WEB_POD)

    await t.rejects(meet(socketPath), { code: 'AMB_HANDOVER', message: /another successor/ })

    predecessor?.leave()
    const next = await metAgain(socketPath)
    t.same(first.told, ['resume'], 'it goes on as if nobody had come, who may have begun')
    next.leave()
  })

  await t.test('a successor of an earlier version gets the ports at once', async (t) => {
    first.told.length = 0
    const old = await helloOfEarlier(socketPath)
    t.match(old.offer, { kind: 'offer', keepsPorts: false })
    t.equal(first.told.at(-1), 'make room')
    first.told.length = 0
    old.leave()
    await until(() => first.told.at(-1) === 'resume', 'it to go on')
    t.same(first.told, ['stay', 'resume'])
  })

  await t.test('it stands down once the successor has the node, and not before', async (t) => {
    first.told.length = 0
    const predecessor = await metAgain(socketPath)
    t.same(first.told, [])
    const second = await inCharge(t, socketPath)
    await predecessor.taken()
    t.same(first.told, ['stand down', 'make room'], 'the ports are free when it says so')

    await t.test(
      'a third takes the node from the second, and the first hears of no end',
      async (t) => {
        const next = await meet(socketPath)
        const third = await inCharge(t, socketPath)
        await next?.taken()
        t.same(second.told, ['stand down', 'make room'])

        await t.test('when the third ends, the node is taken back', async (t) => {
          await third.succession.close()
          const tookBack = (): number =>
            [first, second].filter(({ told }) => told.at(-1) === 'take back').length
          await until(() => tookBack() > 0, 'one of them to take it')
          t.notOk(third.told.includes('take back'))
        })
      },
    )
  })
})

void t.test('a successor in a mesh that has got another name', async (t) => {
  const socketPath = await socketIn(t)
  await inCharge(t, socketPath)
  const predecessor = await meet(socketPath, 'example.org')
  const here = 'spiffe://example.org/ns/shop/sa/web'
  t.same(predecessor?.certified, [here], 'hears of the identities that the pods will have')
  t.match(predecessor?.pods, [{ uid: WEB_POD.uid, identity: here }, {}])
  predecessor?.leave()
})

void t.test('a successor that fails after it has taken the node', async (t) => {
  const socketPath = await socketIn(t)
  const first = await inCharge(t, socketPath)
  const predecessor = await meet(socketPath)
  // As one that is killed: its socket is there, and nobody answers any more.
  const doomed = createServer()
  await rm(socketPath, { force: true })
  await new Promise<void>((resolve) => doomed.listen(socketPath, resolve))
  const followed = new Promise<void>((resolve) => {
    doomed.once('connection', (socket) => {
      socket.write('{"kind":"following"}\n')
      doomed.close()
      socket.once('data', () => {
        socket.destroy()
        resolve()
      })
    })
  })
  await predecessor?.taken()
  await followed
  t.equal(first.told.at(-1), 'make room', 'may be started again')
  await until(() => first.told.at(-1) === 'take back', 'the node to be taken back after a while')
  t.pass('but is not waited for without end')
})

void t.test('an agent that is slow to answer is waited for while it may live', async (t) => {
  const socketPath = await socketIn(t)
  const met = Promise.withResolvers<Socket>()
  const slow = createServer((socket) => socket.once('data', () => met.resolve(socket)))
  await new Promise<void>((resolve) => slow.listen(socketPath, resolve))
  t.teardown(() => slow.close())
  const tick = stopTime(t)
  const meeting = meet(socketPath)
  const socket = await met.promise
  tick(30_000)
  socket.write(`${JSON.stringify({ kind: 'offer', version: '1.0.0', identities: [WEB] })}\n`)
  const predecessor = await meeting
  t.same(predecessor?.identities, [WEB])
  predecessor?.leave()
})

void t.test('one that speaks another language is not answered, and loses nothing', async (t) => {
  const socketPath = await socketIn(t)
  const strange = createServer((socket) => socket.end('what?\n'))
  await new Promise<void>((resolve) => strange.listen(socketPath, resolve))
  t.teardown(() => strange.close())
  t.equal(await meet(socketPath), undefined, 'the node is taken over without it')
})

/** What an agent says, and the first answer to it. */
async function ask(socketPath: string, ...lines: readonly object[]): Promise<unknown> {
  const socket = connect(socketPath)
  for (const line of lines) socket.write(`${JSON.stringify(line)}\n`)
  const [answer] = (await once(createInterface({ input: socket }), 'line')) as [string]
  socket.destroy()
  return JSON.parse(answer)
}

void t.test('given an agent of another version in charge', async (t) => {
  const socketPath = await socketIn(t)

  await t.test('whose words mean something else, it is told so, and keeps the node', async (t) => {
    const { told, succession } = await inCharge(t, socketPath)
    t.match(await ask(socketPath, { kind: 'hello', protocol: 99, version: '9.0.0' }), {
      kind: 'busy',
      reason: 'it is of version 1.0.0 and hands over by protocol 1, not 99: it has to end first',
    })
    t.same(told, [], 'it has not even freed its ports')
    await succession.close()
  })

  await t.test('who says more than is known here, what is known counts', async (t) => {
    const { told, succession } = await inCharge(t, socketPath)
    const hello = { kind: 'hello', protocol: 1, version: '1.1.0', later: [1] }
    t.match(await ask(socketPath, { kind: 'laterWord' }, hello), { kind: 'offer' })
    t.equal(told[0], 'make room')
    await succession.close()
  })

  await t.test('a predecessor that says more is understood, too', async (t) => {
    const later = createServer((socket) => {
      const offer = { kind: 'offer', version: '9.0.0', identities: [WEB], later: { some: 'word' } }
      for (const line of [{ kind: 'laterWord' }, offer]) socket.write(`${JSON.stringify(line)}\n`)
    })
    await new Promise<void>((resolve) => later.listen(socketPath, resolve))
    t.teardown(() => later.close())
    const predecessor = await meet(socketPath)
    t.same(predecessor?.identities, [WEB])
    t.same(predecessor?.certified, [WEB], 'one that does not say it has them all')
    t.equal(await predecessor?.tellAgain(), false, 'nor that it can be asked again')
    predecessor?.leave()
  })
})
