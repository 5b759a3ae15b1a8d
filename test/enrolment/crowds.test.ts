// SPDX-License-Identifier: Apache-2.0
// Much at once on one node, and a disk that is full: many pods that start and end together, a label that flaps faster than a pod can follow.

import { readFile, symlink, unlink } from 'node:fs/promises'
import path from 'node:path'
import t from 'tap'
import { EPOCH_FILE } from '../../agent/enrolment/ownership.ts'
import { NAMESPACES, PODS } from '../../mesh/kube/index.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { AMBIENT, setUpNode, stateFiles } from './node-setting.ts'

/** Longer than any machine needs. */
const ANSWERED_MS = 120_000

void t.test(
  'a label that flaps while a step is under way costs one step, whatever it says last',
  async (t) => {
    for (const last of ['in', 'out'] as const) {
      const { start, label, pod, sandbox, capture, until, annotation } = await setUpNode(t)
      label('shop')
      label('after')
      const enrolment = await start()
      await enrolment.synced
      const inTime = (): AbortSignal => AbortSignal.timeout(ANSWERED_MS)
      t.ok((await enrolment.onAdd(await sandbox(pod('web')), inTime())).ok)
      const { promise, resolve } = Promise.withResolvers<void>()
      capture.gate = promise
      label('shop', AMBIENT)
      await until(() => capture.isBusy, 'the enrolment to begin')
      capture.gate = Promise.resolve()
      for (let flap = 0; flap < 500; flap += 1) {
        label('shop')
        label('shop', AMBIENT)
      }
      if (last === 'out') label('shop')
      // What is seen after all of them.
      t.ok((await enrolment.onAdd(await sandbox(pod('last', { namespace: 'after' })), inTime())).ok)
      label('after', AMBIENT)
      await until(() => capture.calls.includes('+last'), 'the end of the flapping')
      resolve()
      if (last === 'in') await until(() => annotation('web') === 'enabled', 'the annotation')
      else await until(() => capture.calls.includes('~web'), 'the end of its membership')
      t.same(
        capture.calls.filter((call) => call !== '+last'),
        last === 'in' ? ['+web'] : ['+web', '~web'],
        `it is ${last} by one step`,
      )
      t.equal(capture.enrolled.size, last === 'in' ? 2 : 1)
      t.equal(annotation('web'), last === 'in' ? 'enabled' : undefined)
    }
  },
)

void t.test(
  'two hundred pods that start at once are captured, each, and are gone with their namespace',
  async (t) => {
    const { start, label, pod, sandbox, capture, told, stub, stateDirectory, until } =
      await setUpNode(t)
    label('shop', AMBIENT)
    const enrolment = await start()
    await enrolment.synced
    const names = Array.from({ length: 200 }, (_, index) => `web-${index}`)
    const sandboxes = await Promise.all(
      names.map(async (name, index) => ({
        ...(await sandbox(pod(name))),
        addresses: [`10.244.1.${index + 1}` as IpAddress],
      })),
    )
    const answers = await Promise.all(
      sandboxes.map((each) => enrolment.onAdd(each, AbortSignal.timeout(ANSWERED_MS))),
    )
    t.equal(answers.filter(({ ok }) => ok).length, names.length)
    t.same([...capture.calls].sort(), names.map((name) => `+${name}`).sort(), 'each once')
    t.same([...told].sort(), names.map((name) => `enrolled ${name} as web`).sort())
    t.equal((await stateFiles(stateDirectory)).length, names.length)

    // As a namespace is deleted: all its pods end, it goes last; but the agent hears of pods and namespaces by two watches.
    for (const name of names) pod(name, { deletionTimestamp: '2026-01-01T00:00:00Z' })
    stub.remove(NAMESPACES, 'shop')
    await until(
      () => names.every((name) => told.includes(`draining ${name}`)),
      'all to be on their way out',
    )
    await Promise.all(sandboxes.map((each) => enrolment.onDel({ ...each, addresses: [] })))
    for (const name of names) stub.remove(PODS, `shop/${name}`)
    await until(() => capture.enrolled.size === 0 && capture.left.size === 0, 'nobody to be left')
    t.equal(capture.calls.filter((call) => call.startsWith('+')).length, names.length)
    let left: readonly string[] = ['?']
    while (left.length > 0) left = await stateFiles(stateDirectory)
    t.same(left, [])
  },
)

void t.test(
  'on a disk that is full pods are captured all the same, and that is said',
  async (t) => {
    const { start, label, pod, sandbox, capture, logged, stateDirectory, until } =
      await setUpNode(t)
    label('shop', AMBIENT)
    const enrolment = await start()
    await enrolment.synced
    const inTime = (): AbortSignal => AbortSignal.timeout(ANSWERED_MS)
    const web = pod('web')
    const uid = web.metadata?.uid ?? ''
    const epoch = Number(
      (await readFile(path.join(stateDirectory, EPOCH_FILE), 'utf8')).split(' ')[0],
    )
    // Whatever is written there, the kernel has no room for it.
    const unfinished = path.join(stateDirectory, `${uid}.json.${epoch}.tmp`)
    await symlink('/dev/full', unfinished)
    t.ok((await enrolment.onAdd(await sandbox(web, 'first'), inTime())).ok)
    t.equal(capture.enrolled.size, 1)
    t.ok(
      logged.some((line) => line.includes('ENOSPC')),
      'the log says why a restart will not know it',
    )
    t.notOk((await stateFiles(stateDirectory)).includes(`${uid}.json`), 'and half a file is none')
    await unlink(unfinished)
    // What comes next finds room again.
    t.ok((await enrolment.onAdd(await sandbox(pod('other')), inTime())).ok)
    await until(() => capture.enrolled.size === 2, 'both')
    t.match(await stateFiles(stateDirectory), [/\.json$/])
  },
)
