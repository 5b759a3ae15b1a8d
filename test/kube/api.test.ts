// SPDX-License-Identifier: Apache-2.0
// The typed calls, their failures, and the kubeconfigs that lead there.

import t from 'tap'
import http from 'node:http'
import https from 'node:https'
import type { AddressInfo } from 'node:net'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import {
  CONFIG_MAPS,
  createKubeApi,
  defineResource,
  loadKubeConfig,
  NAMESPACES,
  PODS,
  resourcePath,
  type KubeApi,
} from '../../mesh/kube/index.ts'
import { readKubeconfig } from '../../mesh/kube/kubeconfig.ts'
import { FaultyApi } from '../support/faulty-api.ts'

async function setUp(test: {
  teardown(handler: () => Promise<void>): void
}): Promise<{ stub: FaultyApi; api: KubeApi }> {
  const stub = new FaultyApi()
  await stub.start()
  stub.put(NAMESPACES, { metadata: { name: 'shop' } })
  test.teardown(() => stub.stop())
  return { stub, api: createKubeApi(stub.access('secret-token')) }
}

const settings = { metadata: { namespace: 'shop', name: 'settings' } }

void t.test('objects are created, read, replaced, patched, listed and deleted', async (t) => {
  const { api, stub } = await setUp(t)
  const created = await api.create(CONFIG_MAPS, { ...settings, data: { a: '1' } })
  if (!created.ok) throw new Error(created.error.message)
  t.match(stub.requests[0], {
    method: 'POST',
    headers: { authorization: 'Bearer secret-token' },
    body: /"apiVersion":"v1","kind":"ConfigMap"/,
  })
  t.match(await api.get(CONFIG_MAPS, settings.metadata), { ok: true, value: { data: { a: '1' } } })
  t.match(await api.update(CONFIG_MAPS, { ...created.value, data: { a: '2' } }), { ok: true })
  t.match(await api.update(CONFIG_MAPS, created.value), { error: { kind: 'conflict' } })
  const patched = await api.patch(CONFIG_MAPS, settings.metadata, { data: { b: '3' } })
  t.match(patched, { ok: true, value: { data: { a: '2', b: '3' } } })
  const list = await api.list(CONFIG_MAPS)
  t.match(list, { ok: true, value: { items: [{ kind: 'ConfigMap', apiVersion: 'v1' }] } })
  t.match(await api.delete(CONFIG_MAPS, settings.metadata, { uid: 'another' }), {
    error: { kind: 'conflict' },
  })
  const uid = created.value.metadata?.uid ?? ''
  t.match(await api.delete(CONFIG_MAPS, settings.metadata, { uid }), { ok: true })
  t.match(await api.get(CONFIG_MAPS, settings.metadata), {
    ok: false,
    error: {
      kind: 'notFound',
      status: 404,
      reason: 'NotFound',
      message: /^Cannot get ConfigMap shop\/settings: /,
    },
  })
})

void t.test('patches say what they are', async (t) => {
  const { api, stub } = await setUp(t)
  stub.put(CONFIG_MAPS, settings)
  const options = {
    type: 'apply',
    fieldManager: 'ambit',
    force: true,
    subresource: 'status',
  } as const
  await api.patch(CONFIG_MAPS, settings.metadata, {}, options)
  const { url, headers } = stub.requests[0] ?? {}
  t.equal(headers?.['content-type'], 'application/apply-patch+yaml')
  t.match(url?.href, /configmaps\/settings\/status\?fieldManager=ambit&force=true$/)
})

void t.test('every refusal has its kind', async (t) => {
  const { api, stub } = await setUp(t)
  const cases = [
    [400, 'BadRequest', 'invalid'],
    [401, 'Unauthorized', 'unauthorized'],
    [403, 'Forbidden', 'forbidden'],
    [409, 'AlreadyExists', 'alreadyExists'],
    [409, 'Conflict', 'conflict'],
    [410, 'Gone', 'gone'],
    [422, 'Invalid', 'invalid'],
    [429, 'TooManyRequests', 'throttled'],
    [500, 'InternalError', 'unavailable'],
    [503, 'ServiceUnavailable', 'unavailable'],
  ] as const
  for (const [status, reason, kind] of cases) {
    stub.fail('GET', /settings/, status === 401 ? 2 : 1, status, reason)
    t.match(await api.get(CONFIG_MAPS, settings.metadata), { error: { kind, status, reason } })
  }
})

void t.test('answers that do not come, or are no JSON, are failures in time', async (t) => {
  const { api, stub } = await setUp(t)
  stub.fail('GET', /settings/, 1, () => undefined)
  const silent = await api.get(CONFIG_MAPS, settings.metadata, { deadlineMs: 100 })
  t.match(silent, { error: { kind: 'timeout', message: /no answer within 100 ms/ } })
  stub.fail('GET', /settings/, 1, (_, response) => response.write('{"half":'))
  const half = await api.get(CONFIG_MAPS, settings.metadata, { deadlineMs: 100 })
  t.match(half, { error: { kind: 'timeout' } })
  stub.fail('GET', /settings/, 1, (_, response) => response.end('<html>'))
  t.match(await api.get(CONFIG_MAPS, settings.metadata), { error: { kind: 'unavailable' } })
  stub.fail('GET', /settings/, 1, () => undefined)
  const aborter = new AbortController()
  const call = api.get(CONFIG_MAPS, settings.metadata, { signal: aborter.signal })
  await stub.until(() => stub.requests.length === 4, 'the call')
  aborter.abort()
  t.match(await call, { error: { kind: 'aborted' } })
  await stub.stop()
  t.match(await api.get(CONFIG_MAPS, settings.metadata), { error: { kind: 'unavailable' } })
  await stub.start()
})

void t.test('a token that was rotated is read again after a 401', async (t) => {
  const { stub } = await setUp(t)
  const directory = await mkdtemp(path.join(tmpdir(), 'ambit-kube-'))
  t.teardown(() => rm(directory, { recursive: true, force: true }))
  const kubeconfig = path.join(directory, 'config')
  await writeFile(path.join(directory, 'token'), 'old\n')
  await writeFile(
    kubeconfig,
    `apiVersion: v1
kind: Config
current-context: lab
contexts: [{name: lab, context: {cluster: lab, user: me, namespace: shop}}]
clusters: [{name: lab, cluster: {server: 'http://127.0.0.1:${stub.port}/prefix'}}]
users: [{name: me, user: {tokenFile: token}}]
`,
  )
  const access = await loadKubeConfig({ kubeconfig })
  if (!access.ok) throw access.error
  t.equal(access.value.namespace, 'shop')
  const api = createKubeApi(access.value)
  stub.put(NAMESPACES, { metadata: { name: 'shop' } })
  stub.fail('GET', /./, Infinity, (request, response) => {
    response.writeHead(request.headers.authorization === 'Bearer new' ? 200 : 401)
    response.end('{}')
  })
  t.match(await api.get(NAMESPACES, { name: 'shop' }), { error: { kind: 'unauthorized' } })
  await writeFile(path.join(directory, 'token'), 'new\n')
  t.match(await api.get(NAMESPACES, { name: 'shop' }), { ok: true })
  t.equal(stub.requests[0]?.url.pathname, '/prefix/api/v1/namespaces/shop')
})

void t.test('kubeconfigs that cannot be used say file, field and reason', async (t) => {
  const good = {
    'current-context': 'c',
    contexts: [{ name: 'c', context: { cluster: 'k', user: 'u' } }],
    clusters: [{ name: 'k', cluster: { server: 'https://10.0.0.1:6443' } }],
    users: [{ name: 'u', user: {} }],
  }
  const cases: readonly [string, RegExp][] = [
    ['', /not a mapping/],
    ['{', /not valid YAML/],
    ['a: [', /not valid YAML/],
    ['[]', /not a mapping/],
    [JSON.stringify({ ...good, 'current-context': '' }), /current-context is not set/],
    [
      JSON.stringify({ ...good, 'current-context': 'x' }),
      /contexts has no entry for the current context/,
    ],
    [
      JSON.stringify({ ...good, clusters: [] }),
      /clusters has no entry with the cluster of the current context/,
    ],
    [
      JSON.stringify({ ...good, users: [{ name: 'u' }] }),
      /users has no entry with the user of the current context/,
    ],
    [
      JSON.stringify({ ...good, clusters: [{ name: 'k', cluster: { server: '10.0.0.1' } }] }),
      /the cluster of the current context has no valid server URL \(field server\)/,
    ],
  ]
  for (const [text, reason] of cases)
    await t.rejects(readKubeconfig(text, '/home/me/config'), {
      code: 'AMB_KUBECONFIG',
      message: reason,
    })
  const read = await readKubeconfig(JSON.stringify(good), '/home/me/config')
  t.match(read, {
    server: 'https://10.0.0.1:6443',
    namespace: 'default',
  })
  t.equal(read.forOfficialClient, undefined)
  t.match(await loadKubeConfig({ kubeconfig: '/nowhere/config' }), {
    ok: false,
    error: { code: 'AMB_KUBECONFIG', message: /Cannot read kubeconfig \/nowhere\/config/ },
  })
})

void t.test('exec plugins are left to the official client', async (t) => {
  const { stub } = await setUp(t)
  const directory = await mkdtemp(path.join(tmpdir(), 'ambit-kube-'))
  t.teardown(() => rm(directory, { recursive: true, force: true }))
  const kubeconfig = path.join(directory, 'config')
  const credential = {
    apiVersion: 'client.authentication.k8s.io/v1',
    kind: 'ExecCredential',
    status: { token: 'from-the-plugin' },
  }
  const exec = {
    apiVersion: 'client.authentication.k8s.io/v1',
    command: 'echo',
    args: [JSON.stringify(credential)],
    interactiveMode: 'Never',
  }
  await writeFile(
    kubeconfig,
    JSON.stringify({
      'current-context': 'c',
      contexts: [{ name: 'c', context: { cluster: 'k', user: 'u' } }],
      clusters: [
        {
          name: 'k',
          cluster: { 'insecure-skip-tls-verify': true, server: `http://127.0.0.1:${stub.port}` },
        },
      ],
      users: [{ name: 'u', user: { exec } }],
    }),
  )
  const access = await loadKubeConfig({ kubeconfig })
  if (!access.ok) throw access.error
  stub.put(NAMESPACES, { metadata: { name: 'shop' } })
  t.match(await createKubeApi(access.value).get(NAMESPACES, { name: 'shop' }), { ok: true })
  t.equal(stub.requests[0]?.headers.authorization, 'Bearer from-the-plugin')
})

void t.test('paths are what the API expects', (t) => {
  t.equal(resourcePath(PODS), '/api/v1/pods')
  const target = { namespace: 'a/b', name: 'c', subresource: 'status' }
  t.equal(resourcePath(PODS, target), '/api/v1/namespaces/a%2Fb/pods/c/status')
  t.equal(resourcePath(NAMESPACES, { namespace: 'x', name: 'y' }), '/api/v1/namespaces/y')
  const gateways = defineResource('gateway.networking.k8s.io', 'v1', 'gateways', 'Gateway')
  t.equal(resourcePath(gateways), '/apis/gateway.networking.k8s.io/v1/gateways')
  t.end()
})

void t.test('credentials that no request can carry are a refusal, and read again', async (t) => {
  const { stub } = await setUp(t)
  stub.put(CONFIG_MAPS, settings)
  const torn = [
    { token: 'Zq7hush\nZq7', tls: {} },
    { token: 'sound', tls: { cert: 'half of a certificate', key: 'half of a key' } },
  ]
  for (const { token, tls } of torn) {
    const isTls = Object.keys(tls).length > 0
    const good = stub.access('secret-token')
    const access = (heals: boolean): KubeApi['access'] => ({
      ...good,
      server: isTls ? new URL(`https://127.0.0.1:${stub.port}`) : good.server,
      credentials: async (options) =>
        heals && options?.refresh === true
          ? await good.credentials()
          : {
              headers: { authorization: `Bearer ${token}` },
              agent: isTls ? new https.Agent(tls) : new http.Agent(),
            },
    })
    const refused = await createKubeApi(access(false)).get(CONFIG_MAPS, settings.metadata)
    t.match(refused, {
      ok: false,
      error: {
        kind: 'unauthorized',
        message: /^Cannot get ConfigMap shop\/settings: its credentials cannot be used: /,
      },
    })
    t.notMatch(JSON.stringify(refused), /Zq7/, 'the token is not told')
    if (isTls) continue
    const healed = await createKubeApi(access(true)).get(CONFIG_MAPS, settings.metadata)
    t.match(healed, { ok: true }, 'the file was being written')
  }
})

void t.test('a kubeconfig may be JSON, or YAML that looks like it', async (t) => {
  const cluster = `clusters: [{name: c, cluster: {server: 'https://127.0.0.1:6443'}}]`
  const text = `{current-context: x, contexts: [{name: x, context: {cluster: c, namespace: shop}}], ${cluster}}`
  t.match(await readKubeconfig(text, 'config'), { namespace: 'shop' })
  await t.rejects(readKubeconfig(`${text}}`, 'config'), {
    code: 'AMB_KUBECONFIG',
    message: /not valid YAML: line 1: /,
  })
})

void t.test('of several files in KUBECONFIG the first counts, wherever it was read', async (t) => {
  const before = process.env.KUBECONFIG
  t.teardown(() => {
    if (before === undefined) Reflect.deleteProperty(process.env, 'KUBECONFIG')
    else process.env.KUBECONFIG = before
  })
  const several = `/nowhere/one${path.delimiter}/nowhere/two`
  process.env.KUBECONFIG = several
  for (const options of [{}, { kubeconfig: several }])
    t.match(await loadKubeConfig(options), {
      error: { code: 'AMB_KUBECONFIG', message: /Cannot read kubeconfig \/nowhere\/one: / },
    })
})

void t.test('a kept connection that is closed just then costs a read nothing', async (t) => {
  // Each connection carries one answer, and is reset when it is asked for more.
  const used = new WeakSet<object>()
  const asked: string[] = []
  const server = http.createServer((request, response) => {
    asked.push(request.method ?? '')
    if (used.has(request.socket)) request.socket.resetAndDestroy()
    used.add(request.socket)
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end('{"metadata":{"name":"shop"}}')
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(() => {
    agent.destroy()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  const api = createKubeApi({
    server: new URL(`http://127.0.0.1:${port}`),
    namespace: 'default',
    source: 'test',
    credentials: () => Promise.resolve({ agent, headers: {} }),
  })
  t.match(await api.get(NAMESPACES, { name: 'shop' }), { ok: true })
  t.match(await api.get(NAMESPACES, { name: 'shop' }), { ok: true }, 'asked again')
  t.same(asked, ['GET', 'GET', 'GET'])
  // What changes something may have been done already.
  const changed = await api.patch(NAMESPACES, { name: 'shop' }, { metadata: { labels: {} } })
  t.match(changed, { ok: false, error: { kind: 'unavailable' } })
})
