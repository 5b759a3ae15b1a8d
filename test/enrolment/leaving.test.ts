// SPDX-License-Identifier: Apache-2.0
// A pod that leaves the mesh and lives on: its peers hear of it first, capture ends then, and what its established
// connections need goes with the last of them.

import t, { type Test } from 'tap'
import type { Capture } from '../../agent/capture/types.ts'
import type { NodeEnrolment } from '../../agent/enrolment/index.ts'
import { AMBIENT, setUpNode } from './node-setting.ts'

const CNI_DEADLINE_MS = 5_000

/** A node with one enrolled pod, whose leaving waits for `peersKnow` and whose connections end with `ended`. */
async function nodeWithPod(test: Test): Promise<
  Awaited<ReturnType<typeof setUpNode>> & {
    readonly peersKnow: PromiseWithResolvers<undefined>
    readonly ended: PromiseWithResolvers<undefined>
    /** Whether capture may give the pod's namespace back what enrolment had changed. */
    readonly isCarriedOut: () => boolean
    readonly enrolment: NodeEnrolment
  }
> {
  const node = await setUpNode(test)
  const peersKnow = Promise.withResolvers<undefined>()
  const ended = Promise.withResolvers<undefined>()
  let isCarriedOut = false
  const capture: Capture = {
    enrol: (pod) => node.capture.enrol(pod),
    withdraw: async (uid, carried) => {
      await node.capture.withdraw(uid)
      void carried?.then(() => {
        isCarriedOut = true
      })
    },
    sweep: (keep) => node.capture.sweep(keep),
    close: () => node.capture.close(),
  }
  node.label('shop', AMBIENT)
  const enrolment = await node.start({
    capture,
    server: {
      serve: () =>
        Promise.resolve({
          serveAgain: () => Promise.resolve(),
          drain: () => undefined,
          takeLeave: async () => {
            await peersKnow.promise
          },
          end: async () => {
            await ended.promise
          },
        }),
    },
  })
  await enrolment.synced
  await enrolment.onAdd(await node.sandbox(node.pod('web')), AbortSignal.timeout(CNI_DEADLINE_MS))
  await node.until(() => node.annotation('web') === 'enabled', 'the annotation')
  return { ...node, enrolment, peersKnow, ended, isCarriedOut: () => isCarriedOut }
}

void t.test('peers are told before a pod is withdrawn', async (t) => {
  const { label, until, annotation, capture, peersKnow, ended, isCarriedOut } = await nodeWithPod(t)
  label('shop')
  await until(() => annotation('web') === undefined, 'the annotation to go')
  t.same(capture.calls, ['+web'], 'the pod is captured while its peers do not know')
  peersKnow.resolve(undefined)
  await until(() => capture.enrolled.size === 0, 'the withdrawal')
  t.notOk(isCarriedOut(), 'its established connections keep what they need')
  ended.resolve(undefined)
  await until(isCarriedOut, 'the end of its connections')
})

void t.test('a pod that is wanted again while it leaves stays', async (t) => {
  const { label, until, annotation, capture, peersKnow, enrolment, sandbox, pod } =
    await nodeWithPod(t)
  label('later')
  await enrolment.onAdd(
    await sandbox(pod('witness', { namespace: 'later' })),
    AbortSignal.timeout(CNI_DEADLINE_MS),
  )
  label('shop')
  await until(() => annotation('web') === undefined, 'the annotation to go')
  label('shop', AMBIENT)
  // Namespaces are told in order: who enrols the witness has heard of the shop.
  label('later', AMBIENT)
  await until(() => capture.calls.includes('+witness'), 'the witness')
  peersKnow.resolve(undefined)
  await until(() => annotation('web') === 'enabled', 'the annotation to come back')
  t.same(capture.calls, ['+web', '+witness'], 'it was captured all the time')
})
