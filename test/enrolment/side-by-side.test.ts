// SPDX-License-Identifier: Apache-2.0
// Two agents of one node beside each other, as in an upgrade: the one that came last writes, and it alone.

import t from 'tap'
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { pino } from 'pino'
import { EPOCH_FILE, takeOwnership } from '../../agent/enrolment/ownership.ts'
import { AMBIENT, inTime, setUpNode, stateFiles } from './node-setting.ts'
import { RecordingCapture } from './recording-capture.ts'

const log = pino({ level: 'silent' })

async function directory(t: { teardown(handler: () => Promise<void>): void }): Promise<string> {
  const made = await mkdtemp(path.join(tmpdir(), 'ambit-epoch-'))
  t.teardown(() => rm(made, { recursive: true, force: true }))
  return made
}

void t.test('each agent takes the next epoch, and the ones before it hold no more', async (t) => {
  const where = path.join(await directory(t), 'state')
  const first = await takeOwnership(where, log)
  t.equal(first.epoch, 1)
  t.ok(await first.holds())
  const second = await takeOwnership(where, log)
  t.equal(second.epoch, 2)
  t.notOk(await first.holds())
  t.ok(first.isLost)
  t.ok(await second.holds())
  // It has lost it for good, whatever becomes of the file.
  await rm(path.join(where, EPOCH_FILE))
  t.notOk(await first.holds())
  t.ok(await second.holds(), 'and nobody takes a node over by removing a file')
})

void t.test('of those that come at once, one is left', async (t) => {
  const where = await directory(t)
  const all = await Promise.all(Array.from({ length: 8 }, () => takeOwnership(where, log)))
  const holding = await Promise.all(all.map((each) => each.holds()))
  t.equal(holding.filter(Boolean).length, 1)
})

void t.test('an epoch that makes no sense is followed by the first', async (t) => {
  const where = await directory(t)
  await writeFile(
    path.join(where, EPOCH_FILE),
    `what is this, and why is it so long? ${'x'.repeat(99)}`,
  )
  const only = await takeOwnership(where, log)
  t.equal(only.epoch, 1)
  t.ok(await only.holds())
  t.equal((await takeOwnership(where, log)).epoch, 2)
})

void t.test('an agent that cannot write its epoch goes on until another can', async (t) => {
  const where = await directory(t)
  const before = await takeOwnership(where, log)
  const logged: string[] = []
  const loud = pino({ level: 'warn' }, { write: (line: string) => void logged.push(line) })
  // Root may write what it may not: a directory in the file's place stops it, too.
  await rm(path.join(where, EPOCH_FILE))
  await mkdir(path.join(where, EPOCH_FILE))
  const hindered = await takeOwnership(where, loud)
  t.match(logged, [/cannot write down that this agent has taken the node over/])
  t.ok(await hindered.holds())
  await rm(path.join(where, EPOCH_FILE), { recursive: true })
  const next = await takeOwnership(where, log)
  t.notOk(await hindered.holds())
  t.notOk(await before.holds())
  t.ok(await next.holds())
  await chmod(where, 0o700)
})

void t.test('given an agent and its successor beside it', async (t) => {
  const node = await setUpNode(t)
  const { label, pod, sandbox, annotation, until, stateDirectory, capture, told, logged } = node
  label('shop', AMBIENT)
  label('later')
  const old = await node.start()
  await old.synced
  const web = await sandbox(pod('web'))
  await old.onAdd(web, inTime())
  await until(() => annotation('web') === 'enabled', 'the annotation')
  const swept = capture.swept.length
  const saved = async (name: string): Promise<{ readonly epoch: number }> => {
    const uid = pod(name).metadata?.uid ?? ''
    const text = await readFile(path.join(stateDirectory, `${uid}.json`), 'utf8')
    return JSON.parse(text) as { readonly epoch: number }
  }
  t.equal((await saved('web')).epoch, 1)

  const successorCapture = new RecordingCapture()
  t.teardown(() => successorCapture.close())
  const next = await node.start({ capture: successorCapture })
  await next.synced
  t.same(successorCapture.calls, ['+web'], 'it takes the pods over')
  const before = [...capture.calls]

  await t.test('a pod that comes is the successor’s', async (t) => {
    const api = await sandbox(pod('api'))
    t.match(await old.onAdd(api, inTime()), {
      ok: false,
      error: { message: /another agent has taken this node over/ },
    })
    t.ok((await next.onAdd(api, inTime())).ok)
    t.equal((await saved('api')).epoch, 2)
    await until(() => annotation('api') === 'enabled', 'its annotation')
    t.match(old.isReady(), { ok: false, error: /another agent/ })
    t.ok(next.isReady().ok)
  })

  await t.test('what both see, one does', async (t) => {
    label('shop')
    await until(() => successorCapture.enrolled.size === 0, 'the withdrawals')
    await until(() => annotation('web') === undefined, 'no annotation')
    label('shop', AMBIENT)
    await until(() => successorCapture.enrolled.size === 2, 'both to be back')
    for (const name of ['web', 'api'])
      await until(() => annotation(name) === 'enabled', 'the annotation again')
    t.same(capture.calls, before, 'the predecessor has touched nothing')
    t.equal(capture.swept.length, swept)
    t.equal((await saved('web')).epoch, 2)
  })

  await t.test('the predecessor leaves all of it in place, also when it uninstalls', async (t) => {
    const patches = node.stub.requests.filter(({ method }) => method === 'PATCH').length
    t.notOk(await old.isInCharge())
    node.listenersLost.get('web')?.()
    await old.onDel(web)
    await old.close({ withdraw: true })
    t.equal(capture.enrolled.size, 1, 'its capture is as it was')
    t.same(successorCapture.enrolled.size, 2)
    t.equal((await stateFiles(stateDirectory)).length, 2)
    t.equal(annotation('web'), 'enabled')
    t.equal(node.stub.requests.filter(({ method }) => method === 'PATCH').length, patches)
    t.ok(logged.some((line) => line.includes('another agent has taken this node over')))
    t.ok(told.includes('enrolled web as web'))
  })
})
