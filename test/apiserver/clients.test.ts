// SPDX-License-Identifier: Apache-2.0
// The official JavaScript client and raw HTTP against the server, and listening on a socket made elsewhere.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import type { IncomingMessage } from 'node:http'
import { request } from 'node:https'
import { fileURLToPath } from 'node:url'
import {
  CoreV1Api,
  KubeConfig,
  PatchStrategy,
  type V1Pod,
  makeInformer,
  setHeaderOptions,
} from '@kubernetes/client-node'
import t from 'tap'
import { contract, startCluster } from './cluster.ts'
import { untilOutput } from './waiting.ts'

void t.test(
  'the official client lists, watches, patches and survives a broken watch',
  async (t) => {
    await using cluster = await startCluster()
    const config = new KubeConfig()
    config.loadFromString(cluster.server.kubeconfig({ server: cluster.url }))
    const core = config.makeApiClient(CoreV1Api)
    const made = await core.createNamespacedPod({
      namespace: 'default',
      body: { metadata: { name: 'p' }, spec: { containers: [{ name: 'main', image: 'host' }] } },
    })
    t.type(made.metadata?.creationTimestamp, Date)

    const informer = makeInformer(config, '/api/v1/pods', () => core.listPodForAllNamespaces())
    const waiting: { isIt: (pod: V1Pod) => boolean; resolve: (pod: V1Pod) => void }[] = []
    const until = (isIt: (pod: V1Pod) => boolean): Promise<V1Pod> =>
      new Promise((resolve) => waiting.push({ isIt, resolve }))
    const look = (pod: V1Pod): void => {
      for (const one of waiting) if (one.isIt(pod)) one.resolve(pod)
    }
    informer.on('add', look)
    informer.on('update', look)
    let isOver = false
    informer.on('error', () => {
      if (!isOver) void informer.start()
    })
    const running = until((pod) => pod.status?.phase === 'Running')
    await informer.start()
    await running

    const annotated = until(
      (pod) => pod.metadata?.annotations?.['ambient.istio.io/redirection'] === 'enabled',
    )
    await core.patchNamespacedPodStatus(
      {
        name: 'p',
        namespace: 'default',
        body: { metadata: { annotations: { 'ambient.istio.io/redirection': 'enabled' } } },
      },
      setHeaderOptions('Content-Type', PatchStrategy.StrategicMergePatch),
    )
    t.match((await annotated).status?.phase, 'Running', 'the rest of the status stays')

    t.ok(cluster.server.breakWatches('pods') >= 1)
    const relabelled = until((pod) => pod.metadata?.labels?.after === 'break')
    await cluster.api.patch('pods', 'default', 'p', {
      type: 'merge',
      body: { metadata: { labels: { after: 'break' } } },
    })
    await relabelled
    isOver = true
    await informer.stop()
    await t.rejects(core.readNamespacedPod({ name: 'ghost', namespace: 'default' }), { code: 404 })
  },
)

contract(
  'requests that make no sense get the status that says so',
  { nodes: 0 },
  async (t, cluster) => {
    const pods = '/api/v1/namespaces/default/pods'
    const json = { 'content-type': 'application/json' }
    const isOwn = cluster.kind === 'own'
    const cases = [
      ['/api/v1/wheels', {}, 404, 'NotFound'],
      ['/apis/nobody.example/v1', {}, 404, 'NotFound'],
      ['/apis/apps/v2/deployments', {}, 404, 'NotFound'],
      [pods, { method: 'PUT', body: {} }, 405, 'MethodNotAllowed'],
      [pods, { method: 'POST', body: { metadata: { name: 'x' } } }, 422, 'Invalid'],
      [pods, { method: 'POST', body: [] }, 400, 'BadRequest'],
      [
        pods,
        { method: 'POST', body: { apiVersion: 'v1', kind: 'Service', metadata: { name: 'x' } } },
        400,
        'BadRequest',
      ],
      [`${pods}?labelSelector=a%20b%20c`, {}, 400, 'BadRequest'],
      [`${pods}?fieldSelector=nonsense`, {}, 400, 'BadRequest'],
      // kube-apiserver calls this an error of its own, and gives no reason.
      [
        `${pods}?watch=1&resourceVersion=abc`,
        {},
        isOwn ? 400 : 500,
        isOwn ? 'BadRequest' : undefined,
      ],
      [`${pods}/x`, { method: 'PATCH', body: {}, headers: json }, 415, 'UnsupportedMediaType'],
      [
        `${pods}/x`,
        { method: 'PATCH', body: {}, headers: { 'content-type': 'application/merge-patch+json' } },
        404,
        'NotFound',
      ],
      [`${pods}/x/wheels`, { method: 'POST', body: {} }, 404, 'NotFound'],
      [
        pods,
        // Little more than the 3 MiB that are read: kube-apiserver resets who still writes half a second after its answer.
        { method: 'POST', body: { pad: 'x'.repeat(3 * 1024 * 1024) } },
        413,
        'RequestEntityTooLarge',
      ],
      [
        pods,
        {
          method: 'POST',
          body: {},
          headers: { 'content-type': 'application/vnd.kubernetes.protobuf' },
        },
        400,
        'BadRequest',
      ],
    ] as const
    for (const [path, init, code, reason] of cases) {
      const response = await cluster.fetch(path, init)
      t.equal(response.status, code, `${JSON.stringify(init).slice(0, 80)} ${path}`)
      // Of a group that nobody serves, kube-apiserver says so in plain text.
      if (!isOwn && path.startsWith('/apis/nobody.example')) continue
      t.match(await response.json(), { kind: 'Status', status: 'Failure', code, reason })
    }
  },
)

contract(
  'a stale resourceVersion or another uid is a conflict',
  { nodes: 0 },
  async (t, cluster) => {
    const { api } = cluster
    const made = await api.create('configmaps', 'default', {
      metadata: { name: 'c' },
      data: { a: '1' },
    })
    if (!made.ok) throw new Error(made.error.message)
    const updated = await api.update('configmaps', 'default', { ...made.value, data: { a: '2' } })
    t.equal(updated.ok, true)
    t.match(await api.update('configmaps', 'default', { ...made.value, data: { a: '3' } }), {
      ok: false,
      error: { status: 409, reason: 'Conflict' },
    })
    t.match(await api.delete('configmaps', 'default', 'c', { preconditions: { uid: 'another' } }), {
      ok: false,
      error: { status: 409 },
    })
    t.match(await api.create('configmaps', 'default', { metadata: { name: 'c' } }), {
      ok: false,
      error: { reason: 'AlreadyExists' },
    })
    const same = await api.update('configmaps', 'default', {
      metadata: { name: 'c' },
      data: { a: '2' },
    })
    t.equal(
      same.ok && updated.ok && same.value.metadata.resourceVersion,
      updated.ok && updated.value.metadata.resourceVersion,
      'a write that changes nothing is no change',
    )
  },
)

void t.test('the server listens on a socket that somebody else opened', async (t) => {
  const listener = createServer()
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const { port } = listener.address() as AddressInfo
  const { _handle: handle } = listener as unknown as { _handle: { fd: number } }
  const index = fileURLToPath(
    new URL('../../lab/kubernetes/own/apiserver/index.ts', import.meta.url),
  )
  const script = `
    import { startApiServer } from ${JSON.stringify(index)}
    const server = await startApiServer()
    await server.attachListenFd(3)
    console.log(JSON.stringify({ caPem: server.caPem, token: server.adminToken }))
    process.stdin.on('end', () => server.close().then(() => process.exit(0))).resume()`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['pipe', 'pipe', 'inherit', handle.fd],
  })
  t.teardown(() => child.kill('SIGKILL'))
  const exited = once(child, 'exit')
  if (child.stdout === null || child.stdin === null) throw new Error('no pipes')
  const line = await untilOutput(child.stdout, (text) => text.includes('\n'))
  listener.close()
  const { caPem, token } = JSON.parse(line) as { caPem: string; token: string }
  const outgoing = request(`https://127.0.0.1:${port}/api/v1/namespaces/default`, {
    ca: caPem,
    agent: false,
    headers: { authorization: `Bearer ${token}` },
  })
  outgoing.end()
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage]
  t.equal(response.statusCode, 200)
  response.resume()
  child.stdin.end()
  t.strictSame(await exited, [0, null], 'and it closes cleanly')
})
