// SPDX-License-Identifier: Apache-2.0
// Whether an agent that is told to end is the last of its node: by its DaemonSet, as far as the API server still says.

import { pino } from 'pino'
import t, { type Test } from 'tap'
import { OwnDaemonSet } from '../../agent/own-daemon-set.ts'
import { createKubeApi, DAEMON_SETS, type Pod, PODS } from '../../mesh/kube/index.ts'
import { FaultyApi } from '../support/faulty-api.ts'
import { until } from '../support/until.ts'

const NAMESPACE = 'ambit-system'
const OWNER = {
  apiVersion: 'apps/v1',
  kind: 'DaemonSet',
  name: 'ambit-agent',
  uid: 'd',
  controller: true,
}

const GATE = { conditionType: 'ambit.io/serves-node' }

interface Setting {
  readonly kube: FaultyApi
  readonly owner: OwnDaemonSet
  readonly logged: string[]
  deleteDaemonSet(): void
}

async function setUp(t: Test, owners: readonly object[] = [OWNER]): Promise<Setting> {
  const kube = new FaultyApi()
  await kube.start()
  t.teardown(() => kube.stop())
  kube.put(DAEMON_SETS, { metadata: { namespace: NAMESPACE, name: 'ambit-agent', uid: 'd' } })
  kube.put(PODS, {
    metadata: {
      namespace: NAMESPACE,
      name: 'ambit-agent-x7k2p',
      creationTimestamp: '2026-01-01T00:00:10Z',
      // As the API server has them.
      ownerReferences: owners as (typeof OWNER)[],
    },
    spec: { containers: [] },
  })
  const logged: string[] = []
  const owner = new OwnDaemonSet({
    api: createKubeApi(kube.access()),
    podNamespace: NAMESPACE,
    podName: 'ambit-agent-x7k2p',
    logger: pino({ level: 'debug' }, { write: (line: string) => void logged.push(line) }),
  })
  t.teardown(() => owner.close())
  if (owners.length > 0) await kube.until(() => kube.watches.size > 0, 'the watch')
  return {
    kube,
    owner,
    logged,
    deleteDaemonSet: () => kube.remove(DAEMON_SETS, `${NAMESPACE}/ambit-agent`),
  }
}

void t.test('an agent whose DaemonSet is there is restarted or upgraded', async (t) => {
  const { owner } = await setUp(t)
  t.equal(await owner.isGone(), false)
})

void t.test('one whose DaemonSet is deleted is the last', async (t) => {
  const { owner, deleteDaemonSet } = await setUp(t)
  deleteDaemonSet()
  t.equal(await owner.isGone(), true)
})

void t.test('also while it waits for its pods to be gone', async (t) => {
  const { kube, owner } = await setUp(t)
  kube.put(DAEMON_SETS, {
    metadata: {
      namespace: NAMESPACE,
      name: 'ambit-agent',
      uid: 'd',
      deletionTimestamp: '2026-01-01T00:00:00Z',
      finalizers: ['foregroundDeletion'],
    },
  })
  t.equal(await owner.isGone(), true)
})

void t.test('when its role went with it, what the watch had heard counts', async (t) => {
  const { kube, owner, logged, deleteDaemonSet } = await setUp(t)
  kube.fail('GET', /daemonsets\/ambit-agent/, Infinity, 403)
  t.equal(await owner.isGone(), false, 'a role that was taken away alone says nothing')
  deleteDaemonSet()
  await until(() => logged.some((line) => line.includes('is deleted')), 'the news')
  t.equal(await owner.isGone(), true)
})

void t.test('one that was deleted and applied again goes on', async (t) => {
  const { kube, owner, logged, deleteDaemonSet } = await setUp(t)
  deleteDaemonSet()
  await until(() => logged.some((line) => line.includes('is deleted')), 'the news')
  kube.put(DAEMON_SETS, { metadata: { namespace: NAMESPACE, name: 'ambit-agent', uid: 'd2' } })
  t.equal(await owner.isGone(), false)
})

void t.test('an API server that is away proves nothing', async (t) => {
  const { kube, owner } = await setUp(t)
  await kube.stop()
  t.equal(await owner.isGone(), false)
  await kube.start()
})

void t.test('nor does a 404 of something in its place', async (t) => {
  const { kube, owner } = await setUp(t)
  kube.fail('GET', /daemonsets\/ambit-agent/, 1, (_, response) => {
    response.writeHead(404, { 'content-type': 'text/plain' })
    response.end('default backend - 404')
  })
  t.equal(await owner.isGone(), false, 'the mesh does not leave the node for it')
  t.equal(await owner.isGone(), false)
})

void t.test('an agent that no DaemonSet runs leaves everything in place', async (t) => {
  const { owner, logged } = await setUp(t, [])
  await until(() => logged.some((line) => line.includes('no DaemonSet')), 'its finding')
  t.equal(await owner.isGone(), false)
})

void t.test(
  'its successor is a younger pod of the same DaemonSet that has not failed to start',
  async (t) => {
    const { owner } = await setUp(t)
    type States = NonNullable<NonNullable<Pod['status']>['containerStatuses']>[number]['state']
    const running = { running: { startedAt: '2026-01-01T00:00:21Z' } }
    const pod = (
      name: string,
      metadata: NonNullable<Pod['metadata']> = {},
      state: States = running,
    ): Pod => ({
      metadata: {
        namespace: NAMESPACE,
        name,
        creationTimestamp: '2026-01-01T00:00:20Z',
        ownerReferences: [OWNER],
        ...metadata,
      },
      spec: { containers: [] },
      status: {
        containerStatuses: [
          { name: 'agent', ready: false, restartCount: 0, image: '', imageID: '', state },
        ],
      },
    })
    const others = [
      pod('ambit-agent-x7k2p', { creationTimestamp: '2026-01-01T00:00:10Z' }),
      pod('older', { creationTimestamp: '2026-01-01T00:00:00Z' }),
      pod('ending', { deletionTimestamp: '2026-01-01T00:00:30Z' }),
      pod('elsewhere', { namespace: 'shop' }),
      pod('of-others', { ownerReferences: [{ ...OWNER, name: 'other' }] }),
      pod('of-nobody', { ownerReferences: [] }),
      pod('without-image', {}, { waiting: { reason: 'ErrImagePull' } }),
      pod('crashed', {}, { waiting: { reason: 'CrashLoopBackOff' } }),
    ]
    t.equal(owner.successorAmong(others), undefined)
    t.equal(owner.successorAmong([...others, pod('next')]), 'next')
    const creating = pod('next', {}, { waiting: { reason: 'ContainerCreating' } })
    t.equal(owner.successorAmong([creating]), 'next', 'it may be probed any moment')
    t.equal(owner.successorAmong([{ ...creating, status: {} }]), 'next')
    const gated = { ...pod('next').spec, containers: [], readinessGates: [GATE] }
    t.equal(
      owner.successorAmong([{ ...pod('next'), spec: gated }]),
      undefined,
      'one whose pod is ready only by its own word is no reason to be unready',
    )
  },
)
