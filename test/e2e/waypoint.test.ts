// SPDX-License-Identifier: Apache-2.0
// A waypoint from the label to the wire, by what docs/waypoints.md prints: what is bound to one is refused until it is ready, then goes
// through it, split and led by HTTPRoutes, and the app sees its client as ever.

import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import t from 'tap'
import type { Lab } from '../../lab/cluster/index.ts'
import { missing } from '../helpers.ts'
import { meshLab, NEEDS, waitForCapture } from './support/mesh-lab.ts'
import { podAddress } from './support/pods.ts'
import {
  ambit,
  answers,
  asPrinted,
  CATALOG,
  ofV2,
  printed,
  SHOP,
  until as untilIn,
} from './support/waypoint-guide.ts'

/** Of as many, a tenth is 40; 6 standard deviations from there are 4 and 76. */
const CALLS = 400
const FEWEST = 4
const MOST = 76

/** The commands of waypoints that docs/commands.md prints, each with what it says. */
function transcript(): readonly { readonly words: readonly string[]; readonly lines: string }[] {
  const page = readFileSync(new URL('../../docs/commands.md', import.meta.url), 'utf8')
  const printed = page.matchAll(/^ {4}\$ ambit (waypoint .*)\n((?: {4}[^$\n].*\n)+)/gm)
  return [...printed].map(([, command = '', lines = '']) => ({
    words: command.replace(' --lab demo', '').split(' '),
    lines,
  }))
}

type Printed = ReturnType<typeof transcript>[number]

/** Printed for the end, when the waypoint goes. */
const isDeletion = ({ words }: Printed): boolean => words.includes('delete')

/** One address, or one of each family. */
const ADDRESSES = /\d+(?:\.\d+){3}(?:,[0-9a-f:]+)?/

/** Without the addresses, which each lab has of its own, and the widths of columns. */
function inShort(said: string): readonly string[] {
  return said
    .trim()
    .split('\n')
    .map((line) => line.trim().replace(ADDRESSES, 'IP').replace(/ +/g, ' '))
}

/** Whether calls are refused: the connection stands, as every captured one does, and ends without an answer. */
async function isRefused(lab: Lab): Promise<boolean> {
  const { code } = await lab.exec('shop/frontend', ['curl', '-s', '-m', '10', CATALOG])
  return code === 52 || code === 56
}

/** Of all that the waypoint consists of. */
const LABEL = 'gateway.networking.k8s.io/gateway-name=waypoint'

/** What a call of gRPC from the frontend came to. */
async function callPrices(
  lab: Lab,
  method: string,
): Promise<{ answer: string; code: number; details: string; version: readonly string[] }> {
  const app = ['node', 'test/e2e/programs/grpc-app.ts', 'call']
  const { stdout, stderr } = await lab.exec('shop/frontend', [
    ...app,
    'prices.shop:9000',
    `/shop.Prices/${method}`,
  ])
  if (stdout === '') throw new Error(`the client of gRPC said nothing: ${stderr}`)
  return JSON.parse(stdout) as Awaited<ReturnType<typeof callPrices>>
}

/** Two versions of an app of gRPC, a Service of both, and one of each. */
const PRICES = ['v1', 'v2']
  .map(
    (version) => `
apiVersion: v1
kind: Pod
metadata: { name: prices-${version}, namespace: shop, labels: { app: prices, version: ${version} } }
spec:
  nodeName: node-b
  serviceAccountName: catalog
  containers:
    - name: app
      image: host
      command: [node, test/e2e/programs/grpc-app.ts, serve, '9000', ${version}]
      readinessProbe: { tcpSocket: { port: 9000 }, periodSeconds: 1 }
---
apiVersion: v1
kind: Service
metadata: { name: prices-${version}, namespace: shop }
spec:
  selector: { app: prices, version: ${version} }
  ports: [{ name: grpc, port: 9000 }]
---`,
  )
  .concat(`
apiVersion: v1
kind: Service
metadata: { name: prices, namespace: shop }
spec:
  selector: { app: prices }
  ports: [{ name: grpc, port: 9000 }]
`)
  .join('')

await t.test('a namespace with a waypoint', { skip: missing(...NEEDS) }, async (t) => {
  const lab = await meshLab(t, [SHOP])
  const until = (what: string, holds: () => Promise<boolean>): Promise<void> =>
    untilIn(lab, what, holds)
  await asPrinted(lab, 'kubectl label namespace shop istio.io/dataplane-mode=ambient')
  await waitForCapture(lab, 'shop', true)
  t.equal((await answers(lab, 1)).length, 1, 'it answers without a waypoint')

  await t.test('is out of reach while its waypoint is not there', async (t) => {
    await lab.kubectl('label', 'namespace', 'shop', 'istio.io/use-waypoint=waypoint')
    await until('calls to be refused', () => isRefused(lab))
    t.pass('bound means enforced')
  })

  await t.test('goes through it as soon as it is ready', async (t) => {
    const said = await asPrinted(lab, 'ambit waypoint apply -n shop --enroll-namespace --wait')
    t.match(said, /shop\/waypoint is ready/)
    await until('calls to be served', async () => !(await isRefused(lab)))
    const own = [
      await podAddress(lab, 'shop/frontend', 4),
      await podAddress(lab, 'shop/frontend', 6),
    ]
    for (const { client } of await answers(lab, 10)) t.ok(own.includes(client), `it saw ${client}`)
  })

  await t.test('is told of by its commands in the words of docs/commands.md', async (t) => {
    const told = transcript().filter((each) => !isDeletion(each))
    t.ok(told.length >= 2, `${told.length} commands are printed with what they say`)
    for (const { words, lines } of told)
      t.strictSame(inShort(await ambit(lab, ...words)), inShort(lines), words.join(' '))
  })

  await t.test('gives a tenth of the calls to v2 by the weights of a route', async (t) => {
    await lab.apply(printed('versions'))
    await lab.apply(printed('green'))
    await until('v2 to have all calls', async () => ofV2(await answers(lab, 20)) === 20)
    await lab.apply(printed('canary'))
    await until('v2 to have fewer', async () => ofV2(await answers(lab, 20)) < 10)
    const seen = ofV2(await answers(lab, CALLS))
    t.comment(`${seen} of ${CALLS} calls were answered by v2`)
    t.ok(seen > FEWEST && seen < MOST, `${seen} of ${CALLS}`)
  })

  await t.test('leads a user by a header', async (t) => {
    await lab.apply(printed('by-header'))
    const tester = ['-H', 'x-user: tester']
    await until('the tester to be led', async () => ofV2(await answers(lab, 20, ...tester)) === 20)
    t.equal(ofV2(await answers(lab, 20)), 0, 'nobody else is')
    t.equal(ofV2(await answers(lab, 20, '-H', 'x-user: another')), 0)
    const status = await asPrinted(lab, 'ambit waypoint status -n shop')
    t.match(status, /shop +waypoint +True +Programmed/)
  })

  await t.test('leads calls of gRPC by their method, and counts their status', async (t) => {
    await lab.apply(PRICES)
    await lab.apply(printed('prices'))
    await until('both versions to be there', async () => {
      const quoted = await callPrices(lab, 'Quote')
      return quoted.answer === 'v2' && (await callPrices(lab, 'Haggle')).code === 9
    })
    t.match(await callPrices(lab, 'Quote'), { answer: 'v2', code: 0, version: ['v2'] }, 'trailers')
    t.match(await callPrices(lab, 'Haggle'), { code: 9, details: 'v1 does not haggle' })
    t.match(await callPrices(lab, 'Unknown'), { code: 12 })
    const log = await lab.kubectl('logs', '-n', 'shop', '-l', LABEL, '--tail', '20')
    const haggled = log.split('\n').find((line) => line.includes('"path":"/shop.Prices/Haggle"'))
    t.match(JSON.parse(haggled ?? '{}'), {
      protocol: 'HTTP/2',
      route: /^shop\/prices\//,
      grpc_status: 9,
    })
  })

  await t.test('gives a share of the connections to another waypoint, and then all', async (t) => {
    await asPrinted(lab, 'ambit waypoint apply -n shop --name waypoint-next --wait')
    /** Calls, each over a connection of its own; gives what their path has in common. */
    const callEach = async (calls: number): Promise<string> => {
      const mark = `canary-${randomUUID()}`
      const url = `${CATALOG}${mark}?[1-${calls}]`
      const curl = ['curl', '-sS', '--fail-early', '-f', '-m', '20', '-H', 'connection: close', url]
      t.match(await lab.exec('shop/frontend', curl), { code: 0 }, `none of ${calls} calls failed`)
      return mark
    }
    /** How many of them went by each waypoint, as their access lines say. */
    const bySide = async (calls: number): Promise<{ old: number; next: number }> => {
      const mark = await callEach(calls)
      const count = async (name: string): Promise<number> => {
        const pods = ['logs', '-n', 'shop', '-l', `gateway.networking.k8s.io/gateway-name=${name}`]
        const log = await lab.kubectl(...pods, '--tail', '-1')
        return log.split(mark).length - 1
      }
      return await lab.waitFor(`${calls} lines of the waypoints`, async () => {
        const [old, next] = [await count('waypoint'), await count('waypoint-next')]
        return old + next === calls ? { old, next } : undefined
      })
    }
    const condition = async (): Promise<string> =>
      await lab.kubectl('get', 'service', '-n', 'shop', 'catalog', '-o', 'jsonpath={.status}')
    await asPrinted(
      lab,
      'kubectl label service -n shop catalog istio.io/use-waypoint-canary=waypoint-next',
    )
    await until('it to be known', async () => /0 of 100 connections/.test(await condition()))
    t.strictSame(await bySide(40), { old: 40, next: 0 }, 'it takes nothing before it may')
    await asPrinted(
      lab,
      'kubectl annotate service -n shop catalog istio.io/use-waypoint-canary-weight=20',
    )
    await until('it to have some', async () => (await bySide(20)).next > 0)
    // Of as many, a fifth is 40; 6 standard deviations from there are 6 and 74.
    const { next } = await bySide(200)
    t.comment(`${next} of 200 connections went by the canary`)
    t.ok(next > 6 && next < 74, `${next} of 200`)
    const why = await ambit(lab, 'why', 'shop/frontend', 'catalog.shop')
    t.match(why, /of 100 connections go 80 by shop\/waypoint, 20 by shop\/waypoint-next/)

    await ambit(lab, 'waypoint', 'delete', '-n', 'shop', 'waypoint-next')
    // Those during which it goes are among them.
    await until('it to be told of', async () => {
      await callEach(20)
      return /its canary is not used.*WaypointMissing/.test(await condition())
    })
    t.strictSame(await bySide(40), { old: 40, next: 0 }, 'what it cannot take the other does')
    await ambit(lab, 'waypoint', 'apply', '-n', 'shop', '--name', 'waypoint-next', '--wait')
    await until('it to have some again', async () => (await bySide(20)).next > 0)
    await asPrinted(
      lab,
      'kubectl label service -n shop catalog istio.io/use-waypoint=waypoint-next --overwrite',
    )
    await asPrinted(lab, 'kubectl label service -n shop catalog istio.io/use-waypoint-canary-')
    await until('all to go by it', async () => (await bySide(20)).next === 20)
    await lab.kubectl('label', 'service', '-n', 'shop', 'catalog', 'istio.io/use-waypoint-')
    await ambit(lab, 'waypoint', 'delete', '-n', 'shop', 'waypoint-next')
    await until('all to be as before', async () => (await bySide(20)).old === 20)
  })

  await t.test('is out of reach again once the waypoint is gone, and leaves nothing', async (t) => {
    const deletions = transcript().filter(isDeletion)
    t.equal(deletions.length, 1, 'docs/commands.md prints it')
    for (const { words, lines } of deletions)
      t.strictSame(inShort(await ambit(lab, ...words)), inShort(lines), words.join(' '))
    await until('calls to be refused', () => isRefused(lab))
    await until('its objects to go with it', async () => {
      const left = await lab.kubectl(
        ...['get', 'deployments,services,pods,serviceaccounts', '-n', 'shop', '-o', 'name'],
        ...['-l', LABEL],
      )
      return left === ''
    })
    t.pass('nothing is left of it')
  })
})
