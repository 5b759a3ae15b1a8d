// SPDX-License-Identifier: Apache-2.0
// Who may ask what of a shop behind a waypoint, by what docs/waypoints.md prints, with curl in its pods: methods, paths however they are
// written, headers, and the client behind the waypoint; and how soon a change counts.

import t from 'tap'
import type { Lab } from '../../lab/cluster/index.ts'
import { missing } from '../helpers.ts'
import { meshLab, NEEDS, waitForCapture } from './support/mesh-lab.ts'
import {
  ambit,
  asPrinted,
  CATALOG,
  printed,
  SHOP,
  tryAmbit,
  until,
} from './support/waypoint-guide.ts'

const ENFORCED = 'kubectl wait -n shop authorizationpolicy/no-admin --for=condition=Enforced'

/** The status that a pod's curl is told, and with a refusal its body. */
async function told(lab: Lab, pod: string, path: string, ...flags: string[]): Promise<string> {
  const curl = ['curl', '-s', '-m', '20', '--path-as-is', '-w', '\n%{http_code}', ...flags]
  const { code, stdout, stderr } = await lab.exec(pod, [...curl, `${CATALOG}${path}`])
  if (code !== 0) throw new Error(`curl ends with ${code}: ${stderr}`)
  const lines = stdout.split('\n')
  const status = lines.at(-1) ?? ''
  return status === '403' ? `403 ${lines.slice(0, -1).join('\n')}` : status
}

const DENIED = '403 RBAC: access denied'
const FRONTEND = 'shop/frontend'

/** By requests that only the headers let through. */
const BY_HEADER = `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: no-admin, namespace: shop }
spec:
  targetRefs: [{ group: "", kind: Service, name: catalog }]
  action: DENY
  rules:
    - when: [{ key: "request.headers[x-user]", notValues: [ann] }]
`

const ROUTE = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: catalog, namespace: shop }
spec:
  parentRefs: [{ group: "", kind: Service, name: catalog }]
  rules:
    - name: all
      backendRefs: [{ name: catalog, port: 80 }]
`

await t.test('a shop behind a waypoint', { skip: missing(...NEEDS) }, async (t) => {
  const lab = await meshLab(t, [SHOP])
  await asPrinted(lab, 'kubectl label namespace shop istio.io/dataplane-mode=ambient')
  await waitForCapture(lab, 'shop', true)
  await asPrinted(lab, 'ambit waypoint apply -n shop --enroll-namespace --wait')
  await until(lab, 'calls to be served', async () => (await told(lab, FRONTEND, '')) === '200')
  await lab.apply(printed('deny-by-path'))
  await asPrinted(lab, ENFORCED)
  await lab.kubectl(
    ...['wait', '-n', 'shop', 'authorizationpolicy/frontend-reads', '--for=condition=Enforced'],
  )

  await t.test('keeps a path closed, however it is written', async (t) => {
    for (const path of [
      'admin',
      'admin/x',
      './admin',
      'x/../admin',
      '%61dmin',
      'x/%2e%2e/admin',
      'admin?x',
    ])
      t.equal(await told(lab, FRONTEND, path), DENIED, path)
    for (const path of ['', 'Admin', '/admin', 'administrator'])
      t.equal(await told(lab, FRONTEND, path), '200', `/${path} is another path`)
    const seen = lab.log('shop/catalog-v1') + lab.log('shop/catalog-v2')
    t.notMatch(seen, /GET \/admin[ /]/, 'no server has seen one')
  })

  await t.test('lets the frontend read and nobody else', async (t) => {
    t.equal(await told(lab, FRONTEND, '', '-I', '-o', '/dev/null'), '200')
    t.equal(await told(lab, FRONTEND, '', '-X', 'DELETE'), DENIED)
    t.equal(await told(lab, FRONTEND, '', '-d', 'x=1'), DENIED, 'POST')
    t.equal(
      await told(lab, 'shop/catalog-v1', ''),
      DENIED,
      'another client, through the same waypoint',
    )
  })

  await t.test('tells who was refused what, by which rule', async (t) => {
    const lines = (await asPrinted(lab, 'ambit audit --namespace shop')).split('\n')
    const find = (...parts: readonly string[]): string | undefined =>
      lines.find((line) => parts.every((part) => line.includes(part)))
    const client = 'spiffe://cluster.local/ns/shop/sa/frontend'
    t.ok(
      find(
        'request.denied',
        client,
        'GET catalog.shop/admin',
        '[AuthorizationPolicy shop/no-admin rules[0]]',
      ),
    )
    t.ok(find('request.denied', client, 'DELETE catalog.shop/', 'frontend-reads'))
    t.ok(
      find(
        'request.denied',
        'sa/catalog',
        'allow policies exist, but none allowed: shop/frontend-reads',
      ),
    )
    const status = await lab.kubectl(
      ...[
        'get',
        '-n',
        'shop',
        'authorizationpolicy',
        'no-admin',
        '-o',
        'jsonpath={.status.conditions}',
      ],
    )
    t.match(status, /bound to shop\/waypoint/)
    t.match(status, /in force for 1 of 1 waypoint/)
  })

  await t.test('why agrees with curl', async (t) => {
    await lab.apply(ROUTE)
    await lab.kubectl(
      ...['wait', '-n', 'shop', 'httproute/catalog', '--timeout=120s'],
      '--for=jsonpath={.status.parents[0].conditions[?(@.type=="ResolvedWaypoints")].status}=True',
    )
    const asked = ['why', 'shop/frontend', 'shop/catalog:80']
    t.equal(await told(lab, FRONTEND, 'admin/x'), DENIED)
    const refused = await tryAmbit(lab, ...asked, '--path', '/admin/x')
    t.equal(refused.code, 1)
    t.match(refused.stdout, /answers GET \/admin\/x with 403: explicitly denied by: shop\/no-admin/)
    t.match(refused.stdout, /decided by AuthorizationPolicy shop\/no-admin rule 0/)
    await until(lab, 'the route to count', async () =>
      (await tryAmbit(lab, ...asked)).stdout.includes('HTTPRoute shop/catalog rule all takes'),
    )
    t.equal(await told(lab, FRONTEND, 'menu'), '200')
    const served = await tryAmbit(lab, ...asked, '--path', '/menu')
    t.equal(served.code, 0, served.stdout)
    t.match(served.stdout, /HTTPRoute shop\/catalog rule all takes GET \/menu/)
    await lab.kubectl('delete', '-n', 'shop', 'httproute', 'catalog')
  })

  await t.test('takes a change at once, by headers as well', async (t) => {
    await lab.apply(BY_HEADER)
    await until(
      lab,
      'the header to be asked for',
      async () => (await told(lab, FRONTEND, '')) === DENIED,
    )
    t.equal(await told(lab, FRONTEND, '', '-H', 'X-User: ann'), '200')
    t.equal(await told(lab, FRONTEND, '', '-H', 'X-User: bob'), DENIED)
    await lab.kubectl('delete', '-n', 'shop', 'authorizationpolicy', 'no-admin')
    await until(
      lab,
      'nothing to be asked for',
      async () => (await told(lab, FRONTEND, '')) === '200',
    )
    t.equal(await told(lab, FRONTEND, 'admin'), '200')
    await lab.kubectl('delete', '-n', 'shop', 'authorizationpolicy', 'frontend-reads')
    await until(
      lab,
      'everybody to be let in',
      async () => (await told(lab, 'shop/catalog-v1', '')) === '200',
    )
    t.match(
      await ambit(lab, 'audit', '--namespace', 'shop'),
      /request\.denied/,
      'what was is on record',
    )
  })
})
