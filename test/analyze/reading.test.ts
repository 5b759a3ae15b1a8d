// SPDX-License-Identifier: Apache-2.0
// Where `ambit analyze` has its objects from: a cluster of which only some may be read, files, and both together.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { analyze } from '../../cli/analyze/analyze.ts'
import { refName } from '../../cli/analyze/finding.ts'
import { objectsOf } from '../../cli/analyze/objects.ts'
import { readCluster } from '../../cli/analyze/read-cluster.ts'
import { broughtBy, filesAlone, readFiles, withFiles } from '../../cli/analyze/read-files.ts'
import { refusedCallers } from '../../cli/analyze/refused-callers.ts'
import { createKubeApi } from '../../mesh/kube/index.ts'
import { OPTIONS, SHOP } from './clusters.ts'

type Test = { teardown(end: () => void): void }

/** An API server with these objects by path; what else there is may not be read. */
async function server(t: Test, lists: Readonly<Record<string, readonly object[]>>, status = 403) {
  const answer = http
    .createServer((request, response) => {
      const [path = ''] = (request.url ?? '').split('?')
      const items = lists[path]
      response.writeHead(items === undefined ? status : 200, { 'content-type': 'application/json' })
      response.end(
        JSON.stringify(
          items === undefined ? { message: 'no', reason: 'no' } : { kind: 'List', items },
        ),
      )
    })
    .listen(0, '127.0.0.1')
  await once(answer, 'listening')
  t.teardown(() => {
    answer.closeAllConnections()
    answer.close()
  })
  return createKubeApi({
    server: new URL(`http://127.0.0.1:${(answer.address() as AddressInfo).port}`),
    namespace: 'default',
    source: 'test',
    credentials: () => Promise.resolve({ headers: {}, agent: new http.Agent() }),
  })
}

function file(t: Test, text: string): string {
  const directory = mkdtempSync(join(tmpdir(), 'ambit-analyze-'))
  t.teardown(() => rmSync(directory, { recursive: true }))
  const path = join(directory, 'objects.yaml')
  writeFileSync(path, text)
  return path
}

const TYPO = `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: typo, namespace: shop }
spec: { selector: { matchLabels: { app: catalogue } }, rules: [{}] }
`
const pod = (name: string) => ({ metadata: { name, namespace: 'shop', labels: { app: name } } })

void t.test(
  'who may read one namespace only has what can be said of it, and is told the rest',
  async (t) => {
    const api = await server(t, {
      '/api/v1/namespaces/shop/pods': [pod('catalog')],
      '/apis/security.istio.io/v1/namespaces/shop/authorizationpolicies': [
        {
          metadata: { name: 'typo', namespace: 'shop' },
          spec: { selector: { matchLabels: { app: 'x' } } },
        },
      ],
    })
    const { byKind, known, refused } = await readCluster(api, 'shop')
    t.match(refused.get('Service'), /list services: no/)
    const { findings, notChecked } = analyze(objectsOf(byKind, known), OPTIONS)
    t.same(
      findings.map(({ code }) => code),
      ['AMB101'],
    )
    t.ok(notChecked.some(({ kinds }) => kinds.includes('Service')))
  },
)

void t.test('who may read nothing, and who reaches no server, is told why', async (t) => {
  await t.rejects(readCluster(await server(t, {}), 'shop'), {
    code: 'AMB_KUBE_API',
    message: /nothing may be read/,
  })
  await t.rejects(readCluster(await server(t, {}, 503), undefined), { code: 'AMB_KUBE_API' })
})

void t.test('a kind that the cluster does not have is one of which there is nothing', async (t) => {
  const { known, refused } = await readCluster(await server(t, {}, 404), undefined)
  t.equal(known.get('Gateway'), 'all')
  t.equal(refused.size, 0)
})

void t.test('of files together with a cluster, only what they bring about is shown', async (t) => {
  const before = readFiles(
    file(t, `${SHOP}---${TYPO.replace('typo', 'old').replace('catalogue', 'other')}`),
    'default',
  )
  const cluster = { byKind: before.byKind, known: new Map(), refused: new Map() }
  const known = new Map(
    (['Pod', 'Namespace', 'ServiceAccount'] as const).map((kind) => [kind, 'all'] as const),
  )
  // Without this label nobody is in the mesh, and so the policies that are there already enforce nothing.
  const leaving = '---\napiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n'
  const files = readFiles(file(t, `${TYPO}${leaving}`), 'default')
  const now = analyze(objectsOf(before.byKind, known), OPTIONS)
  t.same(
    now.findings.map(({ object }) => refName(object)),
    ['shop/old'],
  )
  const then = analyze(withFiles({ ...cluster, known }, files), OPTIONS)
  const brought = broughtBy(files, now.findings, then.findings)
  t.same(
    brought.map(({ code, object, where }) => [code, refName(object), where?.replace(/.*:/, '')]),
    [
      ['AMB203', 'shop/frontend-only', undefined],
      ['AMB101', 'shop/typo', '5'],
      ['AMB203', 'shop/catalog', undefined],
    ],
  )
})

void t.test('files alone say nothing of what they have nothing of', (t) => {
  const alone = (text: string) =>
    analyze(filesAlone(readFiles(file(t, text), 'default')), OPTIONS).findings.map(
      ({ code }) => code,
    )
  t.same(alone(TYPO), [])
  t.same(alone(`${SHOP}---${TYPO}`), ['AMB101'])
  t.end()
})

void t.test('calls refused for want of an identity are one caller, however many', (t) => {
  const line = (port: number, object: string, audit = 'connection.denied') =>
    JSON.stringify({
      time: `2026-11-28T11:00:0${port % 10}.000Z`,
      audit,
      who: `10.1.0.9:${port}`,
      what: 'pod shop/catalog at 10.1.0.2:80',
      object,
    })
  const strict = 'PeerAuthentication shop/catalog'
  const lines = [line(1001, strict), line(1003, strict), line(1002, strict), 'no json']
  const others = [line(1, 'AuthorizationPolicy shop/x'), line(1, strict, 'connection.dryRun')]
  t.match(refusedCallers([...lines, ...others]), [
    { who: '10.1.0.9', calls: 3, last: '2026-11-28T11:00:03.000Z', object: { name: 'catalog' } },
  ])
  t.equal(refusedCallers([...lines, ...others]).length, 1)
  t.end()
})
