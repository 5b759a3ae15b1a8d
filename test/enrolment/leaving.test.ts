// SPDX-License-Identifier: Apache-2.0
// A pod that leaves the mesh and lives on: capture ends at once, HBONE goes on for peers that have not heard of it, and
// what its connections need goes with the last of them.

import t, { type Test } from 'tap'
import { rm } from 'node:fs/promises'
import type { NodeEnrolment } from '../../agent/enrolment/index.ts'
import { PODS } from '../../mesh/kube/index.ts'
import { until as eventually } from '../support/until.ts'
import { AMBIENT, inTime, NONE, setUpNode, stateFiles, type NodeSetting } from './node-setting.ts'
import { RecordingCapture } from './recording-capture.ts'

interface NodeWithPod extends NodeSetting {
  readonly enrolment: NodeEnrolment
  readonly netnsPath: string
}

/** A node with the enrolled pod `web`. */
async function nodeWithPod(test: Test, peersForgetMs = 3_600_000): Promise<NodeWithPod> {
  const node = await setUpNode(test)
  node.label('shop', AMBIENT)
  const enrolment = await node.start({ peersForgetMs })
  await enrolment.synced
  const cni = await node.sandbox(node.pod('web'))
  await enrolment.onAdd(cni, inTime())
  await node.until(() => node.annotation('web') === 'enabled', 'the annotation')
  return { ...node, enrolment, netnsPath: cni.netnsPath }
}

/** It has left, its peers are told, and nobody serves it the less for that. */
async function hasLeft({ until, annotation, capture, told }: NodeWithPod): Promise<void> {
  await until(() => annotation('web') === undefined, 'the annotation to go')
  await until(() => capture.left.size === 1 && capture.enrolled.size === 0, 'the end of capture')
  await until(() => told.at(-1) === 'served web again', 'HBONE to be served')
}

void t.test(
  'a pod that leaves, by its label or its namespace, goes on with HBONE alone',
  async (t) => {
    for (const leave of [
      ({ label }: NodeSetting) => label('shop'),
      ({ pod }: NodeSetting) => void pod('web', { labels: NONE }),
    ]) {
      const node = await nodeWithPod(t)
      leave(node)
      await hasLeft(node)
      t.same(node.capture.calls, ['+web', '~web'])
      t.notOk(node.told.includes('withdrawn web'), 'what it has open goes on')
    }
  },
)

void t.test('one that is wanted again is captured again, and no connection notices', async (t) => {
  const node = await nodeWithPod(t)
  node.label('shop')
  await hasLeft(node)
  node.label('shop', AMBIENT)
  await node.until(() => node.annotation('web') === 'enabled', 'the annotation to come back')
  t.same(node.capture.calls, ['+web', '~web', '+web'])
  t.equal(node.capture.left.size, 0)
  t.notOk(node.told.includes('withdrawn web'))
})

void t.test('when no peer can remember it, its HBONE ends', async (t) => {
  const node = await nodeWithPod(t, 300)
  node.label('shop')
  // That it has left lasts for a moment: what was told of it stays.
  await node.until(() => node.told.includes('withdrawn web'), 'the end of HBONE')
  t.same(node.told, ['enrolled web as web', 'served web again', 'withdrawn web'])
  await node.until(() => node.annotation('web') === undefined, 'the annotation to go')
  t.same(node.capture.calls, ['+web', '~web', '-web'])
  // The file is written in one step, after the data plane was told.
  const file = `${node.pod('web').metadata?.uid ?? ''}.json`
  await eventually(
    async () => String(await stateFiles(node.stateDirectory)) === file,
    () => `the state of ${file} alone`,
  )
})

void t.test(
  'it ends with its sandbox, and with its namespace when it is deleted by force',
  async (t) => {
    const first = await nodeWithPod(t)
    first.label('shop')
    await hasLeft(first)
    const { capture } = first
    const [left] = capture.left.values()
    const containerId = left?.pod.netnsPath.split('netns-')[1] ?? ''
    const cni = { ...(await first.sandbox(first.pod('web'), containerId)), addresses: [] }
    await first.enrolment.onDel(cni)
    t.same(first.told.at(-1), 'withdrawn web')

    const second = await nodeWithPod(t)
    second.label('shop')
    await hasLeft(second)
    second.stub.remove(PODS, 'shop/web')
    second.label('later', AMBIENT)
    await second.enrolment.onAdd(
      await second.sandbox(second.pod('witness', { namespace: 'later' })),
      inTime(),
    )
    t.equal(second.capture.left.size, 1, 'it may run yet')
    await rm(second.netnsPath)
    await second.until(() => second.told.includes('withdrawn web'), 'its end')
  },
)

void t.test('the next agent serves it on, also before the API answers', async (t) => {
  const node = await nodeWithPod(t)
  node.label('shop')
  await hasLeft(node)
  await node.enrolment.close({ withdraw: false })
  const { port } = node.stub
  await node.stub.stop()
  const capture = new RecordingCapture()
  t.teardown(() => capture.close())
  const enrolment = await node.start({ capture })
  t.same(capture.calls, ['~web'])
  t.equal(node.told.at(-1), 'enrolled web as web', 'by a data plane that knew nothing of it')
  await node.stub.start(port)
  await enrolment.synced
  t.same(capture.calls, ['~web'], 'and not captured when it has')
  node.label('shop', AMBIENT)
  await node.until(() => node.annotation('web') === 'enabled', 'the annotation')
  t.same(capture.calls, ['~web', '+web'])
})

void t.test('one whose worker dies after it has left is served by the next', async (t) => {
  const node = await nodeWithPod(t)
  node.label('shop')
  await hasLeft(node)
  node.listenersLost.get('web')?.()
  await node.until(() => node.capture.calls.length === 3, 'a fresh listener')
  t.same(node.capture.calls, ['+web', '~web', '~web'])
})
