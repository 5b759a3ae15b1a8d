// SPDX-License-Identifier: Apache-2.0
// Enrolment against the lab's API server, over TLS with its kubeconfig: what a stub would let pass, it might not.

import t from 'tap'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { pino } from 'pino'
import { startEnrolment } from '../../agent/enrolment/index.ts'
import { startApiServer } from '../../lab/kubernetes/own/apiserver/index.ts'
import {
  createKubeApi,
  EVENTS,
  loadKubeConfig,
  NAMESPACES,
  PODS,
  watchResource,
  type Pod,
} from '../../mesh/kube/index.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { AMBIENT, believeTheOldest } from './node-setting.ts'
import { portTaken, RecordingCapture } from './recording-capture.ts'
import { recordingServer } from './recording-server.ts'
import { until } from '../support/until.ts'

void t.test('a pod is enrolled, annotated, reported and withdrawn', async (t) => {
  const directory = await mkdtemp(path.join(tmpdir(), 'ambit-lab-api-'))
  const server = await startApiServer()
  t.teardown(async () => {
    await server.close()
    await rm(directory, { recursive: true, force: true })
  })
  const { port } = await server.listen('127.0.0.1', 0)
  const kubeconfig = path.join(directory, 'kubeconfig')
  await writeFile(kubeconfig, server.kubeconfig({ server: `https://127.0.0.1:${port}` }))
  const access = await loadKubeConfig({ kubeconfig })
  if (!access.ok) throw access.error
  const api = createKubeApi(access.value)
  const logger = pino({ level: 'silent' })
  const capture = new RecordingCapture()
  const told: string[] = []
  const enrolment = await startEnrolment({
    api,
    nodeName: 'node-a',
    capture,
    server: recordingServer(told),
    nodeCgroup: '/',
    prove: believeTheOldest,
    stateDirectory: path.join(directory, 'state'),
    logger,
    peersForgetMs: 3_600_000,
  })
  const seen = watchResource(api, PODS, { logger, namespace: 'shop' })
  t.teardown(async () => {
    await seen.close()
    await enrolment.close({ withdraw: false })
    await capture.close()
  })
  await enrolment.synced

  t.match(await api.create(NAMESPACES, { metadata: { name: 'shop' } }), { ok: true })
  const created = await api.create(PODS, {
    metadata: { namespace: 'shop', name: 'web' },
    spec: {
      nodeName: 'node-a',
      containers: [{ name: 'web', image: 'host', command: ['sleep', '1'] }],
    },
  })
  if (!created.ok) throw new Error(created.error.message)
  const netnsPath = path.join(directory, 'netns')
  await writeFile(netnsPath, '')
  const cni = {
    containerId: 'c1',
    netnsPath,
    ifname: 'eth0',
    namespace: 'shop',
    name: 'web',
    uid: created.value.metadata?.uid,
    addresses: ['10.244.1.7' as IpAddress],
  }
  t.ok((await enrolment.onAdd(cni, AbortSignal.timeout(5000))).ok)
  t.same(told, [], 'not labelled yet')

  const label = (labels: Record<string, string | null>): Promise<unknown> =>
    api.patch(NAMESPACES, { name: 'shop' }, { metadata: { labels } })
  const annotation = (): string | undefined =>
    seen.get('shop/web')?.metadata?.annotations?.['ambient.istio.io/redirection']
  await label(AMBIENT)
  await until(() => annotation() === 'enabled', 'the annotation')
  t.same(told, ['enrolled web as default'])
  await label({ 'istio.io/dataplane-mode': null })
  await until(() => annotation() === undefined && told.length === 2, 'the withdrawal')

  capture.refusals.set('web', portTaken('web'))
  await label(AMBIENT)
  let events: readonly string[] = []
  await until(async () => {
    const list = await api.list(EVENTS, { namespace: 'shop' })
    events = list.ok ? list.value.items.map(({ reason, message }) => `${reason}: ${message}`) : []
    return events.some((text) => text.startsWith('EnrolmentFailed'))
  }, 'the event')
  t.match(events.join(), /port 15008 is taken/)

  // Another pod of the name: the precondition on the UID must keep an old wish away from it.
  const stale: Pod = { metadata: { uid: 'other', annotations: { x: 'y' } } }
  const refused = await api.patch(PODS, { namespace: 'shop', name: 'web' }, stale, {
    subresource: 'status',
  })
  t.match(refused, { ok: false, error: { kind: 'conflict' } })
})
